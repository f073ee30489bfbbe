"""The whole command with the networks that come along: nothing is faked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from cspine.settings import BUNDLES, models_dir
from fracture_map import names
from fracture_map.demo import SEED
from fracture_map.summary import encode_checked

SECRETS = ("Doe", "Jane", "SECRET-4711")


def fracture_map(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fracture_map", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def neck(tmp_path_factory) -> Path:
    """A small synthetic neck with a patient whose name must not show up."""
    from cspine.phantom.dicom_attributes import StudyOptions
    from fracture_map.phantom_study import write_neck

    folder = tmp_path_factory.mktemp("neck") / "in"
    options = StudyOptions(patient_name="Doe^Jane", patient_id="SECRET-4711", seed=SEED)
    write_neck(folder, options, (110, 150, 160), (1.6, 1.1, 1.2))
    return folder


@pytest.fixture
def noise(tmp_path) -> Path:
    """A readable study that shows nothing."""
    import numpy as np

    from cspine.phantom.dicom_attributes import StudyOptions
    from cspine.phantom.dicom_study import write_study
    from cspine.volume import Grid, Volume

    affine = np.array([[0, 0, 0.75, -15], [0, 1.25, 0, -30], [2, 0, 0, 100], [0, 0, 0, 1]], float)
    hu = np.random.default_rng(3).integers(-1000, 1200, (12, 40, 48)).astype(np.int16)
    options = StudyOptions(patient_name="Doe^Jane", patient_id="SECRET-4711")
    write_study(Volume(Grid(hu.shape, affine), hu), tmp_path / "whole", options)
    return tmp_path / "whole"


def test_a_synthetic_neck_gets_report_segmentation_page_and_account(neck, tmp_path):
    before = digest(neck)
    done = fracture_map("run", neck, tmp_path / "out", "--device", "cpu", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert digest(neck) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names.RESULTS)
    findings = json.loads(done.stdout)
    assert encode_checked(findings) == (tmp_path / "out" / names.FINDINGS).read_bytes()
    assert [model["name"] for model in findings["models"]] == list(BUNDLES)
    segmentation = pydicom.dcmread(tmp_path / "out" / names.SEGMENTATION)
    seen = [part for part in findings["levels"] if part["visibility"] != "absent"]
    assert len(segmentation.SegmentSequence) == len(seen) >= 5
    account = (tmp_path / "out" / names.RUN).read_text()
    assert not [secret for secret in SECRETS if secret in account + done.stdout + done.stderr]
    assert findings["study_instance_uid"] not in account


def test_the_same_study_again_replaces_its_result_and_names_the_predecessor(neck, tmp_path):
    assert fracture_map("run", neck, tmp_path / "out").returncode == 0
    first = pydicom.dcmread(tmp_path / "out" / names.REPORT)
    again = fracture_map(
        HOLOSCAN_INPUT_PATH=str(neck),
        HOLOSCAN_OUTPUT_PATH=str(tmp_path / "out"),
        HOLOSCAN_MODEL_PATH=str(models_dir()),
    )
    assert again.returncode == 0, again.stderr
    second = pydicom.dcmread(tmp_path / "out" / names.REPORT)
    (study,) = second.PredecessorDocumentsSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_viewers_that_show_no_report_get_a_capture_a_pdf_and_key_objects(neck, tmp_path):
    wanted = [option for name in names.ALSO for option in ("--also", name)]
    done = fracture_map("run", neck, tmp_path / "out", "--format", "json", *wanted)
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    made = {path.name: path for path in (tmp_path / "out").iterdir()}
    positive = any(part["decision"] == "present" for part in findings["levels"])
    assert (names.ALSO["key-objects"] in made) == positive
    capture = pydicom.dcmread(made[names.ALSO["capture"]])
    document = pydicom.dcmread(made[names.ALSO["pdf"]])
    assert capture.pixel_array.shape[2] == 3
    assert document.EncapsulatedDocument.startswith(b"%PDF")
    assert {capture.StudyInstanceUID, document.StudyInstanceUID} == {findings["study_instance_uid"]}
    assert set(json.loads(made[names.RUN].read_bytes())["files"]) == set(made) - {names.RUN}

    plain = fracture_map("run", neck, tmp_path / "out", "--format", "json")
    assert plain.returncode == 0, plain.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names.RESULTS)


# What each folder of real data ends as: exit code, and words of the reason.
REAL_FAILURES = [
    ("tilted-multi-series/Philips_S21610", 3, "No cervical vertebra"),
    ("lumbar-ct-with-labels/example_ct_dicom", 3, "No cervical vertebra"),
    ("odd-headers", 4, "8 patients"),
    ("ct-transfer-syntaxes", 4, "6 patients"),
    ("broken-series/failing_all", 4, "6 studies"),
    ("broken-series/failing_all/gantrytilting/001", 3, "No cervical vertebra"),
    ("broken-series/failing_all/notavolume/001", 3, "All 4 slices lie at one position"),
    ("broken-series/failing_all/slicecount/001", 3, "modality MR, not CT"),
    ("broken-series/failing_all/sliceorientation/001", 3, "modality MR, not CT"),
    ("broken-series/failing_all/sliceincrement/001", 4, "10.00 mm where 5.00 mm are usual"),
    ("broken-series/failing_all/sliceincrement/002", 4, "1.50 mm where 0.75 mm are usual"),
    ("odd-headers/eCT_Supplemental.dcm", 3, "perfusion"),
    ("odd-headers/693_J2KR.dcm", 3, "single slice"),
    ("odd-headers/dicomdirtests/TINY_ALPHA/DICOMDIR", 4, "50 of 50 CT images hold no pixels"),
]


@pytest.mark.parametrize(("name", "code", "words"), REAL_FAILURES)
def test_real_data_without_a_neck_ends_with_its_reason(real_data, tmp_path, name, code, words):
    done = fracture_map("run", real_data(name), tmp_path / "out", "--format", "json")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / names.SEGMENTATION).exists()
    assert json.loads(done.stdout)["outcome"] == "failed"


def _copied(whole: Path, to: Path) -> Path:
    shutil.copytree(whole, to)
    return to


def _empty(whole: Path, to: Path) -> Path:
    to.mkdir()
    return to


def _noise(whole: Path, to: Path) -> Path:
    to.mkdir()
    (to / "noise.dcm").write_bytes(os.urandom(5000))
    return to


def _truncated(whole: Path, to: Path) -> Path:
    victim = sorted(_copied(whole, to).iterdir())[6]
    victim.write_bytes(victim.read_bytes()[:-3000])
    return to


def _gap(whole: Path, to: Path) -> Path:
    sorted(_copied(whole, to).iterdir())[6].unlink()
    return to


def _absent(whole: Path, to: Path) -> Path:
    return to


@pytest.mark.parametrize(
    ("spoil", "known"),
    [(_empty, False), (_noise, False), (_absent, False), (_truncated, True), (_gap, True)],
)
def test_input_that_cannot_be_read_is_exit_code_4_with_a_report_where_the_study_is_known(
    noise, tmp_path, spoil, known
):
    done = fracture_map("run", spoil(noise, tmp_path / "in"), tmp_path / "out")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert not [secret for secret in SECRETS if secret in done.stderr + done.stdout]
    expected = {names.FINDINGS, names.RUN, *([names.REPORT] if known else [])}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    if known:
        assert "111245" in str(pydicom.dcmread(tmp_path / "out" / names.REPORT))


@pytest.mark.parametrize("spoil", ["missing", "corrupted"])
def test_weights_that_are_not_the_ones_named_are_exit_code_5(noise, tmp_path, spoil):
    shutil.copytree(models_dir(), tmp_path / "models")
    weights = tmp_path / "models" / BUNDLES[1] / "models" / "model.pt"
    if spoil == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    done = fracture_map("run", noise, tmp_path / "out", "--models", tmp_path / "models")
    assert done.returncode == 5
    assert BUNDLES[1] in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        names.FINDINGS,
        names.RUN,
        names.REPORT,
    }


def test_a_gpu_that_is_not_there_is_an_error_and_never_a_silent_fallback(noise, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = fracture_map("run", noise, tmp_path / "out", "--device", "cuda")
    assert done.returncode == 5
    assert "CUDA" in done.stderr


def test_the_real_neck_gets_a_valid_report_and_segmentation(real_data, tmp_path):
    done = fracture_map("run", real_data("real-neck-ct"), tmp_path / "out", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names.RESULTS)
    findings = json.loads(done.stdout)
    assert any("3.0 mm thick" in warning for warning in findings["warnings"])
    report, segmentation = (
        pydicom.dcmread(tmp_path / "out" / name) for name in (names.REPORT, names.SEGMENTATION)
    )
    assert report.StudyInstanceUID == segmentation.StudyInstanceUID == findings["study_instance_uid"]


def test_the_demo_makes_a_study_and_says_that_it_is_synthetic(tmp_path):
    done = fracture_map("demo", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "This neck is synthetic" in done.stdout
    assert "Truly fractured: C" in done.stdout
    for name in names.RESULTS:
        assert str(tmp_path / "demo" / "results" / name) in done.stdout
    again = fracture_map("demo", tmp_path / "demo")
    assert again.returncode == 0, again.stderr


def test_the_demo_never_replaces_files_that_it_did_not_make(tmp_path):
    kept = tmp_path / "demo" / "study" / "thesis.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    done = fracture_map("demo", tmp_path / "demo")
    assert done.returncode == 6
    assert "no demo made" in done.stderr
    assert kept.read_text() == "years of work"
