"""The seven cervical vertebrae and how others number them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Vertebra(IntEnum):
    """A cervical vertebra; the value is its label in every mask of this project and in RSNA 2022."""

    C1 = 1
    C2 = 2
    C3 = 3
    C4 = 4
    C5 = 5
    C6 = 6
    C7 = 7

    def __str__(self) -> str:
        return self.name


CERVICAL: Final = tuple(Vertebra)
"""C1..C7 from head to feet: the order of every table and result."""

BACKGROUND: Final = 0
THORACIC: Final = 8
"""Channel of the networks for T1 and everything below it: the anchor at the lower end."""
OCCIPUT: Final = 9
"""Channel of the networks for the skull: the anchor at the upper end."""
NETWORK_CHANNELS: Final = ("background", *(v.name for v in CERVICAL), "thoracic", "occiput")
"""Names of the class channels of the localization and the segmentation network, by index."""
RISE_CHANNEL: Final = len(NETWORK_CHANNELS)
"""Channel of the segmentation network after those of the classes: by how many centimetres the centre of a
voxel's vertebra lies further towards the head than the voxel."""


def channel_groups(count: int) -> tuple[slice, slice, slice]:
    """What the `count` channels of a segmentation network say, in their order.

    Returns:
        Where those of cells lie (the classes and `RISE_CHANNEL`), where those that say of each voxel of a
        cell whether it is bone, and where those with each voxel's own rise; the latter two are empty for a
        network that computes on voxels (`cspine.models.folding`).
    """
    first = RISE_CHANNEL + 1
    middle = first + (count - first) // 2
    return slice(first), slice(first, middle), slice(middle, count)


# Masks of others use other numbers for the same vertebrae.
FOREIGN_LABELS: Final[dict[str, dict[Vertebra, int]]] = {
    # RSNA 2022: 1-7 = C1-C7, 8-19 = T1-T12.
    "rsna2022": {v: int(v) for v in CERVICAL},
    # VerSe and CTSpine1K: 1-7 = C1-C7, 8-19 = T1-T12, 20-25 = L1-L6.
    "verse": {v: int(v) for v in CERVICAL},
    # TotalSegmentator v2, task "total": vertebrae_C7 = 44 ... vertebrae_C1 = 50.
    "totalsegmentator": {v: 51 - int(v) for v in CERVICAL},
}
