"""Training on RSNA 2022, fold by fold: copies of the bundles, and the samples that each fold may see.

::

    RUN/fold-0/bundles/<three bundles>      configs of the profile, then the weights trained here
    RUN/fold-0/data/<bundle>/               links to the samples of RUN that this fold may see
    RUN/fold-0/training/<bundle>/           checkpoints
    RUN/fold-0/evaluation/                  metrics.json and report.pdf on the studies held out

A profile is a choice of the bundles' own train configs. Larger networks are the section "variant" of such a
config, not other code: "network" replaces the bundle's network, "grid" or "crop" what it sees. The bundles
that came along are never written to.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cspine.datasets.rsna.folds import Split
from cspine.datasets.rsna.records import Labels, Plan, Prepared
from cspine.datasets.rsna.spines import SpineSpec
from cspine.datasets.rsna.study_samples import CROPS, FOLDER_OF
from cspine.errors import InputError, OutputError, UsageError
from cspine.evaluation.command import METRICS
from cspine.models.bundle import INFERENCE, METADATA, WEIGHTS, Bundle, grid_spec_of, read_json
from cspine.settings import BUNDLES, CLASSIFICATION, LOCALIZATION, SEGMENTATION
from cspine.training.recipe import run_config
from cspine.whole_files import write_json, write_text

log = logging.getLogger(__name__)

PROFILES: Final[Mapping[str, Mapping[str, str]]] = {
    "compact": {LOCALIZATION: "train", SEGMENTATION: "train", CLASSIFICATION: "train"},
    # To find the neck, the small network is enough.
    "full": {LOCALIZATION: "train", SEGMENTATION: "train_rsna", CLASSIFICATION: "train_rsna"},
}
"""The train config of each bundle, by profile."""
TRAIN: Final = Path("configs/train.json")
FILES: Final = {"train": TRAIN, "inference": INFERENCE, "metadata": METADATA}
DONE: Final = "done.json"
CARD: Final = """# {name}, trained on RSNA 2022

The weights in this folder were trained on the RSNA 2022 Cervical Spine Fracture Detection data (fold {fold},
profile "{profile}"). These data may be used for non-commercial and academic purposes only: read their terms
before you pass the weights on. For research only, not a medical device, not for diagnosis.

The configs are those of the bundle of the same name that comes with Fracture Map, with the profile's changes.
"""


@dataclass(frozen=True)
class Profile:
    """The bundles of a folder as one profile wants them.

    Attributes:
        models: folder of the three bundles.
        name: of the profile, a key of `PROFILES`.
    """

    models: Path
    name: str

    def configs(self, bundle: str) -> dict[str, dict[str, Any]]:
        """The configs "train", "inference" and "metadata" of a bundle, with the profile's variant.

        Raises:
            ModelError: a config is missing or malformed.
        """
        root = self.models / bundle
        train = read_json(root, self._train(bundle))
        found = {
            "train": train,
            "inference": read_json(root, INFERENCE),
            "metadata": read_json(root, METADATA),
        }
        variant = train.pop("variant", None)
        if variant is not None:
            train["training"]["bundle"] = "@bundle_root"
            found["inference"]["network_def"] = variant["network"]
            found["metadata"]["cspine"] |= {n: variant[n] for n in ("grid", "crop") if n in variant}
            if "grid" in variant:
                _see_alike(found["inference"], variant["grid"])
        return found

    def has_other_network(self, bundle: str) -> bool:
        """Whether the profile's network is another than the one whose weights the bundle holds."""
        return "variant" in read_json(self.models / bundle, self._train(bundle))

    def plan(self, *, folds: int, seed: int) -> Plan:
        """What the samples for these bundles are like."""
        metadata = self.configs(CLASSIFICATION)["metadata"]
        crop = Bundle(self.models / CLASSIFICATION, CLASSIFICATION, "", "", metadata).crop_spec()
        return Plan(self._spine(LOCALIZATION), self._spine(SEGMENTATION), crop, folds, seed)

    def _spine(self, bundle: str) -> SpineSpec:
        configs = self.configs(bundle)
        data = configs["train"]["spine_data"]
        slices, rows, columns = (int(n) for n in data["sample_shape"])
        grid = grid_spec_of(bundle, configs["metadata"])
        return SpineSpec(grid, (slices, rows, columns), float(data.get("without_spine", 0.0)))

    def _train(self, bundle: str) -> Path:
        return Path("configs") / f"{PROFILES[self.name][bundle]}.json"


def _see_alike(inference: dict[str, Any], grid: Mapping[str, Any]) -> None:
    """Have the inference config resample and cut as the grid says."""
    steps = {step["_target_"].rpartition(".")[2]: step for step in inference["preprocessing"]["transforms"]}
    steps["Spacingd"]["pixdim"] = grid["pixdim_mm"]
    low, high = grid["window_hu"]
    steps["ScaleIntensityRanged"] |= {"a_min": low, "a_max": high}
    if grid["patch"] is not None:
        inference["inferer"]["roi_size"] = grid["patch"]


