"""Which vertebrae come together in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from cspine.anatomy import CERVICAL, Vertebra
from cspine.datasets.crop_samples import CropStudies, CropStudy, LabelledCrop

REFRESH_STEPS: Final = 25
"""So often studies that came since are taken in."""


class Drawn(NamedTuple):
    """A vertebra that was drawn and not read yet."""

    study: CropStudy
    level: Vertebra

    def load(self) -> LabelledCrop:
        """Read its crop.

        Raises:
            InputError: the file cannot be read.
        """
        return self.study.load(self.level)


class VertebraPairs:
    """Draws fractured vertebrae, each beside a sound one of the same level.

    Matching the level keeps the network from learning that C7 is fractured more often than C3; what is true
    of that the study head learns, from necks drawn at their natural rate.
    """

    def __init__(self, studies: CropStudies, pairs: int, *, located: bool) -> None:
        """Prepare to draw.

        Args:
            studies: where the vertebrae come from.
            pairs: how many at once.
            located: leave out fractures of which nobody knows where they are.
        """
        self._source, self._pairs, self._located = studies, pairs, located
        self._sorted: dict[tuple[Vertebra, bool], list[CropStudy]] = {}

    def __call__(self, step: int, rng: np.random.Generator) -> list[Drawn]:
        """The vertebrae of one step: fractured, sound, fractured and so on.

        Raises:
            InputError: too few studies came for a long time.
        """
        if step % REFRESH_STEPS == 0 or not self._sorted:
            self._sort(self._source.wait_for(2 * self._pairs))
        levels = [v for v in CERVICAL if self._sorted[v, True] and self._sorted[v, False]]
        # Square root: rare levels are seen more often than they break, common ones still most.
        rates = np.sqrt([len(self._sorted[v, True]) for v in levels])
        chosen: list[Drawn] = []
        for _ in range(self._pairs):
            level = levels[int(rng.choice(len(levels), p=rates / rates.sum()))]
            for fractured in (True, False):
                studies = self._sorted[level, fractured]
                chosen.append(Drawn(studies[int(rng.integers(len(studies)))], level))
        return chosen

    def _sort(self, studies: Sequence[CropStudy]) -> None:
        self._sorted = {(v, broken): [] for v in CERVICAL for broken in (True, False)}
        for study in studies:
            for level, broken in study.fractured.items():
                if study.located[level] or not (broken and self._located):
                    self._sorted[level, broken].append(study)
