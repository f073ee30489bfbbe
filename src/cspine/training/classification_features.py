"""What the trained encoder says of cropped vertebrae, kept in memory: the heads learn from it in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspine.anatomy import CERVICAL
from cspine.datasets.crop_batches import Views, vertebra_batch
from cspine.datasets.crop_samples import CropStudy
from cspine.models.classifier_network import FractureNet
from cspine.models.device import autocast

KEPT: Final = ("features", "slices", "weight", "located", "fractured")


@dataclass(frozen=True, eq=False)
class Features:
    """Vertebrae as the sequence head sees them; a view is one augmentation.

    Attributes:
        features: (M, views, steps, F).
        slices: (M, views, steps), 0 or 1.
        weight: (M, views); 0 where too little of the fracture is in view.
        located: (M,); 0 where `slices` are unknown.
        fractured: (M,), 0 or 1.
        neck, level: (M,) number of the neck and place of the level, C1 = 0.
    """

    features: Tensor
    slices: Tensor
    weight: Tensor
    located: Tensor
    fractured: Tensor
    neck: NDArray[np.int64]
    level: NDArray[np.int64]


@torch.no_grad()
def encode_studies(network: FractureNet, studies: Sequence[CropStudy], views: Views) -> Features:
    """Encode all vertebrae of the studies, study by study and from head to feet, on the views' device."""
    device = views.device
    network = network.to(device).eval()
    views = replace(views, augmentation=replace(views.augmentation, mixup=0.0))
    parts: list[dict[str, Tensor]] = []
    for number, study in enumerate(studies):
        crops = [study.load(level) for level in sorted(study.fractured)]
        seen = []
        for view in range(views.count):
            batch = vertebra_batch(crops, views, views.generator(number * 101 + view))
            with autocast(device):
                features, _ = network.encoder(batch.pop("crops"))
            batch["features"] = features.float()
            seen.append({name: batch[name].cpu() for name in KEPT})
        parts.append({name: torch.stack([batch[name] for batch in seen], 1) for name in KEPT})
    whole = {name: torch.cat([part[name] for part in parts]) for name in KEPT}
    place = [(n, CERVICAL.index(v)) for n, study in enumerate(studies) for v in sorted(study.fractured)]
    number, level = np.array(place, np.int64).T
    return Features(
        features=whole["features"],
        slices=whole["slices"],
        weight=whole["weight"],
        located=whole["located"][:, 0],
        fractured=whole["fractured"][:, 0],
        neck=number,
        level=level,
    )


class SequenceBatches:
    """Batches of single vertebrae, half of them fractured, each seen in one of its views."""

    def __init__(self, data: Features, size: int, seed: int) -> None:
        self._data, self._size, self._seed = data, size, seed
        truth = data.fractured.numpy() > 0
        self._broken, self._sound = np.flatnonzero(truth), np.flatnonzero(~truth)

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step.

        Returns:
            "features" (N, steps, F), "slices" (N, steps), "weight", "fractured" and "located" (N,).
        """
        rng = np.random.default_rng([self._seed, step])
        half = self._size // 2
        which = np.concatenate([rng.choice(self._broken, half), rng.choice(self._sound, self._size - half)])
        view = rng.integers(0, self._data.weight.shape[1], self._size)
        data = self._data
        return {
            "features": data.features[which, view],
            "slices": data.slices[which, view],
            "weight": data.weight[which, view],
            "fractured": data.fractured[which],
            "located": data.located[which],
        }


@dataclass(frozen=True, eq=False)
class Embedded:
    """Necks as the study head sees them.

    Attributes:
        embedding: (necks, views, 7, E).
        level: (necks, views, 7) logits.
        fractured: (necks, 7), 0 or 1.
        known: bool (necks, 7): whether that level was rendered.
    """

    embedding: Tensor
    level: Tensor
    fractured: Tensor
    known: NDArray[np.bool_]


@torch.no_grad()
def embed(network: FractureNet, data: Features) -> Embedded:
    """Run the sequence head over vertebrae and put those of a neck together."""
    network = network.cpu().eval()
    count, views, steps, width = data.features.shape
    embedding, level, _ = network.sequence(data.features.reshape(-1, steps, width))
    embedding, level = embedding.view(count, views, -1), level.view(count, views)
    shape = (int(data.neck.max()) + 1, views, len(CERVICAL))
    found = Embedded(
        torch.zeros(*shape, embedding.shape[-1]),
        torch.zeros(shape),
        torch.zeros(shape[0], shape[2]),
        np.zeros((shape[0], shape[2]), bool),
    )
    found.embedding[data.neck, :, data.level] = embedding
    found.level[data.neck, :, data.level] = level
    found.fractured[data.neck, data.level] = data.fractured
    found.known[data.neck, data.level] = True
    return found


class StudyBatches:
    """Batches of embedded necks, half of them healed: their fractured levels come from sound necks.

    Training necks show a part of their levels, and all of them have fractures. A study shows seven, most of
    them sound, so what is missing is taken from sound vertebrae of that level of other necks. Else the head
    would learn that every study is fractured, and from too few levels how high the highest of seven sound
    ones is. Now and then a study shows a part of the neck only.
    """

    def __init__(self, data: Embedded, size: int, seed: int, partial_view: float = 0.3) -> None:
        self._data, self._size, self._seed, self._partial = data, size, seed, partial_view
        self._broken = data.known & (data.fractured.numpy() > 0)
        self._sound = [np.flatnonzero(column) for column in (data.known & ~self._broken).T]

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step: "embedding" (S, 7, E), "level", "fractured" and "present" (S, 7)."""
        rng = np.random.default_rng([self._seed, step])
        necks, views = self._data.level.shape[:2]
        source = np.stack([self._sources(int(neck), rng) for neck in rng.integers(0, necks, self._size)])
        view, level = rng.integers(0, views, source.shape), np.arange(len(CERVICAL))
        present = torch.from_numpy((source >= 0).astype(np.float32))
        return {
            "embedding": self._data.embedding[source, view, level],
            "level": self._data.level[source, view, level],
            "fractured": self._data.fractured[source, level] * present,
            "present": present,
        }

    def _sources(self, neck: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Which neck each level is taken from, (7,); -1 where it is not seen; one at least is."""
        healed = rng.random() < 0.5
        own = self._data.known[neck] & ~(self._broken[neck] & healed)
        others = [int(rng.choice(sound)) if len(sound) else -1 for sound in self._sound]
        found = np.where(own, neck, others)
        seen = found.copy()
        if rng.random() < self._partial:
            first, last = sorted(rng.integers(0, len(CERVICAL), 2))
            seen[:first] = seen[last + 1 :] = -1
        return seen if (seen >= 0).any() else np.where(self._data.known[neck], neck, -1)
