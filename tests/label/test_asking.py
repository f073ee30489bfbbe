"""Leases, strategies, scores, outbox and shelf, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.settings import BUNDLES
from cspine.volume import Grid, SpineMask
from cspine_label.errors import ConflictError, PacsError, RefusedLabelError, UnknownNameError
from cspine_label.leases import Leases
from cspine_label.outbox import Outbox, Upload
from cspine_label.scores import dice_by_level, mean_dice, sanity
from cspine_label.shelf import Shelf
from cspine_label.strategies import choose


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_keeps_a_case_from_others_until_it_ends(tmp_path):
    clock = Clock()
    leases = Leases(tmp_path / "leases.json", 60, clock)
    assert leases.take("a", "ann")
    assert not leases.take("a", "bob")
    assert leases.free_for("bob", ("a", "b")) == ("b",)
    clock.now += 61
    assert leases.take("a", "bob")


def test_whoever_takes_another_case_gives_the_former_back(tmp_path):
    leases = Leases(tmp_path / "leases.json")
    leases.take("a", "ann")
    leases.take("b", "ann")
    assert leases.holder("a") is None
    assert leases.holder("b") == "ann"


def test_leases_outlive_the_server(tmp_path):
    Leases(tmp_path / "leases.json").take("a", "ann")
    assert Leases(tmp_path / "leases.json").all() == {"a": "ann"}


def test_the_ranking_strategies_take_the_least_sure_case_and_say_what_is_not_scored():
    choice = choose("uncertainty", ("a", "b", "c"), {"a": 0.2, "b": 0.7})
    assert (choice.case_id, choice.score) == ("b", 0.7)
    assert "1 of 3 cases are not scored" in choice.note
    assert "No case is scored" in choose("tta", ("a", "b"), {}).note


def test_first_and_random_take_a_free_case_and_none_is_none():
    assert choose("first", ("a", "b"), {}).case_id == "a"
    assert {choose("random", ("a", "b"), {}).case_id for _ in range(60)} == {"a", "b"}
    assert choose("first", (), {}) is None


def test_an_unknown_strategy_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="'best'"):
        choose("best", ("a",), {})


def _mask(levels=CERVICAL, shift: int = 0) -> SpineMask:
    labels = np.zeros((75, 30, 30), np.uint8)
    for vertebra in levels:
        top = 2 + 9 * (8 - int(vertebra)) + shift
        labels[top - 7 : top, 8:22, 8:22] = vertebra
    affine = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
    return SpineMask.from_labels(Grid(labels.shape, affine), labels)


def test_dice_is_of_levels_and_never_above_one():
    whole, part = _mask(), _mask(CERVICAL[2:])
    dice = dice_by_level(part, whole)
    assert dice == {v: float(v >= Vertebra.C3) for v in CERVICAL}
    assert mean_dice(dice) == pytest.approx(5 / 7)
    assert mean_dice({}) is None
    assert all(0 < value < 1 for value in dice_by_level(_mask(shift=2), whole).values())


def test_a_whole_spine_is_sane_and_a_gap_or_a_wrong_order_is_not():
    assert sanity(_mask()).score == 1.0
    gap = sanity(_mask([v for v in CERVICAL if v is not Vertebra.C4]))
    assert "Between C3 and C5 a level is not drawn." in gap.remarks
    assert 0 < gap.score < 1
    swapped = _mask().labels.copy()
    swapped[_mask().labels == 3], swapped[_mask().labels == 4] = 4, 3
    assert "C4 does not lie below C3." in sanity(SpineMask.from_labels(_mask().grid, swapped)).remarks


class Pacs:
    """Takes what it is sent, unless it is told to fail."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.got: list[str] = []

    def __call__(self, upload: Upload) -> str:
        if self.failure:
            raise self.failure
        self.got.append(f"{upload.case_id} {upload.file.read_text()}")
        return "sent"


@pytest.fixture
def upload(tmp_path):
    def make(case: str, text: str) -> Upload:
        path = tmp_path / "upload.nii.gz"
        path.write_text(text)
        return Upload(case, "final", path, "ann", {"label_info": [{"name": "C3", "idx": 1}]})

    return make


