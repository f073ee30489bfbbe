"""run.json: how a run went, for those who operate it. It holds no UID and nothing else about the patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from cspine.errors import CspineError
from fracture_map import names
from fracture_map.messages import DoneMessage, Message, StageMessage, StudyMessage
from fracture_map.publish import sha256_of


@dataclass
class Account:
    """Gathers what run.json says while the run goes on.

    Attributes:
        asked_device, timeout_s: as the caller gave them.
        study: what the analysing process said of the study.
        device: that the networks ran on; None until that is known.
        seconds: by stage, of the stages that ended.
    """

    asked_device: str
    timeout_s: float
    begin: float = field(default_factory=perf_counter)
    study: StudyMessage = field(default_factory=lambda: StudyMessage(""))
    device: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, message: Message) -> None:
        """Take what a message says."""
        if isinstance(message, StageMessage) and message.seconds is not None:
            self.seconds[message.name] = round(message.seconds, 3)
        elif isinstance(message, StudyMessage):
            self.study = message
        elif isinstance(message, DoneMessage):
            self.device = message.device

    def encode(self, staged: Mapping[str, Path], error: CspineError | None) -> bytes:
        """run.json.

        Args:
            staged: the other files of the result, findings.json among them.
            error: what stopped the run; None when it was done.
        """
        findings = json.loads(staged[names.FINDINGS].read_bytes())
        uid = self.study.study_uid or findings["study_instance_uid"]
        others = {name: path for name, path in sorted(staged.items()) if name != names.RUN}
        document = {
            "software": findings["software"],
            "exit_code": error.exit_code if error else 0,
            "error": str(error) if error else None,
            "outcome": findings["outcome"],
            "study_sha256": hashlib.sha256(uid.encode()).hexdigest() if uid else None,
            "arguments": {"device": self.asked_device, "timeout_s": self.timeout_s},
            "device": self.device,
            "models": findings["models"],
            "left_out": [{"count": count, "reason": reason} for count, reason in self.study.left_out],
            "warnings": list(self.study.warnings),
            "seconds": {**self.seconds, "total": round(perf_counter() - self.begin, 3)},
            "files": {name: {"sha256": sha256_of(path)} for name, path in others.items()},
        }
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
