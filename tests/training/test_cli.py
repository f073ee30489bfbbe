from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cspine import cli


def test_a_bundle_that_is_not_there_is_a_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert cli.main(["train", str(tmp_path / "nothing"), "--data", "phantom:2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cspine: There is no bundle")
    assert said.count("\n") == 1


def test_a_bundle_without_a_train_config_is_exit_code_5(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["train", str(tmp_path)]) == 5
    assert "configs/train.json is missing" in capsys.readouterr().err


def test_what_is_given_overrides_the_config_and_what_is_not_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = {}
    monkeypatch.setattr(
        "cspine.training.recipe.run_config", lambda bundle, config, given: seen.update(given, config=config)
    )
    assert cli.main(["train", str(tmp_path), "--data", "phantom:8", "--minutes", "3", "--out", "here"]) == 0
    assert seen["config"] == "train"
    assert {key: value for key, value in seen.items() if value is not None and key != "config"} == {
        "data": "phantom:8",
        "minutes": 3.0,
        "output": "here",
    }


def test_an_unknown_device_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", str(tmp_path), "--device", "tpu"])
    assert stop.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_monai():
    code = """
import sys
from cspine import cli
try:
    cli.main(["--help"])
except SystemExit:
    print(sorted({"torch", "monai"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
