"""The studies of RSNA 2022: found by name, read one by one when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import Vertebra
from cspine.datasets.rsna.boxes import VoxelBox, voxel_boxes
from cspine.datasets.rsna.masks import read_mask
from cspine.datasets.rsna.tables import BOXES, LABELS, SliceBox, read_boxes, read_labels
from cspine.dicom import CtSeries, read_ct
from cspine.dicom.frames import single_frame
from cspine.dicom.headers import quietly, read_header, text
from cspine.dicom.pixels import check_decodable, read_plane
from cspine.errors import InputError
from cspine.settings import THREADS

log = logging.getLogger(__name__)

IMAGES: Final = "train_images"
MASKS: Final = "segmentations"
DEFECTIVE: Final = ("1.2.826.0.1.3680043.20574", "1.2.826.0.1.3680043.29952")
"""Studies that the contest's participants found to be broken and left out."""


@dataclass(frozen=True, eq=False)
class RsnaCt:
    """What was read of one study.

    Attributes:
        series: the CT.
        boxes: around fractures, on the CT's voxels.
        labels: uint8 on the CT's grid, 0, 1..7 (C1..C7) or 8 (T1 and below); None where there is no mask.
        unreadable: names of the files that were left out.
        lost_boxes: how many boxes lie in images that are not in the series.
    """

    series: CtSeries
    boxes: tuple[VoxelBox, ...]
    labels: NDArray[np.uint8] | None
    unreadable: tuple[str, ...]
    lost_boxes: int


@dataclass(frozen=True)
class RsnaStudy:
    """One study, not read yet.

    Attributes:
        uid: Study Instance UID, the name of its folder.
        images: folder of its images.
        fractured: the label of each level.
        boxes: around fractures; 235 of the 2,019 studies have any.
        mask: its vertebrae (NIfTI); None for all but 87 studies.
    """

    uid: str
    images: Path
    fractured: Mapping[Vertebra, bool]
    boxes: tuple[SliceBox, ...] = ()
    mask: Path | None = None

    @property
    def any_fractured(self) -> bool:
        """Whether any level is."""
        return any(self.fractured.values())

    def read(self, threads: int = THREADS) -> RsnaCt:
        """Read the study.

        Slices that cannot be read are left out where the rest still is a stack without a gap.

        Raises:
            InputError, NoUsableSeriesError: why it cannot be used.
        """
        series, unreadable = self._series(threads)
        boxes, lost = voxel_boxes(self.boxes, self.images, series)
        labels = None if self.mask is None else read_mask(self.mask, series.volume.grid)
        return RsnaCt(series, boxes, labels, unreadable, lost)

    def patient(self) -> str:
        """Patient ID in one of its images, or the study's UID where none can be read."""
        for path in self.images.glob("*.dcm"):
            try:
                header = read_header(path)
            except InputError:
                continue
            if header is not None and (known := text(header.dataset, "PatientID")):
                return known
        return self.uid

    def _series(self, threads: int) -> tuple[CtSeries, tuple[str, ...]]:
        try:
            series = read_ct(self.images, threads=threads)
            return series, unreadable_slices(self.images) if series.left_out else ()
        except InputError:
            unreadable = unreadable_slices(self.images)
            if not unreadable:
                raise
        try:
            return _read_without(self.images, unreadable, threads), unreadable
        except InputError as error:
            raise InputError(
                f"{len(unreadable)} slices cannot be read ('{unreadable[0]}'), and without them: {error}"
            ) from error


@dataclass(frozen=True)
class RsnaData:
    """The data set as downloaded.

    Attributes:
        root: the folder with train.csv and train_images.
        studies: those with images, in the order of train.csv.
        without_images: how many studies of train.csv have no images.
        excluded: how many were left out because they are known to be defective.
    """

    root: Path
    studies: tuple[RsnaStudy, ...]
    without_images: int
    excluded: int

    @classmethod
    def open(cls, root: Path) -> RsnaData:
        """Read the tables and see what is there.

        Raises:
            InputError: a table is missing or malformed, there are no images, or no study has a mask.
        """
        if not root.is_dir():
            raise InputError(f"'{root}' is no folder; name the one that holds {LABELS} and {IMAGES}.")
        labels, boxes = read_labels(root / LABELS), read_boxes(root / BOXES)
        kept = {uid: levels for uid, levels in labels.items() if uid not in DEFECTIVE}
        studies = tuple(
            RsnaStudy(uid, root / IMAGES / uid, levels, boxes.get(uid, ()), _mask_of(root, uid))
            for uid, levels in kept.items()
            if (root / IMAGES / uid).is_dir()
        )
        if not studies:
            raise InputError(f"'{root / IMAGES}' holds no study of {LABELS}; download and unpack the images.")
        if not any(study.mask for study in studies):
            raise InputError(
                f"'{root / MASKS}' holds no mask of a study that has images; download the masks, the spine's "
                "networks are taught by them."
            )
        return cls(root, studies, len(kept) - len(studies), len(labels) - len(kept))


def unreadable_slices(folder: Path) -> tuple[str, ...]:
    """Names of the files ``*.dcm`` of a folder that cannot be read, each tried alone, in numeric order."""
    found = []
    with quietly():
        for path in sorted(folder.glob("*.dcm"), key=lambda path: (len(path.name), path.name)):
            try:
                header = read_header(path)
                if header is None or header.pixels_at is None:
                    raise InputError(f"'{path.name}' is no image.")
                check_decodable(header)
                read_plane(single_frame(header))
            except InputError:
                found.append(path.name)
    return tuple(found)


def _read_without(folder: Path, names: tuple[str, ...], threads: int) -> CtSeries:
    """Read the series of a folder as if some of its files were not there."""
    with TemporaryDirectory(prefix="cspine-") as place:
        for path in folder.iterdir():
            if path.name not in names:
                (Path(place) / path.name).symlink_to(path.resolve())
        return read_ct(Path(place), threads=threads)


def _mask_of(root: Path, uid: str) -> Path | None:
    for suffix in (".nii", ".nii.gz"):
        if (path := root / MASKS / f"{uid}{suffix}").is_file():
            return path
    return None
