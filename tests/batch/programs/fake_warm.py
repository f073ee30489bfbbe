"""Stands in for the warm analysing process: really reads the images, then makes up what it found.

A file in the study says how to behave: CRASH, HANG, or KILL_PARENT, which ends the process that asked, once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from cspine.anatomy import CERVICAL
from cspine.dicom import read_ct
from cspine.findings import Decision, Overall, StudyFindings, VertebraFinding
from cspine.volume import Visibility
from fracture_map import names
from fracture_map.batch import warm_child
from fracture_map.child import Tell
from fracture_map.messages import DoneMessage, Request, StudyMessage
from fracture_map.summary import encode_findings

BOX = ((0.0, 1.0, 2.0), (10.0, 11.0, 12.0))


def misbehave(source: Path) -> None:
    if (source / "CRASH").exists():
        ctypes.string_at(0)
    if (source / "HANG").exists():
        time.sleep(3600)
    if (source / "KILL_PARENT").exists():
        (source / "KILL_PARENT").unlink()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3600)


def analyse(request: Request, tell: Tell) -> None:
    source, staging = Path(request.input), Path(request.staging)
    misbehave(source)
    series = read_ct(source)
    tell(StudyMessage(series.study_uid))
    levels = tuple(
        VertebraFinding(v, Visibility.COMPLETE, 0.125, Decision.ABSENT, None, BOX, (5.0, 6.0, 7.0), 1, "1.2")
        for v in CERVICAL
    )
    found = StudyFindings(series.study_uid, series.series_uid, Overall(0.25, Decision.ABSENT), levels)
    for name in (names.REPORT, names.SEGMENTATION, names.PAGE_PDF, names.PAGE_PNG):
        (staging / name).write_bytes(b"fake")
    (staging / names.FINDINGS).write_bytes(encode_findings(found))
    tell(DoneMessage(f"process {os.getpid()}"))


if __name__ == "__main__":
    code = warm_child.main(analyse)
    sys.stderr.flush()
    os._exit(code)
