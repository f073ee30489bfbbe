"""Synthetic necks of seeds that no training draws from, as cases; each is made once and kept on disk.

A case is an axial CT of the neck, head first, with true vertebrae. Slices are as far apart as they are thick
(but no closer than 1 mm), and in one case in seven the images end inside the cervical spine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import UsageError
from cspine.evaluation.case_files import load_case, save_case
from cspine.evaluation.cases import Case, FractureBox, LevelTruth
from cspine.volume import Grid, SegmentedLevel, SpineMask, Visibility, Volume

if TYPE_CHECKING:
    from cspine.phantom import Anatomy, Neck, PhantomProfile, Scanner

FIRST_SEED: Final = 777_000_000
SHIFTED_SEED: Final = 779_000_000
"""Odd numbers of millions: training of the spine networks starts at even ones, that of the classifier at ten
millions, and neither draws a million necks."""
PIXEL_MM: Final = 0.7
PIXELS: Final = 224
MIN_STEP_MM: Final = 1.0
MAX_STEP_MM: Final = 5.0
MARGIN_MM: Final = (12.0, 35.0)
"""Above C1 and below C7."""
CUT_EVERY: Final = 7
"""One case in so many shows only a part of the spine."""
CUT_MM: Final = (5.0, 45.0)
"""How much of the spine is then missing, at either end."""


@dataclass(frozen=True)
class PhantomCases:
    """Phantoms of consecutive seeds.

    Attributes:
        count: how many.
        folder: where they are kept.
        shifted: drawn from the domain that training never saw.
        anatomy: folder of surface meshes for every second neck; None for the built-in shapes only.
        seed: of the first neck; None for the one of the domain.
    """

    count: int
    folder: Path
    shifted: bool = False
    anatomy: Path | None = None
    seed: int | None = None

    @property
    def first_seed(self) -> int:
        """Of the necks."""
        return self.seed if self.seed is not None else SHIFTED_SEED if self.shifted else FIRST_SEED

    @property
    def name(self) -> str:
        """Of the set."""
        return "phantom-shifted" if self.shifted else "phantom-default"

    @property
    def description(self) -> str:
        """For the report."""
        domain = (
            "the shifted domain: other ranges of anatomy, kernels and noise than training has"
            if self.shifted
            else "the domain that training draws from"
        )
        bones = (
            "built-in bones" if self.anatomy is None else "every second one with bones from surface meshes"
        )
        return f"Synthetic necks of unseen seeds from {self.first_seed}, {domain}; {bones}."

    @property
    def synthetic(self) -> bool:
        """They are."""
        return True

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes these cases what they are; another generator makes others."""
        return {
            "source": self.name,
            "first_seed": self.first_seed,
            "meshes": self.anatomy is not None,
            "generator_sha256": generator_sha256(),
        }

    def identifiers(self) -> Sequence[str]:
        """phantom-SEED."""
        return [f"phantom-{seed}" for seed in range(self.first_seed, self.first_seed + self.count)]

    def load(self, identifier: str) -> Case:
        """Read a case that was made, or make and keep it.

        Raises:
            InputError: the file is damaged.
            OutputError: it cannot be written.
        """
        seed = int(identifier.rpartition("-")[2])
        path = self.folder / self._kept_as(identifier)
        if not path.exists():
            neck, scanner = self._neck(seed), self._scanner(seed)
            save_case(make_case(identifier, neck, scanner, case_grid(neck, scanner, seed)), path)
        return load_case(path, identifier)

    def _kept_as(self, identifier: str) -> str:
        """Cases that are not the same never share a file."""
        marks = json.dumps(self.identity, sort_keys=True)
        return f"{self.name}/{identifier}-{hashlib.sha256(marks.encode()).hexdigest()[:8]}.npz"

    @property
    def _profile(self) -> PhantomProfile:
        from cspine.phantom import DEFAULT, SHIFTED

        return SHIFTED if self.shifted else DEFAULT

    def _neck(self, seed: int) -> Neck:
        from cspine.phantom import sample_neck

        anatomy = _meshes(self.anatomy) if self.anatomy is not None and seed % 2 == 0 else None
        return sample_neck(seed, self._profile, anatomy=anatomy)

    def _scanner(self, seed: int) -> Scanner:
        from cspine.phantom import sample_scanner

        return sample_scanner(seed, self._profile)


_ANATOMIES: dict[Path, Anatomy] = {}


def _meshes(folder: Path) -> Anatomy:
    """Read once a process."""
    if folder not in _ANATOMIES:
        from cspine.phantom import MeshAnatomy

        _ANATOMIES[folder] = MeshAnatomy(folder)
    return _ANATOMIES[folder]


def case_grid(neck: Neck, scanner: Scanner, seed: int) -> Grid:
    """Where the images of a neck lie: axial, head first (index 0 is the lowest slice)."""
    rng = np.random.default_rng([seed, 0xE7A1])
    step = float(np.clip(scanner.slice_thickness_mm, MIN_STEP_MM, MAX_STEP_MM))
    (low_x, low_y, low), (high_x, high_y, high) = neck.spine_box_lps_mm
    below, above = rng.uniform(*MARGIN_MM, 2)
    if seed % CUT_EVERY == CUT_EVERY - 1:
        missing = float(rng.uniform(*CUT_MM))
        below, above = (-missing, above) if rng.random() < 0.5 else (below, -missing)
    bottom, top = low - below, high + above
    slices = max(8, round((top - bottom) / step) + 1)
    affine = np.array([[0, 0, PIXEL_MM, 0], [0, PIXEL_MM, 0, 0], [step, 0, 0, bottom], [0, 0, 0, 1]])
    middle = np.array([(low_x + high_x) / 2, (low_y + high_y) / 2]) + rng.uniform(-6, 6, 2)
    affine[:2, 3] = middle - PIXEL_MM * (PIXELS - 1) / 2
    return Grid((slices, PIXELS, PIXELS), affine)


