"""Necks made of blocks, and a method that finds what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.evaluation.cases import Case, FractureBox, LevelTruth
from cspine.findings import FractureScores, LevelScore, OperatingPoint
from cspine.volume import Grid, SpineMask, Visibility, Volume

POINTS = {
    "rule_out": OperatingPoint(level=0.1, overall=0.2),
    "balanced": OperatingPoint(level=0.5, overall=0.5, min_margin=1.0),
    "rule_in": OperatingPoint(level=0.9, overall=0.9, min_margin=1.0),
}
BLOCK = 10
"""Slices of a vertebra, with two slices of space below it."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def points() -> Mapping[str, OperatingPoint]:
    return POINTS


@pytest.fixture(scope="session")
def grid() -> Grid:
    """Axial, head first, three spacings."""
    return Grid(
        (90, 30, 36), np.array([[0, 0, 0.9, -16], [0, 1.1, 0, -20], [1.5, 0, 0, -60], [0, 0, 0, 1.0]])
    )


@pytest.fixture(scope="session")
def spine(grid: Grid) -> Callable[..., SpineMask]:
    """A function that stacks seven blocks from C1 at the top; `names` says what each is called."""

    def make(
        names: Mapping[Vertebra, Vertebra | None] | None = None,
        shift: tuple[int, int, int] = (0, 0, 0),
        margin: float | None = None,
    ) -> SpineMask:
        labels = np.zeros(grid.shape, np.uint8)
        for place, vertebra in enumerate(CERVICAL):
            called = vertebra if names is None else names.get(vertebra, vertebra)
            if called is not None:
                top = 86 - (BLOCK + 2) * place + shift[0]
                labels[top - BLOCK : top, 8 + shift[1] : 20 + shift[1], 10 + shift[2] : 24 + shift[2]] = (
                    called
                )
        margins = None if margin is None else dict.fromkeys(CERVICAL, margin)
        return SpineMask.from_labels(grid, labels, margins)

    return make


@dataclass
class FakeMethod:
    """Finds the mask and the probabilities that were put down for a volume; counts how often it is asked."""

    masks: dict[int, SpineMask] = field(default_factory=dict)
    said: dict[int, Mapping[Vertebra, float]] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)
    asked: int = 0

    def segment(self, volume: Volume) -> SpineMask:
        self.asked += 1
        key = int(volume.hu[0, 0, 0])
        if key in self.errors:
            raise self.errors[key]
        return self.masks[key]

    def classify(self, volume: Volume, mask: SpineMask) -> FractureScores:
        said = self.said[int(volume.hu[0, 0, 0])]
        levels = {}
        for found in mask.levels:
            if found.visibility is not Visibility.ABSENT:
                center = mask.center_lps_mm(found.level)
                assert center is not None
                levels[found.level] = LevelScore(said.get(found.level, 0.05), tuple(center))
        return FractureScores(levels, max(0.05, *(said.values() or [0.0])))


@dataclass
class FakeCases:
    """Cases that were put down, by identifier."""

    cases: dict[str, Case | Exception]
    name: str = "blocks"
    description: str = "Blocks."
    synthetic: bool = True
    version: int = 1

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"source": "blocks", "version": self.version}

    def identifiers(self) -> Sequence[str]:
        return list(self.cases)

    def load(self, identifier: str) -> Case:
        found = self.cases[identifier]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(scope="session")
def make_case(grid: Grid, spine: Callable[..., SpineMask]) -> Callable[..., Case]:
    """A function from a number and the fractured levels to a case whose volume begins with that number."""

    def make(
        number: int,
        fractured: Sequence[Vertebra] = (),
        *,
        mask: SpineMask | None = None,
        confounded: Sequence[Vertebra] = (),
        attributes: Mapping[str, str] | None = None,
    ) -> Case:
        hu = np.zeros(grid.shape, np.int16)
        hu[0, 0, 0] = number
        mask = mask or spine()
        levels = {
            found.level: LevelTruth(
                fractured=found.level in fractured,
                visibility=found.visibility,
                kinds=("lamina",) if found.level in fractured else (),
                gap_mm=0.8 if found.level in fractured else None,
                detectability=14.0 if found.level in fractured else None,
                confounders=("ossicle",) if found.level in confounded else (),
            )
            for found in mask.levels
        }
        boxes = tuple(FractureBox(_inner_box(mask, v), v) for v in fractured)
        attributes = attributes or {"noise": "low" if number % 2 else "high"}
        return Case(f"case-{number}", Volume(grid, hu), levels, mask, boxes, attributes)

    return make


def _inner_box(mask: SpineMask, vertebra: Vertebra) -> np.ndarray:
    center = mask.center_lps_mm(vertebra)
    assert center is not None
    return np.stack([center - 2.0, center + 2.0])


@pytest.fixture(scope="session")
def fake_method() -> type[FakeMethod]:
    return FakeMethod


@pytest.fixture(scope="session")
def fake_cases() -> type[FakeCases]:
    return FakeCases
