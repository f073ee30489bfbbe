from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cspine import cli
from cspine.errors import UsageError
from cspine.evaluation import intervals, phantom_cases
from cspine.evaluation.command import Evaluation
from cspine.settings import CLASSIFICATION, models_dir


def test_the_whole_method_is_measured_by_one_command_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(intervals, "REPEATS", 20)
    monkeypatch.setattr(phantom_cases, "PIXEL_MM", 1.4)
    monkeypatch.setattr(phantom_cases, "PIXELS", 112)
    monkeypatch.setattr(phantom_cases, "MIN_STEP_MM", 2.5)
    command = ["evaluate", "--data", "phantom:1", "--shifted", "--out", str(tmp_path), "--device", "cpu"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "phantom-shifted: 1 cases, 0 failed"
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert [entry["name"] for entry in metrics["sets"]] == ["phantom-shifted"]
    assert {model["name"] for model in metrics["models"]} >= {CLASSIFICATION}
    assert metrics["device"] == "cpu"

    # Again: nothing is measured twice. With another classifier: refused.
    (result,) = (tmp_path / "results" / "phantom-shifted").glob("phantom-*.json")
    before = result.stat().st_mtime_ns
    assert cli.main(command) == 0
    assert result.stat().st_mtime_ns == before
    models = tmp_path / "models"
    shutil.copytree(models_dir(), models)
    metadata = models / CLASSIFICATION / "configs" / "metadata.json"
    content = json.loads(metadata.read_text("utf-8"))
    content["cspine"]["operating_points"]["balanced"]["level"] = 0.123
    metadata.write_text(json.dumps(content), "utf-8")
    capsys.readouterr()
    assert cli.main([*command, "--models", str(models)]) == 2
    assert "holds an evaluation of other networks or operating points" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["phantom", "phantom:0", "phantom:x", "ct:3", ""])
def test_data_that_are_not_understood_are_a_sentence(data: str, tmp_path: Path):
    with pytest.raises(UsageError, match="are not understood: write phantom:COUNT"):
        Evaluation(tmp_path, data, tmp_path).sources()


def test_both_domains_are_measured_unless_one_is_asked_for(tmp_path: Path):
    both = Evaluation(tmp_path, "phantom:3", tmp_path).sources()
    assert [source.name for source in both] == ["phantom-default", "phantom-shifted"]


@pytest.mark.parametrize("given", [[], ["--data", "phantom:1"], ["--out", "x"]])
def test_without_cases_or_a_folder_for_results_it_says_what_is_missing(
    given: list[str], capsys: pytest.CaptureFixture
):
    assert cli.main(["evaluate", *given]) == 2
    assert "Name the cases and the output folder" in capsys.readouterr().err


def test_models_that_are_not_there_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture):
    command = ["evaluate", "--data", "phantom:1", "--out", str(tmp_path / "out"), "--models", str(tmp_path)]
    assert cli.main(command) == 5
    assert "there is no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_of_the_whole_method_are_refused_for_one_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert cli.main(["evaluate", str(tmp_path), "--models", "x"]) == 2
    assert "--models belongs to the evaluation of the whole method" in capsys.readouterr().err
