"""What travels between the operators beside the library's own types.

Everything is a frozen object: Holoscan turns a dict of arrays into tensors of its own, and leaves
objects alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspine.crops import VertebraCrop

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class VertebraCrops:
    """The crops of a study, from head to feet; none where no vertebra was found."""

    crops: tuple[VertebraCrop, ...]


@dataclass(frozen=True, eq=False)
class EncodedDicom:
    """A DICOM object and the bytes that it is in a file, which were read back and checked."""

    dataset: Dataset
    data: bytes


@dataclass(frozen=True, eq=False)
class WrittenSegmentation:
    """The Segmentation that was written; None where there was nothing to segment."""

    dataset: Dataset | None


@dataclass(frozen=True)
class SummaryFiles:
    """A study's result for people and programs: file name to content."""

    files: dict[str, bytes]
