"""What the watching process asks of the analysing one, and what that tells back, one JSON line a message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

MESSAGES_FD: Final = "FRACTURE_MAP_MESSAGES_FD"
"""Environment variable of the analysing process: the file descriptor that its messages go to."""


@dataclass(frozen=True)
class Request:
    """One study to analyse.

    Attributes:
        input: folder, zip or DICOMDIR.
        staging: an empty folder for the results.
        models: folder of the bundles.
        device: "auto", "cpu" or "cuda".
        previous: the report that will be replaced; None for a first run.
        also: of `names.ALSO`, what is written beside the SR.
    """

    input: str
    staging: str
    models: str
    device: str
    previous: str | None = None
    also: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As the child gets it on its standard input."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """As the watching process gave it."""
        fields = json.loads(text)
        return cls(**{**fields, "also": tuple(fields["also"])})


@dataclass(frozen=True)
class StageMessage:
    """A stage began (seconds is None) or ended."""

    name: str
    seconds: float | None = None


@dataclass(frozen=True)
class StudyMessage:
    """The study was read.

    Attributes:
        study_uid: of the CT; stays between the two processes.
        left_out: count and reason of what was not used.
        warnings: about the series.
    """

    study_uid: str
    left_out: tuple[tuple[int, str], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DoneMessage:
    """All files are in the staging folder.

    Attributes:
        device: that the networks ran on.
        exit_code, sentence: 0 and None, or what the result means for the caller (nothing to analyse).
    """

    device: str
    exit_code: int = 0
    sentence: str | None = None


@dataclass(frozen=True)
class FailedMessage:
    """A stage failed; the staging folder holds nothing of use."""

    exit_code: int
    sentence: str


Message = StageMessage | StudyMessage | DoneMessage | FailedMessage
_KINDS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind for kind in (StageMessage, StudyMessage, DoneMessage, FailedMessage)
}


def encode(message: Message) -> bytes:
    """One line."""
    return (json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n").encode()


def decode(line: bytes) -> Message:
    """The message of one line.

    Raises:
        ValueError: it is none.
    """
    try:
        fields = json.loads(line)
        if "left_out" in fields:
            fields["left_out"] = tuple((int(count), str(reason)) for count, reason in fields["left_out"])
            fields["warnings"] = tuple(fields["warnings"])
        message: Message = _KINDS[fields.pop("kind")](**fields)
        return message
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no message: {type(error).__name__}") from None
