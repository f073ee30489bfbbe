"""The entry script by itself: what it prints, what it runs, what it returns."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from fracture_map.map import layout

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "map" / "tools"


@pytest.fixture
def entry(map_root, tmp_path):
    """Run the script with a `python3` that prints its arguments and returns the code CODE."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit "$CODE"\n')
    python.chmod(0o755)

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "CODE": str(code),
            "HOLOSCAN_APP_MANIFEST_PATH": str(map_root.path(layout.APP_JSON)),
            "HOLOSCAN_PKG_MANIFEST_PATH": str(map_root.path(layout.PKG_JSON)),
        }
        command = ["sh", str(SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run


def test_show_prints_a_manifest_as_it_is(entry, map_root):
    for name, path in (("app", layout.APP_JSON), ("pkg", layout.PKG_JSON)):
        done = entry("show", name)
        assert done.returncode == 0
        assert json.loads(done.stdout) == json.loads(map_root.path(path).read_text())


def test_show_alone_prints_both(entry, map_root):
    done = entry("show")
    assert done.returncode == 0
    for path in (layout.APP_JSON, layout.PKG_JSON):
        assert map_root.path(path).read_text() in done.stdout


def test_show_of_something_else_is_exit_code_2(entry):
    done = entry("show", "all of it")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_show_without_a_manifest_is_a_failure(entry, map_root):
    map_root.path(layout.APP_JSON).unlink()
    assert entry("show").returncode != 0


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5, 6, 124, 143])
def test_the_exit_code_is_the_application_s(entry, code):
    assert entry(code=code).returncode == code


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [((), ""), (("",), ""), (("info", "--json"), "info|--json|"), (("run", "a b", ""), "run|a b||")],
)
def test_arguments_reach_the_application_unchanged(entry, arguments, passed):
    assert entry(*arguments).stdout == f"-m|fracture_map|{passed}"


def test_env_prints_the_environment(entry):
    assert "CODE=7\n" in entry("env", code=7).stdout


def test_help_names_every_command(entry):
    printed = entry("help").stdout
    assert all(command in printed for command in ("show", "extract", "env", "fracture-map"))


def test_extract_without_a_mounted_folder_is_exit_code_2(entry):
    if Path(layout.EXPORT).exists():
        pytest.skip(f"this machine has a folder {layout.EXPORT}")
    done = entry("extract")
    assert done.returncode == 2
    assert layout.EXPORT in done.stderr