def make_case(identifier: str, neck: Neck, scanner: Scanner, grid: Grid) -> Case:
    """Render a neck with a scanner on a grid, with everything that is known of it."""
    from cspine.phantom import render

    image = render(neck, grid, scanner)
    labels = image.labels.numpy()
    mask = SpineMask.from_labels(grid, np.where(labels <= len(CERVICAL), labels, 0).astype(np.uint8))
    boxes = _fracture_boxes(grid, neck, np.argwhere(image.fracture.numpy() > 0))
    levels = {
        level.level: _truth(neck, scanner, grid, level, boxes)
        for level in mask.levels
        if level.visibility is not Visibility.ABSENT
    }
    volume = Volume(grid, image.hu.numpy())
    return Case(identifier, volume, levels, mask, boxes, _attributes(neck, scanner, mask))


def _fracture_boxes(grid: Grid, neck: Neck, broken: NDArray[np.int64]) -> tuple[FractureBox, ...]:
    """A box around what is in view of each fracture: the images' voxels within the drawn fracture zone."""
    points = grid.to_lps_mm(broken)
    half = np.array(grid.spacing_mm[::-1]) / 2
    boxes = []
    for fracture in neck.fractures:
        low, high = fracture.box_lps_mm
        near = points[((points >= low - half) & (points <= high + half)).all(1)] if len(points) else points
        if len(near):
            boxes.append(FractureBox(np.stack([near.min(0) - half, near.max(0) + half]), fracture.level))
    return tuple(boxes)


def _truth(
    neck: Neck, scanner: Scanner, grid: Grid, seen: SegmentedLevel, boxes: Sequence[FractureBox]
) -> LevelTruth:
    """A level seen as a whole is as the neck has it; a cut one is fractured where the fracture is in view."""
    from cspine.phantom import detectability

    level = seen.level
    found = [fracture for fracture in neck.fractures if fracture.level is level]
    in_view = seen.visibility is Visibility.COMPLETE or any(box.level is level for box in boxes)
    found = found if in_view else []
    return LevelTruth(
        fractured=bool(found),
        visibility=seen.visibility,
        kinds=tuple(str(fracture.kind) for fracture in found),
        gap_mm=max((fracture.width_mm for fracture in found), default=None),
        detectability=round(detectability(neck, level, scanner, grid), 1) if found else None,
        confounders=tuple(str(c.kind) for c in neck.confounders if c.level is level),
    )


def _attributes(neck: Neck, scanner: Scanner, mask: SpineMask) -> dict[str, str]:
    cut = [level.level for level in mask.levels if level.visibility is not Visibility.COMPLETE]
    view = "full" if not cut else "cut at the head" if Vertebra.C1 in cut else "cut at the feet"
    contrast = any(tube.hu > 80.0 for tube in neck.tissue.tubes)
    return {
        "view": view,
        "slice thickness": _class(scanner.slice_thickness_mm, (1.5, 3.0), "mm"),
        "noise": _class(scanner.noise_hu, (20.0, 45.0), "HU"),
        "in-plane blur (sigma)": _class(scanner.kernel_mm, (0.45, 0.7), "mm"),
        "contrast": "given" if contrast else "none",
        "motion": "yes" if scanner.motion_mm > 0 else "no",
        "metal": "yes" if scanner.metal_lps_mm else "no",
        "shoulder streaks": "yes" if scanner.streak_hu > 0 else "no",
        "anatomy": neck.source,
    }


def _class(value: float, bounds: tuple[float, float], unit: str) -> str:
    low, high = bounds
    if value <= low:
        return f"up to {low:g} {unit}"
    return f"{low:g} to {high:g} {unit}" if value <= high else f"over {high:g} {unit}"


@lru_cache(maxsize=1)
def generator_sha256() -> str:
    """Hash of the code that makes phantoms: of another generator the same seeds are other necks."""
    from cspine import phantom

    found = hashlib.sha256()
    for path in (*sorted(Path(str(phantom.__file__)).parent.glob("*.py")), Path(__file__)):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def phantom_sets(
    count: int, folder: Path, *, shifted_only: bool, anatomy: Path | None
) -> tuple[PhantomCases, ...]:
    """The sets that `phantom:COUNT` stands for: the default and the shifted domain.

    Raises:
        UsageError: the folder of meshes does not exist.
    """
    if anatomy is not None and not anatomy.is_dir():
        raise UsageError(f"There is no folder '{anatomy}' of surface meshes: name one that holds C1_*.stl.")
    shifted = PhantomCases(count, folder, shifted=True, anatomy=anatomy)
    return (shifted,) if shifted_only else (PhantomCases(count, folder, anatomy=anatomy), shifted)
