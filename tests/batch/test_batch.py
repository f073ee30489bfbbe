"""Many studies: each as if it were alone, whatever becomes of the others."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cspine.errors import TerminatedError, UsageError
from fracture_map import names
from fracture_map.batch.command import run_batch
from fracture_map.batch.entries import Entry, entries_of
from fracture_map.batch.one import analyse_one
from fracture_map.batch.pool import run_on_machine
from fracture_map.batch.warm import WarmAnalyst
from fracture_map.supervise import StopFlag

STUDIES, BROKEN, PATIENCE_S = 200, 10, 1200


def run(plan, root: Path, out: Path, stop: StopFlag | None = None) -> int:
    flag = stop or StopFlag()
    return run_batch(entries_of(root, out), plan, lambda todo, plan: run_on_machine(todo, plan, flag))


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        return {row["study"]: row for row in csv.DictReader(file)}


def spoil(folder: Path, number: int) -> None:
    """Break a study, each in one of five ways."""
    images = sorted(folder.iterdir())
    match number % 5:
        case 0:
            images[2].unlink()
        case 1:
            images[2].write_bytes(images[2].read_bytes()[:-100])
        case 2:
            for image in images:
                image.unlink()
        case 3:
            (folder / "CRASH").touch()
        case 4:
            for image in images[1:]:
                image.unlink()


CODES = {0: 4, 1: 4, 2: 4, 3: 1, 4: 3}


@pytest.mark.timeout(3000)
def test_a_batch_that_is_killed_goes_on_where_it_stood_and_broken_studies_stay_by_themselves(
    make_study, batch_program, tmp_path
):
    root, out = tmp_path / "root", tmp_path / "out"
    for number in range(STUDIES):
        make_study(root / f"{number:03d}", number)
    broken = {f"{k * STUDIES // BROKEN:03d}": k for k in range(BROKEN)}
    for name, number in broken.items():
        spoil(root / name, number)

    command = (*batch_program, str(root), str(out))
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while len(list(out.glob(f"*/{names.RUN}"))) < STUDIES // 4:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob(f"*/{names.RUN}")}
    assert len(before) < STUDIES
    assert not (out / "results.csv").exists()

    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1, second.stderr  # crashes are worth another attempt
    rows = table(out)
    assert list(rows) == [f"{number:03d}" for number in range(STUDIES)]
    assert {name for name, row in rows.items() if row["exit_code"] != "0"} == set(broken)
    for name, number in broken.items():
        assert int(rows[name]["exit_code"]) == CODES[number % 5], rows[name]
    answered = [path for path in before if rows[path.parent.name]["exit_code"] != "1"]
    assert all(path.stat().st_mtime_ns == before[path] for path in answered)
    assert f"{STUDIES - BROKEN}  complete_no_findings" in second.stdout
    parquet = pq.read_table(out / "results.parquet").to_pylist()
    assert [row["study"] for row in parquet] == list(rows)
    assert {row["probability"] for row in parquet if row["exit_code"] == 0} == {0.25}


def test_one_process_serves_many_studies_and_a_crash_ends_only_its_own(make_study, plan, tmp_path):
    for number, markers in enumerate([(), (), ("CRASH",), (), ()]):
        make_study(tmp_path / "root" / str(number), number, *markers)
    assert run(plan(), tmp_path / "root", tmp_path / "out") == 1
    rows = table(tmp_path / "out")
    assert [row["exit_code"] for row in rows.values()] == ["0", "0", "1", "0", "0"]
    assert "SIGSEGV" in rows["2"]["error"]
    devices = [rows[name]["device"] for name in "0134"]
    assert devices[0] == devices[1] != devices[2] == devices[3]
    assert {path.name for path in (tmp_path / "out" / "2").iterdir()} == {
        names.FINDINGS,
        names.REPORT,
        names.RUN,
    }


def test_a_study_that_takes_too_long_is_ended_and_the_next_begins(make_study, plan, tmp_path):
    root = tmp_path / "root"
    for number, markers in enumerate([(), ("HANG",), ()]):
        make_study(root / str(number), number, *markers)
    analyst = WarmAnalyst(plan().command)
    limits_s = (600.0, 1.0, 600.0)
    rows = [
        analyse_one(entry, plan(timeout_s=limit_s), analyst, StopFlag())
        for entry, limit_s in zip(entries_of(root, tmp_path / "out"), limits_s, strict=True)
    ]
    analyst.close()
    assert [row["exit_code"] for row in rows] == [0, 124, 0]
    assert rows[0]["device"] != rows[2]["device"]  # the process that hung is gone


def test_what_failed_for_reasons_of_the_machine_is_tried_again_and_answers_are_not(
    make_study, plan, tmp_path
):
    root, out = tmp_path / "root", tmp_path / "out"
    make_study(root / "a", 1, "CRASH")
    make_study(root / "b", 2)
    assert run(plan(), root, out) == 1
    made = (out / "b" / names.RUN).stat().st_mtime_ns
    (root / "a" / "CRASH").unlink()
    assert run(plan(), root, out) == 0
    assert (out / "b" / names.RUN).stat().st_mtime_ns == made


def test_a_zip_file_is_a_study_too(make_study, plan, tmp_path):
    folder = make_study(tmp_path / "study", 1)
    root = tmp_path / "root"
    root.mkdir()
    shutil.make_archive(str(root / "a"), "zip", folder)
    assert run(plan(), root, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "a.zip" / names.RUN).read_bytes())["exit_code"] == 0


def test_a_batch_that_is_stopped_leaves_a_table_of_what_it_did(make_study, plan, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    for number in range(3):
        make_study(root / str(number), number)
    stop = StopFlag()

    def run_one(todo, plan):
        for row in run_on_machine(todo, plan, stop):
            stop.signal = 15
            yield row

    with pytest.raises(TerminatedError):
        run_batch(entries_of(root, out), plan(), run_one)
    assert 1 <= len(table(out)) < 3


@pytest.mark.parametrize("out", ["root", "root/inside"])
def test_results_never_go_among_the_studies(tmp_path, out):
    (tmp_path / "root" / "study").mkdir(parents=True)
    with pytest.raises(UsageError, match="OUT must not"):
        entries_of(tmp_path / "root", tmp_path / out)


def test_a_root_without_studies_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "notes.txt").touch()
    with pytest.raises(UsageError, match="neither folders nor zip files"):
        entries_of(tmp_path / "root", tmp_path / "out")


def test_a_folder_without_an_account_of_its_run_is_not_finished(tmp_path):
    entry = Entry(tmp_path / "in", tmp_path / "out")
    assert not entry.is_finished
    entry.target.mkdir()
    (entry.target / names.RUN).write_text("{")
    assert not entry.is_finished
