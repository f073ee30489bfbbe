from __future__ import annotations

import json
import pickle
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, OCCIPUT, THORACIC, Vertebra
from cspine.crops import CropSpec, GridSpec
from cspine.datasets.crop_samples import CropFolder
from cspine.datasets.rsna.prepare import Preparation
from cspine.datasets.rsna.records import Labels, Plan
from cspine.datasets.rsna.resampling import nearest
from cspine.datasets.rsna.spines import SpineSpec
from cspine.datasets.rsna.study import RsnaStudy
from cspine.datasets.rsna.study_samples import StudySamples
from cspine.datasets.rsna.teacher import Teacher
from cspine.errors import UsageError
from cspine.findings import ModelVersion
from cspine.preprocess.geometry import resampling
from cspine.settings import models_dir
from cspine.volume import Grid, SpineMask, Volume

WINDOW = (-500.0, 1300.0)
PLAN = Plan(
    SpineSpec(GridSpec((3.0, 3.0, 3.0), None, WINDOW), (64, 48, 48), without_spine=0.5),
    SpineSpec(GridSpec((2.0, 2.0, 2.0), (96, 80, 64), WINDOW), (96, 64, 64)),
    CropSpec(4, 3, 32, 84.0, 2.0, (-500.0, 1500.0)),
    folds=3,
)


class Knowing:
    """Networks that answer with what was rendered; of 106 they are not sure."""

    root, device = models_dir(), "cpu"
    models = (ModelVersion("knowing", "1", "0" * 64),)

    def __init__(self, small) -> None:
        self._small = small

    def _labels(self, grid: Grid) -> tuple[int, np.ndarray]:
        number = next(n for n, study in self._small.written.items() if study.grid.same_as(grid, 0.01))
        return number, self._small.truth(number)[1]

    def segment(self, volume: Volume) -> SpineMask:
        number, labels = self._labels(volume.grid)
        margins = dict.fromkeys(CERVICAL, 0.3 if number == 106 else 4.0)
        return SpineMask.from_labels(volume.grid, np.where(labels < 8, labels, 0).astype(np.uint8), margins)

    def anchors(self, volume: Volume, grid: Grid) -> np.ndarray:
        _, labels = self._labels(volume.grid)
        return nearest(np.where(labels < 8, 0, labels).astype(np.uint8), resampling(volume.grid, grid))


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(models_dir(), "cpu")


@pytest.fixture(scope="module")
def prepared(small, tmp_path_factory: pytest.TempPathFactory):
    """All studies, prepared, and what became of each by its number."""
    made = Preparation(small.data, tmp_path_factory.mktemp("run"), PLAN, Knowing(small))
    numbers = {study.uid: number for number, study in small.written.items()}
    return made, {numbers[study.uid]: study for study in made.run()}


def test_masks_are_used_where_there_are_any_and_believed_pseudo_labels_elsewhere(prepared):
    _, found = prepared
    kinds = {number: study.labels for number, study in found.items()}
    assert kinds == {
        **dict.fromkeys((101, 102, 103), Labels.MASK),
        **dict.fromkeys((104, 105), Labels.PSEUDO),
        106: Labels.NONE,
    }
    assert "not believed: a level's margin is only 0.30 nats" in found[106].reason
    assert found[104].reason is None


@pytest.mark.parametrize("number", [101, 105])
def test_a_sample_shows_the_levels_with_the_anchors_at_both_ends(prepared, small, number: int):
    made, _ = prepared
    for folder, spec in (("localization", PLAN.localization), ("segmentation", PLAN.segmentation)):
        sample = np.load(made.folder / folder / f"{small.written[number].uid}.npy")
        assert sample.dtype == np.uint8
        assert sample.shape == (2, *spec.shape)
        assert set(np.unique(sample[1])) == set(range(10))
        heights = [np.nonzero(sample[1] == level)[0].mean() for level in range(1, 9)]
        assert heights == sorted(heights, reverse=True)
        assert np.nonzero(sample[1] == OCCIPUT)[0].mean() > heights[2]
        volume_mm3 = (sample[1] == 4).sum() * np.prod(spec.grid.pixdim_mm)
        _, labels, _ = small.truth(number)
        assert volume_mm3 == pytest.approx(
            (labels == 4).sum() * small.written[number].grid.voxel_mm3, rel=0.15
        )
        bright, dark = sample[0][(sample[1] > 0) & (sample[1] < 8)], sample[0][sample[1] == 0]
        assert bright.mean() > dark.mean() + 15


def test_samples_without_a_spine_are_made_in_their_share(prepared):
    made, found = prepared
    usable = sum(study.labels is not Labels.NONE for study in found.values())
    empty = list((made.folder / "localization").glob("*-empty.npy"))
    assert len(empty) == usable  # half of all samples: one for each study
    assert not list((made.folder / "segmentation").glob("*-empty.npy"))
    for path in empty:
        labels = np.load(path)[1]
        assert not ((labels > 0) & (labels < THORACIC)).any()


