"""OUTPUT changes at once or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from cspine.errors import OutputError
from cspine.findings import StudyFindings
from fracture_map import names, publish
from fracture_map.publish import opened_output
from fracture_map.summary import encode_findings


def staged(folder: Path, mark: str, uid: str = "1.2.3", leave_out: tuple[str, ...] = ()) -> dict[str, Path]:
    folder.mkdir(parents=True)
    files = {}
    for name in names.RESULTS:
        if name not in leave_out:
            files[name] = folder / name
            files[name].write_text(f"{mark} {name}")
    files[names.FINDINGS].write_bytes(encode_findings(StudyFindings.failed(mark, uid)))
    return files


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_published_files_equal_the_staged_ones_and_nothing_else_is_there(tmp_path):
    files = staged(tmp_path / "s", "first")
    with opened_output(tmp_path / "a" / "out") as output:
        output.publish(files)
    assert content(tmp_path / "a" / "out") == content(tmp_path / "s")


def test_a_folder_that_was_made_for_nothing_is_taken_away_again(tmp_path):
    with opened_output(tmp_path / "a" / "b" / "out"):
        assert (tmp_path / "a" / "b" / "out").is_dir()
    assert not (tmp_path / "a").exists()


def test_a_second_result_replaces_the_first_and_removes_what_it_lacks(tmp_path):
    with opened_output(tmp_path / "out") as output:
        output.publish(staged(tmp_path / "1", "first"))
    with opened_output(tmp_path / "out") as output:
        output.publish(staged(tmp_path / "2", "second", leave_out=(names.SEGMENTATION,)))
    assert content(tmp_path / "out") == content(tmp_path / "2")


def test_files_of_others_in_the_folder_stay_as_they_are(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with opened_output(tmp_path / "out") as output:
        output.publish(staged(tmp_path / "1", "first"))
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("call", range(12))
def test_whichever_file_operation_finds_the_disk_full_the_folder_is_as_it_was(
    tmp_path, monkeypatch, earlier, call
):
    out = tmp_path / "out"
    out.mkdir()
    if earlier:
        with opened_output(out) as output:
            output.publish(staged(tmp_path / "1", "first"))
    before = content(out)
    new = staged(tmp_path / "2", "second")
    left = [call]

    def failing(real):
        def wrapped(*arguments, **options):
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        return wrapped

    with opened_output(out) as output:
        monkeypatch.setattr(publish.os, "fsync", failing(os.fsync))
        monkeypatch.setattr(publish.Path, "replace", failing(Path.replace))
        with pytest.raises(OutputError, match="No space left"):
            output.publish(new)
        monkeypatch.undo()
    assert content(out) == before


def test_a_disk_that_is_really_full_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        files = staged(tmp_path / "1", "first")
        files[names.SEGMENTATION].write_bytes(bytes(200_000))
        with (
            pytest.raises(OutputError, match="No space left on device"),
            opened_output(disk / "out") as output,
        ):
            output.publish(files)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_in_use_is_refused(tmp_path):
    with (
        opened_output(tmp_path / "out"),
        pytest.raises(OutputError, match="Another run"),
        opened_output(tmp_path / "out"),
    ):
        pass


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"), opened_output(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "x"


def test_results_of_unknown_origin_are_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / names.REPORT).write_bytes(b"someone's")
    with (
        pytest.raises(OutputError, match=r"report\.sr\.dcm but no readable"),
        opened_output(tmp_path / "out"),
    ):
        pass
    assert content(tmp_path / "out") == {names.REPORT: b"someone's"}


def test_another_study_is_refused_and_the_same_is_not(tmp_path):
    with opened_output(tmp_path / "out") as output:
        output.publish(staged(tmp_path / "1", "first", uid="1.2.3"))
    with opened_output(tmp_path / "out") as output:
        output.require_study("1.2.3")
        with pytest.raises(OutputError, match="another study"):
            output.require_study("1.2.4")


def test_leftovers_of_a_killed_run_are_swept_away(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".fracture-map-0123-report.pdf.new").write_bytes(b"half")
    with opened_output(tmp_path / "out") as output:
        output.publish(staged(tmp_path / "1", "first"))
    assert sorted(content(tmp_path / "out")) == sorted(names.RESULTS)
    assert json.loads((tmp_path / "out" / names.FINDINGS).read_bytes())["failure"] == "first"
