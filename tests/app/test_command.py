"""The command as a caller sees it: exit code, standard output, one line on standard error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fracture_map import names
from fracture_map.__main__ import arguments_of
from fracture_map.cli import main
from fracture_map.summary import encode_checked

COMMAND = Path(__file__).parent / "programs" / "command.py"


@pytest.fixture
def command(study, tmp_path):
    """Run the command in a process of its own, as the shell would."""

    def run(behaviour, *options, **environment):
        arguments = [sys.executable, str(COMMAND), behaviour, study.study_uid]
        arguments += ["run", str(study.folder), str(tmp_path / "out"), *options]
        return subprocess.run(
            arguments, capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )

    return run


def test_a_finished_study_prints_its_levels_and_where_the_files_are(command, tmp_path):
    done = command("done")
    assert done.returncode == 0
    assert done.stderr == ""
    for level in ("C1", "C2", "C3", "C4", "C5", "C6", "C7"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(level)]
        assert line.split() == [level, "complete", "0.12", "absent"]
    for name in names.RESULTS:
        assert str(tmp_path / "out" / name) in done.stdout
    assert "not a medical device" in done.stdout


def test_json_is_the_only_thing_on_standard_output(command, tmp_path):
    done = command("done", "--format", "json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / names.FINDINGS).read_bytes())
    assert encode_checked(json.loads(done.stdout))
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [("input-error", 4), ("model-error", 5), ("no-spine", 3), ("defect", 1), ("segfault", 1), ("killed", 1)],
)
def test_a_failure_is_its_exit_code_and_one_line(command, behaviour, code):
    done = command(behaviour)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("fracture-map: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_failure_is_json_for_machines(command):
    done = command("model-error", "--format", "json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["outcome"] == "failed"


def test_the_time_limit_is_exit_code_124(command):
    done = command("hang", "--timeout", "1")
    assert done.returncode == 124
    assert "time limit of 1 s" in done.stderr


@pytest.mark.parametrize("behaviour", ["done", "defect", "input-error", "segfault", "no-spine"])
@pytest.mark.parametrize("form", ["table", "json"])
def test_nothing_of_the_patient_is_printed(command, study, behaviour, form):
    done = command(behaviour, "--format", form)
    assert not [secret for secret in study.secrets if secret in done.stdout + done.stderr]


def test_debugging_shows_the_traceback_of_the_analysis(command):
    done = command("defect", FRACTURE_MAP_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_is_exit_code_143_and_leaves_nothing(study, tmp_path, number):
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    arguments = [sys.executable, str(COMMAND), "hang", study.study_uid]
    process = subprocess.Popen(
        [*arguments, "run", str(study.folder), str(tmp_path / "a" / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FAKE_READY": str(ready), "TMPDIR": str(tmp_path)},
    )
    ready.read_bytes()  # returns when the analysis is in the middle of its work
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out == ""
    assert error.splitlines() == [
        f"fracture-map: Stopped by {number.name} before the study was done; no result was left."
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "ready"]


def test_the_analysis_ends_even_when_the_command_is_killed(study, tmp_path):
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    arguments = [sys.executable, str(COMMAND), "hang", study.study_uid]
    process = subprocess.Popen(
        [*arguments, "run", str(study.folder), str(tmp_path / "out")],
        env={**os.environ, "FAKE_READY": str(ready)},
    )
    ready.read_bytes()
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert children
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]


def test_an_output_larger_than_the_system_allows_leaves_nothing(study, tmp_path):
    arguments = [sys.executable, str(COMMAND), "done", study.study_uid]
    arguments += ["run", str(study.folder), str(tmp_path / "out")]
    done = subprocess.run(
        ["prlimit", "--fsize=1000", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert "File too large" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "in"],
        ["run", "in", "out", "--device", "tpu"],
        ["run", "in", "out", "--timeout", "-1"],
        ["run", "in", "out", "--timeout", "nan"],
        ["stroll"],
        [],
    ],
)
def test_a_wrong_call_is_exit_code_2_in_one_line(capsys, arguments):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "--help" in printed.err


def test_help_and_start_need_none_of_the_heavy_libraries():
    program = (
        "import sys, fracture_map.cli, fracture_map.study\n"
        "sys.exit(sorted({'torch', 'monai', 'holoscan', 'numpy', 'pydicom', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_without_arguments_the_paths_of_the_map_convention_are_used():
    paths = {"HOLOSCAN_INPUT_PATH": "/var/holoscan/input", "HOLOSCAN_OUTPUT_PATH": "/var/holoscan/output"}
    assert arguments_of([], paths) == ["run", "/var/holoscan/input", "/var/holoscan/output"]
    assert arguments_of(["info"], paths) == ["info"]
    assert arguments_of([], {}) == []


def test_info_names_bundles_versions_devices_and_codecs(capsys, tmp_path):
    assert main(["info", "--json", "--models", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [bundle["name"] for bundle in found["bundles"]] == [
        "cspine_ct_localization",
        "cspine_ct_segmentation",
        "cspine_ct_fracture_classification",
    ]
    assert all("no such folder" in bundle["problem"] for bundle in found["bundles"])
    assert found["devices"][0] == "cpu"
    assert all(found["codecs"].values())
    assert found["packages"]["holoscan-cu13"] == "4.2.0"
