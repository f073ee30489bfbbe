"""Fractures of the cervical spine (C1-C7) on CT: the library behind Fracture Map.

The flow, each arrow one value of a type defined here::

    files -> CtSeries -> ModelGrids -> SpineMask -> VertebraCrops -> StudyFindings -> SEG, SR, report
"""

__version__ = "0.1.0"
