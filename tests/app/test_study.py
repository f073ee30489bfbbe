"""One study under supervision: every way in which the analysing process can end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cspine.errors import (
    CspineError,
    InputError,
    ModelError,
    NoUsableSeriesError,
    OutputError,
    TerminatedError,
    TimeLimitError,
    UsageError,
)
from fracture_map import names
from fracture_map.messages import StageMessage
from fracture_map.publish import opened_output
from fracture_map.supervise import StopFlag


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_finished_study_is_published_whole(run, tmp_path):
    result = run("done")
    assert result.error is None
    assert names_in(tmp_path / "out") == set(names.RESULTS)
    assert result.findings is not None
    assert result.findings["outcome"] == "complete_no_findings"


def test_run_json_accounts_for_the_run_and_hashes_every_other_file(run, tmp_path, study):
    run("done")
    account = json.loads((tmp_path / "out" / names.RUN).read_bytes())
    assert account["exit_code"] == 0
    assert account["device"] == "cpu"
    assert account["seconds"]["read"] == 0.25
    assert account["left_out"] == [{"count": 2, "reason": "They are localizers."}]
    assert account["warnings"] == ["The slices are thick."]
    assert account["study_sha256"] == hashlib.sha256(study.study_uid.encode()).hexdigest()
    hashes = {name: entry["sha256"] for name, entry in account["files"].items()}
    assert hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "out").iterdir()
        if path.name != names.RUN
    }


def test_a_study_without_a_spine_is_published_with_exit_code_3(run, tmp_path):
    result = run("no-spine")
    assert isinstance(result.error, NoUsableSeriesError)
    assert names_in(tmp_path / "out") == set(names.RESULTS) - {names.SEGMENTATION}
    assert json.loads((tmp_path / "out" / names.RUN).read_bytes())["exit_code"] == 3


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ("input-error", InputError, "A slice is truncated; send the study again"),
        ("model-error", ModelError, "the weights are missing"),
        ("defect", CspineError, "KeyError"),
        ("segfault", CspineError, "SIGSEGV"),
        ("abort", CspineError, "SIGABRT"),
        ("killed", CspineError, "memory"),
        ("silent", CspineError, "without a result"),
        ("exit-3-without-a-word", CspineError, "exit code 3"),
        ("babble", CspineError, "not understood"),
    ],
)
def test_a_failed_study_gets_its_exit_code_and_a_report_that_says_why(run, tmp_path, behaviour, kind, words):
    result = run(behaviour)
    assert type(result.error) is kind
    assert words in str(result.error)
    assert names_in(tmp_path / "out") == {names.REPORT, names.FINDINGS, names.RUN}
    findings = json.loads((tmp_path / "out" / names.FINDINGS).read_bytes())
    assert findings["outcome"] == "failed"
    assert findings["failure"] == str(result.error)
    assert json.loads((tmp_path / "out" / names.RUN).read_bytes())["exit_code"] == kind.exit_code


def test_the_report_of_a_failure_belongs_to_the_study_and_says_outcome_111245(run, tmp_path, study):
    import pydicom

    run("model-error")
    report = pydicom.dcmread(tmp_path / "out" / names.REPORT)
    assert str(report.StudyInstanceUID) == study.study_uid
    assert "111245" in str(report)


def test_the_time_limit_ends_even_a_process_that_ignores_signals(run, tmp_path):
    result = run("hang", timeout_s=1.5)
    assert isinstance(result.error, TimeLimitError)
    assert "1.5 s" in str(result.error)
    assert names_in(tmp_path / "out") == {names.REPORT, names.FINDINGS, names.RUN}


def test_a_stop_in_the_middle_leaves_nothing(run, tmp_path):
    stop = StopFlag()

    def interrupt(message):
        if isinstance(message, StageMessage) and message.name == "segment":
            stop.signal = 15

    result = run("hang", stop=stop, tell=interrupt)
    assert isinstance(result.error, TerminatedError)
    assert not (tmp_path / "out").exists()


def test_what_the_process_started_ends_with_it(run):
    before = _forked()
    result = run("grandchild", timeout_s=2)
    assert isinstance(result.error, TimeLimitError)
    assert _forked() <= before


def _forked() -> set[str]:
    """Processes that run the fake program."""
    running = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            dead = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            if not dead and b"grandchild" in process.joinpath("cmdline").read_bytes():
                running.add(process.name)
        except OSError:
            continue
    return running


def test_a_rerun_replaces_the_result_and_names_the_earlier_report(run, tmp_path):
    run("done")
    before = (tmp_path / "out" / names.REPORT).read_bytes()
    assert run("no-segmentation").error is None
    assert (tmp_path / "out" / names.REPORT).read_bytes() != before
    assert names_in(tmp_path / "out") == set(names.RESULTS) - {names.SEGMENTATION}


def test_a_failed_rerun_leaves_the_good_result_alone(run, tmp_path):
    run("done")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    result = run("model-error")
    assert isinstance(result.error, ModelError)
    assert result.files == {}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_good_rerun_replaces_a_failure(run, tmp_path):
    run("model-error")
    assert run("done").error is None
    assert names_in(tmp_path / "out") == set(names.RESULTS)


def test_a_second_failure_replaces_the_first_as_its_successor(run, tmp_path):
    import pydicom

    run("model-error")
    first = pydicom.dcmread(tmp_path / "out" / names.REPORT)
    run("input-error")
    second = pydicom.dcmread(tmp_path / "out" / names.REPORT)
    assert second.SOPInstanceUID != first.SOPInstanceUID
    (study,) = second.PredecessorDocumentsSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_the_result_of_another_study_is_never_touched(run, tmp_path):
    run("done", uid="1.2.3.4")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    result = run("done")
    assert isinstance(result.error, OutputError)
    assert "another study" in str(result.error)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("inside", ["", "sub/results"])
def test_output_in_the_input_is_refused(run, study, inside):
    before = names_in(study.folder)
    result = run("done", output=study.folder / inside)
    assert isinstance(result.error, UsageError)
    assert names_in(study.folder) == before


def test_an_output_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "file").write_text("x")
    heard = []
    result = run("done", output=tmp_path / "file" / "out", tell=heard.append)
    assert isinstance(result.error, OutputError)
    assert heard == []


def test_a_full_temporary_folder_is_an_output_error(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    result = run("done")
    assert isinstance(result.error, OutputError)
    assert "TMPDIR" in str(result.error)
    assert not (tmp_path / "out").exists()


def test_no_staging_folder_is_left_whatever_happens(run, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    for behaviour in ("done", "model-error", "segfault"):
        run(behaviour)
    assert names_in(tmp_path / "scratch") == set()


@pytest.mark.parametrize("behaviour", ["done", "defect", "input-error", "no-spine"])
def test_nothing_of_the_patient_reaches_the_findings_or_the_account(run, tmp_path, study, behaviour):
    run(behaviour)
    account = (tmp_path / "out" / names.RUN).read_text()
    findings = (tmp_path / "out" / names.FINDINGS).read_text()
    assert not [secret for secret in study.secrets if secret in account + findings]
    assert study.study_uid not in account


def test_a_folder_that_another_run_holds_is_refused(run, tmp_path):
    with opened_output(tmp_path / "out"):
        result = run("done")
    assert isinstance(result.error, OutputError)
    assert "Another run" in str(result.error)