@dataclass(frozen=True)
class Fold:
    """One fold of a run.

    Attributes:
        run: the prepared folder.
        number: of the fold.
        split: its studies.
    """

    run: Path
    number: int
    split: Split

    @property
    def folder(self) -> Path:
        """Everything of this fold."""
        return self.run / f"fold-{self.number}"

    @property
    def models(self) -> Path:
        """Its three bundles."""
        return self.folder / "bundles"

    @property
    def metrics(self) -> Path:
        """What its evaluation found."""
        return self.folder / "evaluation" / METRICS

    def result(self, uid: str) -> Path:
        """What its evaluation found of one study."""
        return self.metrics.parent / "results" / f"rsna-{self.folder.name}" / f"{uid}.json"

    def data(self, bundle: str) -> str:
        """What its bundle is trained on, as ``cspine train --data`` takes it."""
        return f"{'crops' if bundle == CLASSIFICATION else 'samples'}:{self.folder / 'data' / bundle}"


def make_bundles(profile: Profile, fold: Fold) -> None:
    """Copy the bundles for a fold, with the profile's configs and without weights.

    Raises:
        UsageError: the fold was begun with other configs.
        ModelError: a bundle is incomplete.
        OutputError: it cannot be written.
    """
    for bundle in BUNDLES:
        target = fold.models / bundle
        wanted = profile.configs(bundle)
        if (target / METADATA).exists():
            there = {name: read_json(target, FILES[name]) for name in ("train", "inference")}
            if any(there[name] != wanted[name] for name in there):
                raise UsageError(
                    f"'{target}' was begun with another config: name another output folder or remove it."
                )
            continue
        try:
            (target / "docs").mkdir(parents=True, exist_ok=True)
            shutil.copy(profile.models / bundle / "LICENSE", target / "LICENSE")
            card = CARD.format(name=wanted["metadata"]["name"], fold=fold.number, profile=profile.name)
            write_text(card.rstrip("\n"), target / "docs/README.md")
        except OSError as error:
            raise OutputError(f"'{target}' cannot be written ({error.strerror}); make room.") from error
        wanted["metadata"] |= {"data_source": "RSNA 2022 Cervical Spine Fracture Detection", "changelog": {}}
        for name, content in wanted.items():
            write_json(target / FILES[name], content)


def link_samples(fold: Fold, studies: Sequence[Prepared]) -> None:
    """Link the samples of a fold's training and calibration studies to where training looks for them.

    Raises:
        InputError: there are too few studies with vertebrae.
        OutputError: the links cannot be made.
    """
    usable = {study.uid for study in studies if study.labels is not Labels.NONE}
    training, calibration = (
        [uid for uid in uids if uid in usable] for uids in (fold.split.training, fold.split.calibration)
    )
    if not training or not calibration:
        raise InputError(
            f"Fold {fold.number} has {len(training)} studies with vertebrae to train on and "
            f"{len(calibration)} to calibrate on; report.json says why the others were skipped."
        )
    for bundle, name in FOLDER_OF.items():
        files = [path for uid in training for path in sorted((fold.run / name).glob(f"{uid}*.npy"))]
        names = [f"{number:07d}.npy" for number in range(len(files))]
        _link(fold.folder / "data" / bundle, dict(zip(names, files, strict=True)))
    crops = fold.folder / "data" / CLASSIFICATION
    for part, uids in (("training", training), ("calibration", calibration)):
        _link(crops / part, {f"{uid}.npz": fold.run / CROPS / f"{uid}.npz" for uid in uids})


def train_fold(profile: Profile, fold: Fold, options: Mapping[str, Any]) -> None:
    """Train the three bundles of a fold, each from its weights in `profile.models` where they fit.

    Args:
        profile: what is trained.
        fold: on which studies; its bundles and links are there.
        options: settings of the train configs: "steps", "minutes", "device", "tensorboard", "seed"; None
            leaves the config's own.

    Raises:
        CspineError: as training does.
    """
    for bundle in BUNDLES:
        output = fold.folder / "training" / bundle
        if _finished(output / DONE, options):
            continue
        log.info("fold %d: training %s", fold.number, bundle)
        weights = profile.models / bundle / WEIGHTS
        initial = None if profile.has_other_network(bundle) else str(weights)
        given = {"data": fold.data(bundle), "output": str(output), "initial": initial}
        run_config(fold.models / bundle, "train", given | dict(options))
        write_json(output / DONE, dict(options))


def _finished(path: Path, options: Mapping[str, Any]) -> bool:
    return path.exists() and json.loads(path.read_text("utf-8")) == json.loads(json.dumps(dict(options)))


def _link(folder: Path, targets: Mapping[str, Path]) -> None:
    """Make a folder hold exactly these links, relative so that the run can be moved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.name not in targets:
                path.unlink()
        for name, target in targets.items():
            link = folder / name
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(target, folder))
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be written ({error.strerror}); make room.") from error
