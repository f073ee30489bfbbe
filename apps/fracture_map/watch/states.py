"""The states of a study that is watched, and the errors that tell its steps apart."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cspine.errors import InputError, OutputError


class State(StrEnum):
    """What is to be done with a study next; who does it now is said by its claim."""

    ARRIVING = "arriving"
    """Images came within the quiet period."""
    READY = "ready"
    """Quiet; to be analysed, at its next try."""
    INCOMPLETE = "incomplete"
    """Quiet, but its images do not form a volume: waits for more, and is then reported as it is."""
    STORING = "storing"
    """Its result is recorded; to be sent to the PACS."""
    DONE = "done"
    """Its current result is in the PACS."""
    DEAD = "dead"
    """Given up, for the reason that is recorded; a person decides."""
    SKIPPED = "skipped"
    """The rules do not want it, or it is no longer in the PACS."""


class ResultState(StrEnum):
    """Where a result is."""

    STORING = "storing"
    """Recorded; the PACS may have some of it."""
    CURRENT = "current"
    """In the PACS, and what counts."""
    SUPERSEDED = "superseded"
    """In the PACS; a later one names it as its predecessor."""


WORK: Final = (State.READY, State.INCOMPLETE, State.STORING)
"""States in which a worker has something to do."""


class PacsError(InputError):
    """The PACS answered with something that cannot be used."""


class PacsAwayError(PacsError):
    """The PACS does not answer; nothing is wrong with the study at hand."""


class PacsRefusedError(OutputError):
    """The PACS did not take a result."""


class ClaimLostError(OutputError):
    """Another worker has taken the study over; what this one has done with it no longer counts."""

    def __init__(self) -> None:
        super().__init__("Another worker has taken this study over; lease_s must be longer than any pause.")
