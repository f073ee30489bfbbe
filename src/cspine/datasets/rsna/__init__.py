"""RSNA 2022 (cervical spine fracture detection) as training data, from the folder that the contest offered.

::

    data = RsnaData.open(Path("rsna-2022-cervical-spine-fracture-detection"))
    for study in data.studies:          # nothing but the tables has been read so far
        ct = study.read()               # the CT of this study, its fracture boxes and its mask

`prepare` goes through the studies one by one and keeps compact samples for training; `folds` deals them out.
"""
