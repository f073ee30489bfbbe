"""Labels on disk, beside what is known of each: NIfTI and JSON, in the folders that MONAI Label uses.

::

    labels/final/CASE.nii.gz    what a person finished; 1..7 are C1..C7
    labels/final/CASE.json      when, by whom, which levels, and what is said of fractures
    labels/original/...         the same for what a network proposed
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from cspine.errors import InputError
from cspine.volume import Grid, SpineMask
from cspine.whole_files import write_json
from cspine_label.cases import TAGS
from cspine_label.errors import RefusedLabelError, UnknownNameError
from cspine_label.fractures import Annotations, read_annotations
from cspine_label.images import read_label, write_image

_ID: Final = re.compile(r"[^/\\\0]{1,200}")


@dataclass(frozen=True)
class LabelRecord:
    """What is known of a label beside its voxels.

    Attributes:
        case_id: of the image.
        tag: "final" or "original".
        saved: seconds since 1970.
        by: the client or user that saved it.
        levels: names of the levels that it holds.
        model: the network that proposed it, and its weights.
        fractures: what a person said, in the format of `fractures`.
        extra: of the PACS: the UIDs of its Segmentation.
    """

    case_id: str
    tag: str
    saved: float
    by: str
    levels: tuple[str, ...]
    model: str = ""
    fractures: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def annotations(self) -> Annotations:
        """What a person said of fractures."""
        return read_annotations(self.fractures)


class LabelFolder:
    """The labels of all cases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.RLock()

    def path(self, case_id: str, tag: str) -> Path:
        """Where the voxels of a label are, or would be.

        Raises:
            UnknownNameError: an unknown tag.
            RefusedLabelError: an id that is no file name.
        """
        if tag not in TAGS:
            raise UnknownNameError(f"There is no tag '{tag}'; labels are 'final' or 'original'.")
        if not _ID.fullmatch(case_id) or case_id.startswith("."):
            raise RefusedLabelError("The id of the case cannot be the name of a file.")
        return self.root / tag / f"{case_id}.nii.gz"

    def record(self, case_id: str, tag: str) -> LabelRecord | None:
        """What is known of a label; None where there is none. A NIfTI put there by hand counts as well."""
        path = self.path(case_id, tag)
        if not path.exists():
            return None
        try:
            content = json.loads(_side(path).read_text("utf-8"))
            return LabelRecord(**{**content, "levels": tuple(content["levels"])})
        except FileNotFoundError:
            return LabelRecord(case_id, tag, path.stat().st_mtime, "", ())
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"'{_side(path)}' cannot be read; correct or remove it.") from error

    def mask(self, case_id: str, tag: str, grid: Grid) -> SpineMask:
        """A label on the grid of its image.

        Raises:
            UnknownNameError: there is none.
            RefusedLabelError: the file lies elsewhere, or holds values that are no level.
        """
        path = self.path(case_id, tag)
        if not path.exists():
            raise UnknownNameError(f"The case '{case_id}' has no {tag} label.")
        values = read_label(path, grid)
        if values.max(initial=0) > 7:
            raise RefusedLabelError(f"'{path.name}' holds values that are no level; C1 to C7 are 1 to 7.")
        return SpineMask.from_labels(grid, np.ascontiguousarray(values, np.uint8))

    def save(self, mask: SpineMask, record: LabelRecord) -> None:
        """Keep a label and its record; each file appears whole or not at all."""
        path = self.path(record.case_id, record.tag)
        with self._lock:
            write_image(mask.labels, mask.grid, path)
            write_json(_side(path), asdict(record))

    def remove(self, case_id: str, tag: str) -> None:
        """Remove a label and its record."""
        path = self.path(case_id, tag)
        with self._lock:
            if not path.exists():
                raise UnknownNameError(f"The case '{case_id}' has no {tag} label.")
            path.unlink()
            _side(path).unlink(missing_ok=True)


def _side(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".nii.gz") + ".json")