def test_crops_hold_the_labels_of_the_table_and_where_boxes_show_fractures(prepared, small):
    made, found = prepared
    for study in CropFolder(made.folder / "crops").refresh():
        number = next(n for n, s in small.written.items() if s.uid == study.path.name.removesuffix(".npz"))
        written = small.written[number]
        assert tuple(str(v) for v in study.fractured) == found[number].levels
        for level in CERVICAL:
            if level not in study.fractured:
                continue
            crop = study.load(level)
            assert crop.fractured == (level in written.neck.fractured)
            assert crop.fracture.any() == (crop.fractured and crop.located)
            assert crop.located or crop.fractured
            assert crop.image.shape == (PLAN.crop.planes, 32, 32)
    boxed = CropFolder(made.folder / "crops").refresh()
    assert any(s.load(v).fracture.any() for s in boxed for v, broken in s.fractured.items() if broken)


def test_a_fracture_without_boxes_is_not_located(prepared, small):
    made, found = prepared
    study = next(s for s in CropFolder(made.folder / "crops").refresh() if s.path.name.endswith("105.npz"))
    assert found[105].unlocated == len(small.written[105].neck.fractured)
    for level in small.written[105].neck.fractured:
        assert not study.load(Vertebra(level)).located


def test_the_report_counts_everything(prepared):
    made, found = prepared
    report = json.loads((made.folder / "report.json").read_text())
    assert report["studies"] == 6
    assert sum(report["by_labels"].values()) == 6
    assert report["by_labels"] == {"mask": 3, "pseudo": 2, "none": 1}
    assert set(report["skipped"]) == {s.uid for s in found.values() if s.labels is Labels.NONE}
    assert report["unreadable_slices"] == 0


def test_a_second_run_makes_nothing_again(prepared, small):
    made, found = prepared
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*.np[yz]")}
    again = Preparation(small.data, made.folder, PLAN, Knowing(small))
    assert set(again.run()) == set(found.values())
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*.np[yz]")} == before


@pytest.mark.timeout(900)  # three more processes load torch
def test_a_run_that_was_killed_goes_on_with_two_workers_and_ends_as_if_it_had_not_been(
    copied, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = copied(101, 102, 103)
    Preparation(small.data, tmp_path / "whole", PLAN, teacher).run()
    whole = StudySamples.prepare

    def killed(self: StudySamples, study: RsnaStudy):
        if study.uid == small.written[102].uid:
            raise KeyboardInterrupt
        return whole(self, study)

    monkeypatch.setattr(StudySamples, "prepare", killed)
    with pytest.raises(KeyboardInterrupt):
        Preparation(small.data, tmp_path / "run", PLAN, teacher).run()
    monkeypatch.undo()
    assert len(list((tmp_path / "run/studies").iterdir())) == 1
    Preparation(small.data, tmp_path / "run", PLAN, teacher).run(workers=2)
    written = sorted((tmp_path / "whole").rglob("*.np[yz]"))
    assert len(written) >= 9
    for path in written:
        assert path.read_bytes() == (tmp_path / "run" / path.relative_to(tmp_path / "whole")).read_bytes()


@pytest.mark.parametrize("change", ["seed", "crop", "folds"])
def test_another_config_is_refused_by_what_changed(prepared, small, change: str):
    made, _ = prepared
    other = {"seed": 5, "crop": replace(PLAN.crop, pixels=64), "folds": 4}[change]
    with pytest.raises(UsageError, match=rf"prepared with other settings \({change}\)"):
        Preparation(small.data, made.folder, replace(PLAN, **{change: other}), Knowing(small))


def test_other_data_and_another_teacher_are_refused(prepared, copied, teacher: Teacher):
    made, _ = prepared
    with pytest.raises(UsageError, match=r"other settings \(data, teacher\)"):
        Preparation(copied(101, 102, 103).data, made.folder, PLAN, teacher)


def test_unreadable_studies_and_slices_are_listed_skipped_and_counted(
    copied, teacher: Teacher, tmp_path: Path
):
    small = copied(101, 102, 103)
    (small.study(101).images / "1.dcm").write_bytes(b"cut off")
    hole = small.study(102).images / "30.dcm"
    hole.write_bytes(hole.read_bytes()[:-2000])
    run = Preparation(small.data, tmp_path / "run", PLAN, teacher)
    run.run()
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["slices_left_out"] == {small.written[101].uid: ["1.dcm"]}
    assert list(report["skipped"]) == [small.written[102].uid]
    assert "30.dcm" in report["skipped"][small.written[102].uid]
    assert not list((tmp_path / "run").rglob(f"{small.written[102].uid}.np*"))


FILL = """
import pickle, resource, signal, sys
from pathlib import Path
from cspine.datasets.rsna.prepare import Preparation
from cspine.datasets.rsna.study import RsnaData
from cspine.datasets.rsna.teacher import Teacher
from cspine.errors import OutputError
from cspine.settings import models_dir
plan = pickle.loads(Path(sys.argv[1]).read_bytes())
run = Preparation(RsnaData.open(Path(sys.argv[2])), Path(sys.argv[3]), plan, Teacher(models_dir(), "cpu"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    run.run()
except OutputError as error:
    print(error)
"""


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    copied, teacher: Teacher, tmp_path: Path
):
    small = copied(101, 102, 103)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    (tmp_path / "plan").write_bytes(pickle.dumps(PLAN))
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "plan"), str(small.root), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be written (is the disk full or the folder read-only?)" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not list((tmp_path / "run").rglob("*.np[yz]"))
    assert not list((tmp_path / "run").rglob("*.part"))
    assert len(Preparation(small.data, tmp_path / "run", PLAN, teacher).run()) == 3
