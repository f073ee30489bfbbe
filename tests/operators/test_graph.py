"""The real Holoscan graph, with functions that cost nothing."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.errors import CspineError, InputError, ModelError, OutputError
from cspine.findings import StudyFindings
from cspine.volume import SpineMask
from cspine_operators import load, writers
from cspine_operators.clock import StageClock
from cspine_operators.outbox import Outbox
from fracture_map import app as app_module
from fracture_map.app import run_graph
from fracture_map.names import REPORT, SEGMENTATION, STAGES, START

STEPS = (
    "read",
    "model_grids",
    "segment",
    "crop",
    "judge",
    "encode_segmentation",
    "encode_report",
    "summarise",
)


def run(steps, folder, tell=None):
    clock = StageClock(tell)
    run_graph(steps, Outbox(folder), clock)
    return clock


def test_a_study_runs_from_reading_to_every_file(steps, tmp_path):
    run(steps(), tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == {SEGMENTATION: b"DICM", REPORT: b"DICM", "findings.json": b"C5", "report.pdf": b"%PDF"}


def test_every_stage_is_told_of_and_timed_once(steps, tmp_path):
    told = []
    clock = run(steps(), tmp_path, told.append)
    stages = set(STAGES) - {START}
    assert set(clock.seconds) == stages
    assert sorted(time.name for time in told if time.seconds is None) == sorted(stages)
    assert sorted(time.name for time in told if time.seconds is not None) == sorted(stages)


def test_findings_carry_the_seconds_of_the_stages_before_them(steps, tmp_path):
    seen = []

    def summarise(series, mask, findings):
        seen.append(findings)
        return steps().summarise(series, mask, findings)

    run(steps(summarise=summarise), tmp_path)
    assert list(seen[0].seconds) == ["read", "preprocess", "segment", "crop", "classify"]


def test_the_report_gets_the_segmentation_that_was_written(steps, tmp_path):
    seen = []

    def encode_report(series, findings, segmentation):
        seen.append(segmentation)
        return steps().encode_report(series, findings, segmentation)

    run(steps(encode_report=encode_report), tmp_path)
    assert [segmentation.SOPInstanceUID for segmentation in seen] == ["1.2.3.4"]


def test_without_a_vertebra_there_is_no_segmentation_and_still_a_report(steps, tmp_path):
    seen = []

    def encode_report(series, findings, segmentation):
        seen.append((findings.failure, segmentation))
        return steps().encode_report(series, findings, segmentation)

    empty = steps(
        segment=lambda grids, volume: SpineMask.from_labels(
            volume.grid, np.zeros(volume.grid.shape, np.uint8)
        ),
        crop=lambda volume, mask: (),
        judge=lambda series, mask, crops: StudyFindings.failed("No cervical vertebra was found."),
        encode_segmentation=lambda series, mask, findings: None,
        encode_report=encode_report,
    )
    run(empty, tmp_path)
    assert seen == [("No cervical vertebra was found.", None)]
    assert not (tmp_path / SEGMENTATION).exists()
    assert (tmp_path / REPORT).exists()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "error", [InputError("The slices differ."), KeyError("x")], ids=["deliberate", "defect"]
)
def test_what_a_stage_raises_leaves_the_graph_as_it_is(steps, tmp_path, step, error):
    def fail(*_):
        raise error

    with pytest.raises(type(error)) as caught:
        run(steps(**{step: fail}), tmp_path)
    assert caught.value is error


@pytest.mark.parametrize(
    ("operator", "silent"),
    [
        (load.LoadOperator, "read"),
        (app_module.PreprocessOperator, "preprocess"),
        (app_module.SegmentOperator, "segment"),
        (app_module.CropOperator, "crop"),
        (app_module.ClassifyOperator, "classify"),
        (writers.WriteSegmentationOperator, "write_segmentation"),
        (writers.WriteReportOperator, "write_report"),
        (writers.WriteSummaryOperator, "write_summary"),
    ],
)
def test_a_stage_that_emits_nothing_is_a_failure_and_not_an_empty_success(
    steps, tmp_path, monkeypatch, operator, silent
):
    def swallow(self, op_input, op_output):
        for port in self.spec.inputs:
            op_input.receive(port)

    monkeypatch.setattr(operator, "work", swallow)
    with pytest.raises(CspineError, match="without a result") as caught:
        run(steps(), tmp_path)
    assert caught.value.exit_code == 1
    if silent.startswith("write_"):
        assert silent in str(caught.value)


def test_an_operator_left_unconnected_is_a_failure(steps, tmp_path, monkeypatch):
    whole = app_module.FractureMap.add_flow

    def forgetful(self, upstream, downstream, ports):
        if ports != {("crops", "crops")}:
            whole(self, upstream, downstream, ports)

    monkeypatch.setattr(app_module.FractureMap, "add_flow", forgetful)
    with pytest.raises(CspineError):
        run(steps(), tmp_path)


def test_a_full_staging_folder_is_an_output_error(steps, tmp_path):
    with pytest.raises(OutputError, match="TMPDIR"):
        run(steps(), tmp_path / "not there")


def test_two_studies_in_one_process_do_not_know_of_each_other(steps, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    def fail(*_):
        raise ModelError("Bundle x is damaged.")

    with pytest.raises(ModelError):
        run(steps(judge=fail), tmp_path / "one")
    run(steps(), tmp_path / "two")
    assert list((tmp_path / "one").iterdir()) == []
    assert len(list((tmp_path / "two").iterdir())) == 4
