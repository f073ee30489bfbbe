"""One CT series as it was read: the volume, the headers behind it, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cspine.volume import FloatArray, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class LeftOut:
    """Files or images of the input that were not used, and why (one sentence, no PHI)."""

    count: int
    reason: str


@dataclass(frozen=True, eq=False)
class CtSeries:
    """The chosen CT series of a study.

    Attributes:
        volume: the CT; where the series was acquired with a tilted gantry, after de-shearing.
        headers: of the source SOP instances, without Pixel Data, normalised for writing (text in ISO_IR 192,
            the identity attributes that writers need present, if empty). Single-frame: one a slice, in the
            order of the volume's slices. Enhanced multi-frame: exactly one.
        frame_numbers: 1-based number of the source frame behind each slice (1 throughout for single-frame).
        source_shape: rows and columns of a source frame.
        shear_px: (slices, 2) float64, the (row, column) position of each source frame's first pixel in the
            volume's matrix; None where the series was not tilted and the matrix is the source's own.
        left_out: what the input held beside this series.
        warnings: what a reader should know of this series (thick slices, a soft kernel), without PHI.
    """

    volume: Volume
    headers: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...]
    source_shape: tuple[int, int]
    shear_px: FloatArray | None = None
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_multiframe(self) -> bool:
        """Whether the source is one enhanced multi-frame image."""
        return len(self.headers) != len(self.frame_numbers)

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.headers[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.headers[0].SeriesInstanceUID)

    def source_frame(self, labels: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The labels of slice `index` of the volume on the pixels of its source frame.

        Args:
            labels: (slices, rows, columns) on the volume's grid.
            index: slice of the volume.

        Returns:
            (rows, columns) of the source frame; nearest pixel where the series was de-sheared.
        """
        plane: NDArray[np.uint8] = labels[index]
        if self.shear_px is None:
            return plane
        rows, columns = self.source_shape
        first_row, first_column = np.rint(self.shear_px[index]).astype(int)
        window: NDArray[np.uint8] = plane[first_row : first_row + rows, first_column : first_column + columns]
        return window
