"""What the label server works on: cases, their images, and where both come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cspine.volume import Volume

if TYPE_CHECKING:
    from cspine.dicom.series import CtSeries

FINAL = "final"
"""Tag of labels that a person has finished; what is trained on."""
ORIGINAL = "original"
"""Tag of labels as a network proposed them."""
TAGS = (FINAL, ORIGINAL)


@dataclass(frozen=True, eq=False)
class CaseImage:
    """The image of one case.

    Attributes:
        case_id: as the clients name it.
        volume: the CT; labels lie on its grid.
        series: the DICOM series that it comes from; None for a NIfTI file.
    """

    case_id: str
    volume: Volume
    series: CtSeries | None


class Images(Protocol):
    """Where images come from: a local folder, or a PACS."""

    name: str
    """Shown to annotators."""

    def cases(self) -> tuple[str, ...]:
        """Ids of all cases, in a fixed order.

        Raises:
            PacsError: the PACS does not answer.
        """
        ...

    def read(self, case_id: str) -> CaseImage:
        """The image of a case.

        Raises:
            UnknownNameError: there is no such case.
            InputError, NoUsableSeriesError: it cannot be analysed, and why.
            PacsError: the PACS does not answer.
        """
        ...

    def path(self, case_id: str) -> Path:
        """The NIfTI file, or the folder of DICOM files, of a case; fetched where it is not here yet."""
        ...

    def info(self, case_id: str) -> Mapping[str, Any]:
        """What clients are told of a case beside its id."""
        ...

    def add(self, case_id: str, file: Path) -> str:
        """Add an image; returns its id.

        Raises:
            ConflictError: there is a case of that id, or images cannot be added here.
            InputError: the file is no image.
        """
        ...
