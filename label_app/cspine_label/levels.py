"""Names, numbers and colours of the levels in every label: C1..C7 are 1..7, whoever numbered them how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom.segmentation import LEVEL_RGB
from cspine.volume import MIN_LEVEL_MM3, Grid, SpineMask
from cspine_label.errors import RefusedLabelError

LABELS: Final[dict[str, int]] = {str(vertebra): int(vertebra) for vertebra in CERVICAL}
"""As MONAI Label's clients want them."""

_NAME: Final = re.compile(r"(?<![a-z0-9])c0?([1-7])(?![a-z0-9])", re.IGNORECASE)


def level_of(name: str) -> Vertebra | None:
    """The vertebra that a free name means: "C3", "c3 vertebra", "vertebrae_C3"; None for anything else."""
    found = {int(match) for match in _NAME.findall(name)}
    return Vertebra(found.pop()) if len(found) == 1 else None


def color_of(vertebra: Vertebra) -> str:
    """Its colour as "#rrggbb", the one of the DICOM Segmentations."""
    return "#{:02x}{:02x}{:02x}".format(*LEVEL_RGB[vertebra])


def numbering(label_info: Iterable[Mapping[str, Any]] | None) -> dict[int, Vertebra]:
    """Which vertebra each value of an uploaded label stands for.

    3D Slicer numbers the segments of a label 1..N in the order in which they stand, so a label of C3..C7
    holds 1..5; only the names tell. Without names values are C1..C7 themselves.

    Args:
        label_info: the client's list of {"name": ..., "idx": ...}; without "idx" the place counts.

    Raises:
        RefusedLabelError: a name that is no level, or a value or level named twice.
    """
    entries = list(label_info or ())
    if not entries:
        return {int(vertebra): vertebra for vertebra in CERVICAL}
    found: dict[int, Vertebra] = {}
    for place, entry in enumerate(entries, start=1):
        name = str(entry.get("name", ""))
        if name.lower() == "background":
            continue
        vertebra, value = level_of(name), _index(entry.get("idx"), place)
        if vertebra is None:
            raise RefusedLabelError(f"'{name}' is no level; name the segments C1 to C7.")
        if value in found or vertebra in found.values():
            raise RefusedLabelError(
                f"{vertebra} is named twice in the label; keep one segment for each level."
            )
        found[value] = vertebra
    return found


def _index(value: Any, place: int) -> int:
    if value is None:
        return place
    if isinstance(value, bool) or not str(value).isdecimal():
        raise RefusedLabelError(f"'{value}' is no number of a segment; number the segments from 1.")
    return int(value)


def renamed(values: NDArray[Any], names: Mapping[int, Vertebra]) -> NDArray[np.uint8]:
    """An uploaded label with C1..C7 as 1..7.

    Args:
        values: any shape and number type; 0 is background.
        names: from `numbering`.

    Raises:
        RefusedLabelError: values that are not whole numbers, or that no level stands for; or no voxel at all.
    """
    present = np.unique(values)
    if not np.isfinite(present).all() or (present != np.rint(present)).any():
        raise RefusedLabelError("The label holds values that are not whole numbers; send a label map.")
    present = present[present != 0].astype(int)
    if not present.size:
        raise RefusedLabelError("The label is empty; draw at least one vertebra.")
    unknown = [int(value) for value in present if int(value) not in names]
    if unknown:
        raise RefusedLabelError(
            f"The label holds {_listed(unknown)}, which no level stands for; C1 to C7 are 1 to 7."
        )
    result = np.zeros(values.shape, np.uint8)
    for value in present:
        result[values == value] = int(names[int(value)])
    return result


def _listed(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return (
        f"the values {shown}{', ...' if len(values) > 5 else ''}" if len(values) > 1 else f"the value {shown}"
    )


def checked_mask(grid: Grid, labels: NDArray[np.uint8]) -> SpineMask:
    """The mask of labels that a person drew.

    Raises:
        RefusedLabelError: a level so small that it can only be a stray stroke; it would not be kept.
    """
    counts = np.bincount(labels.ravel(), minlength=int(max(CERVICAL)) + 1)
    for vertebra in CERVICAL:
        voxels = int(counts[vertebra])
        if voxels > 0 and voxels * grid.voxel_mm3 < MIN_LEVEL_MM3:
            raise RefusedLabelError(
                f"{vertebra} has only {voxels * grid.voxel_mm3:.0f} mm3: a stray stroke? "
                "Erase it or draw the vertebra."
            )
    return SpineMask.from_labels(grid, labels)
