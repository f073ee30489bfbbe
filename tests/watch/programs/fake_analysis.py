"""Stands in for the analysing process: makes a result from templates, in milliseconds.

Arguments: folder of the templates, behaviour. A study UID and new UIDs are put into the templates by
replacing bytes, so this imports nothing that takes time.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import uuid
from pathlib import Path

TEMPLATES, BEHAVIOUR = Path(sys.argv[1]), sys.argv[2]
STUDY_UID = re.compile(rb"\x20\x00\x0d\x00UI..([0-9.]+)", re.DOTALL)
SOP_UID = re.compile(rb"\x08\x00\x18\x00UI..([0-9.]+)", re.DOTALL)
OLD = {name: f"2.25.{digit * 39}".encode() for name, digit in (("study", "1"), ("series", "2"), ("sop", "3"))}
PREDECESSOR = f"2.25.{'4' * 39}".encode()


def tell(kind: str, **fields: object) -> None:
    line = json.dumps({"kind": kind, **fields}) + "\n"
    os.write(int(os.environ["FRACTURE_MAP_MESSAGES_FD"]), line.encode())


def new_uid() -> bytes:
    return f"2.25.{uuid.uuid4().int % 10**39:039d}".encode().replace(b"2.25.0", b"2.25.9")


def made(name: str, study: bytes, previous: str | None = None) -> bytes:
    data = (TEMPLATES / f"{name}{'-again' if previous else ''}.dcm").read_bytes()
    for key, value in (("study", study), ("series", new_uid()), ("sop", new_uid())):
        data = data.replace(OLD[key], value)
    if previous:
        found = SOP_UID.search(Path(previous).read_bytes())
        assert found is not None
        data = data.replace(PREDECESSOR, found[1])
    return data


def main() -> int:
    request = json.loads(sys.stdin.read())
    images = sorted(Path(request["input"]).iterdir())
    found = STUDY_UID.search(images[0].read_bytes())
    assert found is not None
    study = found[1]
    if BEHAVIOUR == "gap" and len(images) < 5:
        tell("FailedMessage", exit_code=4, sentence="A slice is missing: the gap is 5.0 mm; send it again.")
        return 4
    tell("StudyMessage", study_uid=study.decode(), left_out=[], warnings=[])
    if BEHAVIOUR == "slow":
        time.sleep(0.2)
    if BEHAVIOUR == "crash":
        os._exit(7)
    staging = Path(request["staging"])
    (staging / "segmentation.seg.dcm").write_bytes(made("seg", study))
    (staging / "report.sr.dcm").write_bytes(made("sr", study, request["previous"]))
    findings = {
        "software": {"name": "fake", "version": "0"},
        "study_instance_uid": study.decode(),
        "outcome": "complete_no_findings",
        "overall": {"probability": 0.25, "decision": "absent"},
        "models": [],
    }
    (staging / "findings.json").write_text(json.dumps(findings))
    tell("DoneMessage", device="cpu", exit_code=0, sentence=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
