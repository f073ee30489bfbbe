"""One study: read, labelled, and cut into samples."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import THORACIC
from cspine.datasets.crop_samples import save_crops
from cspine.datasets.rsna.crops import Truth, labelled_crops
from cspine.datasets.rsna.records import Labels, Plan, Prepared
from cspine.datasets.rsna.spines import spine_sample
from cspine.datasets.rsna.study import RsnaCt, RsnaStudy
from cspine.datasets.rsna.teacher import Teacher, doubts
from cspine.datasets.spine_samples import Sample, without_cervical
from cspine.errors import InputError, NoUsableSeriesError
from cspine.settings import LOCALIZATION, SEGMENTATION
from cspine.volume import SpineMask, Visibility
from cspine.whole_files import write_whole

CROPS: Final = "crops"
FOLDER_OF: Final = {LOCALIZATION: "localization", SEGMENTATION: "segmentation"}


class StudySamples:
    """Writes the samples of studies into a folder.

    Args:
        folder: where to write.
        plan: what to make.
        teacher: segments the studies without a mask.
        threads: for decoding.
    """

    def __init__(self, folder: Path, plan: Plan, teacher: Teacher, threads: int) -> None:
        self.folder, self._plan, self._teacher, self._threads = folder, plan, teacher, threads

    def prepare(self, study: RsnaStudy) -> Prepared:
        """Write the samples of a study; what is wrong with it is said in what is returned.

        Raises:
            OutputError: they cannot be written.
        """
        try:
            ct = study.read(self._threads)
        except (InputError, NoUsableSeriesError) as error:
            return Prepared(study.uid, Labels.NONE, str(error))
        labels, mask, doubt = self._vertebrae(ct)
        if mask is None:
            return Prepared(study.uid, Labels.NONE, doubt, (), ct.unreadable, ct.lost_boxes)
        kind = Labels.PSEUDO if ct.labels is None else Labels.MASK
        rng = np.random.default_rng([self._plan.seed, *study.uid.encode()])
        self._write_spines(study.uid, ct, labels, rng)
        truth = Truth(study.fractured, ct.boxes)
        crops = labelled_crops(ct.series.volume, mask, truth, self._plan.crop, rng)
        (self.folder / CROPS).mkdir(exist_ok=True)
        save_crops(crops, self.folder / CROPS / f"{study.uid}.npz")
        return Prepared(
            study.uid,
            kind,
            levels=tuple(str(crop.level) for crop in crops),
            unreadable=ct.unreadable,
            lost_boxes=ct.lost_boxes,
            unlocated=sum(not crop.located for crop in crops),
        )

    def _vertebrae(self, ct: RsnaCt) -> tuple[NDArray[np.uint8], SpineMask | None, str | None]:
        """Labels on the CT's grid and the cervical ones as a mask, or why there is none."""
        volume = ct.series.volume
        if ct.labels is not None:
            cervical = np.where(ct.labels < THORACIC, ct.labels, np.uint8(0))
            mask = SpineMask.from_labels(volume.grid, cervical)
            if all(found.visibility is Visibility.ABSENT for found in mask.levels):
                return ct.labels, None, "The mask shows no cervical vertebra."
            return ct.labels, mask, None
        mask = self._teacher.segment(volume)
        doubt = doubts(mask)
        if doubt is not None:
            return mask.labels, None, f"No mask, and the networks' own is not believed: {doubt}."
        return mask.labels, mask, None

    def _write_spines(
        self, uid: str, ct: RsnaCt, labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> None:
        specs = {LOCALIZATION: self._plan.localization, SEGMENTATION: self._plan.segmentation}
        for bundle, spec in specs.items():
            folder, true = self.folder / FOLDER_OF[bundle], ct.labels is not None
            sample = spine_sample(ct.series.volume, labels, spec, self._teacher, true=true)
            _save(folder / f"{uid}.npy", sample)
            if spec.empty(rng):
                low_end = bool(rng.random() < 0.5)
                _save(folder / f"{uid}-empty.npy", without_cervical(sample, rng, low_end=low_end))


def _save(path: Path, sample: Sample) -> None:
    write_whole(path, lambda file: np.save(file, sample))
