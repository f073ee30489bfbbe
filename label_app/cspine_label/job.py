"""What a training is asked to do, and how far it is: files that server and training share.

::

    candidates/NAME/job.json          what to do; written by the server
    candidates/NAME/progress.json     how far it is; written by the training
    candidates/NAME/log.txt           what it said
    candidates/NAME/evaluation.json   written last: the candidate is whole
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cspine.errors import CspineError
from cspine.whole_files import write_json
from cspine_label.errors import RefusedLabelError

JOB: Final = "job.json"
PROGRESS: Final = "progress.json"
LOG: Final = "log.txt"
EVALUATION: Final = "evaluation.json"

NICENESS: Final = 5
"""Of the process: annotators go first."""
_VALIDATION_ONE_IN: Final = 5
_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "steps": (1, 100_000),
    "minutes": (0.01, 2880),
    "phantoms": (0, 1000),
    "validation_phantoms": (0, 200),
    "seed": (0, 2**31 - 1),
}


def is_validation(case_id: str) -> bool:
    """Whether a case belongs to the validation set, one in five: decided by its id, so for ever."""
    return int(hashlib.sha256(case_id.encode()).hexdigest()[:8], 16) % _VALIDATION_ONE_IN == 0


@dataclass(frozen=True)
class TrainingPlan:
    """What a client may choose.

    Attributes:
        steps: optimizer steps at most.
        minutes: wall-clock minutes at most.
        phantoms: synthetic necks among the training samples, so that nothing is forgotten.
        validation_phantoms: synthetic necks in the validation set, always the same ones.
        seed: of everything random.
        device: "auto", "cpu" or "cuda".
    """

    steps: int = 400
    minutes: float = 60.0
    phantoms: int = 12
    validation_phantoms: int = 8
    seed: int = 0
    device: str = "auto"

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> TrainingPlan:
        """From a client's parameters; those that are not of a training are left alone.

        Raises:
            RefusedLabelError: a value that is no number, or out of bounds.
        """
        chosen: dict[str, Any] = {}
        for name, (low, high) in _LIMITS.items():
            if params.get(name) is None:
                continue
            try:
                value = float(params[name])
            except (TypeError, ValueError):
                raise RefusedLabelError(
                    f"The training's '{name}' is a number, not '{params[name]}'."
                ) from None
            if not low <= value <= high:
                raise RefusedLabelError(f"The training's '{name}' lies from {low:g} to {high:g}.")
            chosen[name] = value if name == "minutes" else int(value)
        device = params.get("device")
        if isinstance(device, str) and device:
            chosen["device"] = device
        return cls(**chosen)


@dataclass(frozen=True)
class LabelledFile:
    """A case with its final label, as files.

    Attributes:
        case_id: its id.
        image: NIfTI file or folder of DICOM files.
        label: NIfTI file on the image's grid.
        fractures: what a person said, in the format of `fractures`.
    """

    case_id: str
    image: str
    label: str
    fractures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What one training does.

    Attributes:
        model: name of the bundle.
        reference: folder of the bundles in use: where the weights start from and what they are compared with.
        plan: what the client chose.
        training, validation: the labelled cases.
    """

    model: str
    reference: str
    plan: TrainingPlan
    training: Sequence[LabelledFile]
    validation: Sequence[LabelledFile]

    def write(self, folder: Path) -> None:
        """Keep it in the folder of a candidate."""
        write_json(folder / JOB, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read it back."""
        content = json.loads((folder / JOB).read_text("utf-8"))
        return cls(
            content["model"],
            content["reference"],
            TrainingPlan(**content["plan"]),
            [LabelledFile(**item) for item in content["training"]],
            [LabelledFile(**item) for item in content["validation"]],
        )


def as_process(do: Callable[[Path], None], folder: Path) -> int:
    """Do the job of a candidate's folder as the whole work of this process; returns its exit code.

    It gives way to annotators, says in one sentence why it fails, and ends when the server is gone.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.nice(NICENESS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        do(folder)
    except CspineError as error:
        logging.getLogger(__name__).error("%s", error)
        return error.exit_code
    return 0


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(3)
