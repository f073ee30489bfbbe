"""Stands in for the analysing process: leaves files without networks, or fails in some way.

The first argument says how it behaves.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cspine.anatomy import CERVICAL
from cspine.errors import InputError, ModelError
from cspine.findings import Decision, Overall, StudyFindings, VertebraFinding
from cspine.volume import Visibility
from fracture_map import child, names
from fracture_map.messages import MESSAGES_FD, DoneMessage, Request, StageMessage, StudyMessage
from fracture_map.summary import encode_findings

BEHAVIOUR = sys.argv[1]
STUDY_UID = sys.argv[2]
PHI = "Doe^Jane"
Behaviour = Callable[[Path, child.Tell], object]


def findings(warnings: tuple[str, ...] = ()) -> StudyFindings:
    box = ((0.0, 1.0, 2.0), (10.0, 11.0, 12.0))
    levels = tuple(
        VertebraFinding(
            v, Visibility.COMPLETE, 0.125, Decision.ABSENT, None, box, (5.0, 6.0, 7.0), 3, "1.2.3"
        )
        for v in CERVICAL
    )
    return StudyFindings(STUDY_UID, "1.2.9", Overall(0.25, Decision.ABSENT), levels, warnings=warnings)


def leave(staging: Path, result: StudyFindings, *, segmentation: bool = True) -> None:
    files = {names.REPORT: b"SR", names.PAGE_PDF: b"%PDF", names.PAGE_PNG: b"PNG"}
    if segmentation:
        files[names.SEGMENTATION] = b"SEG"
    for name, data in files.items():
        (staging / name).write_bytes(data + os.urandom(8))
    (staging / names.FINDINGS).write_bytes(encode_findings(result))


def analyse(request: Request, tell: child.Tell) -> None:
    staging = Path(request.staging)
    tell(StageMessage("read"))
    tell(StudyMessage(STUDY_UID, ((2, "They are localizers."),), ("The slices are thick.",)))
    tell(StageMessage("read", 0.25))
    for stream in (sys.stdout, sys.stderr):
        stream.write(PHI)
        stream.flush()
    BEHAVIOURS[BEHAVIOUR](staging, tell)


def done(staging: Path, tell: child.Tell) -> None:
    leave(staging, findings(("The slices are thick.",)))
    tell(DoneMessage("cpu"))


def no_segmentation(staging: Path, tell: child.Tell) -> None:
    leave(staging, findings(), segmentation=False)
    tell(DoneMessage("cpu"))


def no_spine(staging: Path, tell: child.Tell) -> None:
    failed = StudyFindings.failed("No cervical vertebra was found.", STUDY_UID)
    leave(staging, failed, segmentation=False)
    tell(DoneMessage("cpu", 3, "No cervical vertebra was found."))


def fail_with(error: Exception) -> Behaviour:
    def fail(staging: Path, tell: child.Tell) -> None:
        leave(staging, findings())
        raise error

    return fail


def hang(staging: Path, tell: child.Tell) -> None:
    leave(staging, findings())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(StageMessage("segment"))
    if ready := os.environ.get("FAKE_READY"):
        Path(ready).write_bytes(b".")
    time.sleep(600)


def fork(staging: Path, tell: child.Tell) -> None:
    os.fork()
    time.sleep(600)


BEHAVIOURS: dict[str, Behaviour] = {
    "done": done,
    "no-segmentation": no_segmentation,
    "no-spine": no_spine,
    "silent": lambda staging, tell: leave(staging, findings()),
    "input-error": fail_with(InputError("A slice is truncated; send the study again.")),
    "model-error": fail_with(ModelError("Bundle x: the weights are missing.")),
    "defect": fail_with(KeyError(PHI)),
    "segfault": lambda staging, tell: ctypes.string_at(0),
    "killed": lambda staging, tell: os.kill(os.getpid(), signal.SIGKILL),
    "abort": lambda staging, tell: os.abort(),
    "hang": hang,
    "grandchild": fork,
    "exit-3-without-a-word": lambda staging, tell: os._exit(3),
    "babble": lambda staging, tell: os.write(int(os.environ[MESSAGES_FD]), b"not json\n"),
}


if __name__ == "__main__":
    sys.exit(child.main(analyse))