def test_what_the_pacs_does_not_take_waits_on_disk_and_is_sent_in_order(tmp_path, upload):
    pacs = Pacs()
    pacs.failure = PacsError("The PACS does not answer.")
    for case in ("a", "b"):
        with pytest.raises(PacsError):
            Outbox(tmp_path / "out", pacs).send(Outbox(tmp_path / "out", pacs).keep(upload(case, "one")))
    pacs.failure = None
    later = Outbox(tmp_path / "out", pacs)
    assert [entry["case"] for entry in later.waiting()] == ["a", "b"]
    assert later.send_all() == 2
    assert pacs.got == ["a one", "b one"]
    assert later.entries() == []


def test_a_newer_label_of_a_case_replaces_the_one_that_waits(tmp_path, upload):
    pacs = Pacs()
    box = Outbox(tmp_path / "out", pacs)
    box.keep(upload("a", "old"))
    box.keep(upload("a", "new"))
    box.send_all()
    assert pacs.got == ["a new"]
    assert [path.read_text() for path in (tmp_path / "out" / "superseded").rglob("label.nii.gz")] == ["old"]


def test_what_is_refused_after_waiting_is_set_aside_with_the_reason(tmp_path, upload):
    pacs = Pacs()
    box = Outbox(tmp_path / "out", pacs)
    box.keep(upload("a", "wrong"))
    pacs.failure = RefusedLabelError("The label is empty.")
    assert box.send_all() == 0
    assert [entry["refused"] for entry in box.waiting()] == ["The label is empty."]


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    for name in BUNDLES:
        (tmp_path / "bundles" / name).mkdir(parents=True)
        (tmp_path / "bundles" / name / "weights").write_text("released")
    return Shelf(tmp_path / "bundles", tmp_path / "workspace")


def _evaluated(folder: Path, mean: float, model: str = BUNDLES[1]) -> None:
    content = {"model": model, "reference": {"mean": 0.8}, "candidate": {"mean": mean}}
    (folder / "evaluation.json").write_text(json.dumps(content))


def test_only_an_explicit_act_puts_a_candidate_into_use_and_the_released_weights_stay(shelf):
    folder = shelf.new_candidate("20261121-120000")
    _evaluated(folder, 0.9)
    (folder / "bundles" / BUNDLES[1] / "weights").write_text("trained")
    assert shelf.active == "released"
    shelf.promote("20261121-120000")
    assert (shelf.root(shelf.active) / BUNDLES[1] / "weights").read_text() == "trained"
    assert (shelf.released / BUNDLES[1] / "weights").read_text() == "released"
    shelf.promote("released")
    assert shelf.root(shelf.active) == shelf.released


def test_a_worse_candidate_is_promoted_only_on_demand(shelf):
    _evaluated(shelf.new_candidate("20261121-120000"), 0.7)
    with pytest.raises(ConflictError, match="does worse on the validation set"):
        shelf.promote("20261121-120000")
    shelf.promote("20261121-120000", even_if_worse=True)
    assert shelf.active == "20261121-120000"


def test_promoting_one_network_leaves_the_other_as_it_is_in_use(shelf):
    for name, model in (("20261121-120000", BUNDLES[1]), ("20261121-120001", BUNDLES[2])):
        folder = shelf.new_candidate(name)
        (folder / "bundles" / model / "weights").write_text(f"trained {name}")
        _evaluated(folder, 0.9, model)
    shelf.promote("20261121-120000")
    shelf.promote("20261121-120001")
    in_use = [(shelf.root(shelf.active) / name / "weights").read_text() for name in BUNDLES]
    assert in_use == ["released", "trained 20261121-120000", "trained 20261121-120001"]
    again = shelf.new_candidate("20261121-120002")
    assert [(again / "bundles" / name / "weights").read_text() for name in BUNDLES] == in_use


def test_a_candidate_without_evaluation_cannot_be_promoted_and_is_dropped_at_the_next_start(shelf):
    folder = shelf.new_candidate("20261121-120000")
    with pytest.raises(UnknownNameError):
        shelf.promote("20261121-120000")
    assert shelf.drop_unfinished() == ["20261121-120000"]
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../../etc", "", "20261121-120000/..", "latest"])
def test_a_path_is_no_candidate(shelf, name):
    with pytest.raises(UnknownNameError):
        shelf.promote(name)
