"""From annotated cases to what the networks are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import ModelImage, PendingImage, VertebraCrop
from cspine.datasets.crop_samples import LabelledCrop
from cspine.datasets.spine_samples import Sample
from cspine.dicom import read_ct
from cspine.findings import Decision
from cspine.models.inference import most_likely
from cspine.models.segmenter import cut_patch
from cspine.volume import Grid, SpineMask, Visibility, Volume
from cspine_label.errors import RefusedLabelError
from cspine_label.fractures import LevelAnnotation
from cspine_label.images import read_label, read_volume
from cspine_label.job import LabelledFile
from cspine_label.lattice import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POINT_MM: Final = 6.0
"""Radius around a point that counts as broken."""

Shape = tuple[int, int, int]


def read_labelled(file: LabelledFile) -> tuple[Volume, SpineMask]:
    """A case and its final label.

    Raises:
        InputError: one of the files cannot be read, or they do not fit.
    """
    path = Path(file.image)
    volume = read_ct(path).volume if path.is_dir() else read_volume(path)
    labels = np.ascontiguousarray(read_label(Path(file.label), volume.grid), np.uint8)
    return volume, SpineMask.from_labels(volume.grid, labels)


def spine_sample(
    image: ModelImage | PendingImage, mask: SpineMask, shape: Shape, network: torch.nn.Module
) -> Sample:
    """A sample of the segmentation network's training: uint8 (2, *shape), image and labels.

    People draw C1..C7 only, and not always all of them. So what they did not draw, the thoracic spine, the
    skull and further levels, keeps the label that the network in use gives it: else training would teach it
    to forget them.

    Args:
        image: the case on the network's grid.
        mask: the final label, on the grid of the case.
        shape: voxels of the sample, centred on the label.
        network: in use.

    Raises:
        RefusedLabelError: the label is empty.
    """
    boxes = [box for found in mask.levels if (box := found.box_lps_mm(mask.grid)) is not None]
    if not boxes:
        raise RefusedLabelError("An empty label teaches nothing; draw the vertebrae.")
    corners = np.concatenate(boxes)
    patch = cut_patch(image, (corners.min(0) + corners.max(0)) / 2, shape)
    known = most_likely(network, patch.image).cpu().numpy().astype(np.uint8)
    labels = merged(known, nearest(mask.labels, mask.grid, patch.grid), mask)
    pixels = np.clip(np.rint(patch.image.cpu().numpy() * 255), 0, 255).astype(np.uint8)
    return np.stack([pixels, labels])


def merged(known: NDArray[np.uint8], drawn: NDArray[np.uint8], mask: SpineMask) -> NDArray[np.uint8]:
    """What was drawn, and around it what the network knows of everything that was not drawn."""
    levels = [int(found.level) for found in mask.levels if found.visibility is not Visibility.ABSENT]
    rest = np.where(np.isin(known, levels), np.uint8(0), known)
    result: NDArray[np.uint8] = np.where(drawn > 0, drawn, rest)
    return result


def fracture_samples(
    crops: Sequence[VertebraCrop], annotations: Mapping[Vertebra, LevelAnnotation]
) -> tuple[LabelledCrop, ...]:
    """Samples of the classifier's training: the levels that a person called present or absent.

    Args:
        crops: of the vertebrae of the final label, from the hospital's own preprocessing.
        annotations: what the person said.
    """
    found = []
    for crop in sorted(crops, key=lambda crop: CERVICAL.index(crop.level)):
        said = annotations.get(crop.level)
        if said is None or said.decision is Decision.UNDETERMINED:
            continue
        mask = crop.mask.cpu().numpy() > 0
        pixels = np.clip(np.rint(crop.image.cpu().numpy() * 255), 0, 255).astype(np.uint8)
        broken, fractured = marked(crop.grid, said) & mask, said.decision is Decision.PRESENT
        # Without a mark, or with one beside the bone, it is not known where the fracture is.
        located = not fractured or bool(broken.any())
        found.append(LabelledCrop(crop.level, pixels, mask, broken, fractured, located))
    return tuple(found)


def marked(grid: Grid, said: LevelAnnotation) -> NDArray[np.bool_]:
    """The voxels of a grid within the boxes, or near the points, of an annotation."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    places = grid.to_lps_mm(index)
    inside = np.zeros(grid.shape, bool)
    for low, high in said.boxes_lps_mm:
        inside |= ((places >= np.array(low)) & (places <= np.array(high))).all(-1)
    for point in said.points_lps_mm:
        inside |= np.linalg.norm(places - np.array(point), axis=-1) <= POINT_MM
    return inside
