"""What the label server answers with: the errors of `cspine.errors`, each with its HTTP status.

A message is one sentence for the annotator. It may repeat what the client itself sent (an id, a name), but no
name, identifier or date of birth of a patient.
"""

from __future__ import annotations

from typing import ClassVar, Final

from cspine.errors import CspineError, InputError, NoUsableSeriesError, OutputError, UsageError


class UnknownNameError(UsageError):
    """A case, model, strategy or candidate that is not there."""

    status: ClassVar[int] = 404


class ConflictError(UsageError):
    """What was asked cannot be done in the present state: a training runs already, nothing was annotated."""

    status: ClassVar[int] = 409


class RefusedLabelError(InputError):
    """A label that cannot be what the annotator meant: another size, values that are no level, nothing."""

    status: ClassVar[int] = 422


class NotAllowedError(UsageError):
    """Without, or beyond, the rights of a user."""

    status: ClassVar[int] = 403


class PacsError(OutputError):
    """The PACS does not answer, or not as DICOMweb asks; asking again later may help."""

    status: ClassVar[int] = 503


_STATUS: Final[dict[type[CspineError], int]] = {UsageError: 400, InputError: 422, NoUsableSeriesError: 422}


def status_of(error: CspineError) -> int:
    """The HTTP status that stands for `error`; a defect of the server or its models is a 500."""
    own: int | None = getattr(error, "status", None)
    if own is not None:
        return own
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
