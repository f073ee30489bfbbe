"""Results before independent judges: dicom3tools, DCMTK and PixelMed find no error in any kind of result."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# PixelMed thinks for 10 s of CPU time about a report, and a busy machine makes minutes of them.
PATIENCE_S = 600
REPORTS = ("positive.sr", "negative.sr", "partial.sr", "failed.sr", "re-run.sr")
SEGMENTATIONS = ("positive.seg", "negative.seg", "partial.seg")
JARS = tuple(Path("/usr/share/java") / name for name in ("pixelmed.jar", "slf4j-api.jar", "slf4j-nop.jar"))
# IHE AI Results wants the Device UID in Contributing Equipment; the validator's tables are older than that.
EXPECTED_WARNINGS = ("Device UID", "Standard Extended SOP Class")


def judge(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.service("dciodvfy")
@pytest.mark.parametrize("name", REPORTS + SEGMENTATIONS)
def test_dciodvfy_finds_no_error_and_warns_of_the_device_uid_only(service, study_folder: Path, name: str):
    service("dciodvfy", shutil.which("dciodvfy"))
    lines = judge("dciodvfy", study_folder / f"{name}.dcm").splitlines()
    assert lines, "dciodvfy names the kind of object at least"
    assert not [line for line in lines if line.startswith("Error")]
    unexpected = [
        line
        for line in lines
        if line.startswith("Warning") and not any(known in line for known in EXPECTED_WARNINGS)
    ]
    assert not unexpected


@pytest.mark.service("dcentvfy")
def test_dcentvfy_finds_results_and_ct_consistent(service, study, study_folder: Path):
    service("dcentvfy", shutil.which("dcentvfy"))
    said = judge("dcentvfy", *study.ct_files, *sorted(study_folder.glob("*.dcm")))
    assert not [line for line in said.splitlines() if line.startswith("Error")]


@pytest.mark.service("dsrdump")
def test_dsrdump_prints_what_a_radiologist_needs(service, study_folder: Path):
    service("dsrdump", shutil.which("dsrdump"))
    said = judge("dsrdump", "+Pl", study_folder / "positive.sr.dcm")
    for text in (
        "Possible fracture of C2 (probability 0.83).",
        '"All algorithms succeeded; with findings"',
        '"C2 vertebra"',
        '"Fracture of bone")=(52101004,SCT,"Present")',
        '"0.83"',
        "not a medical device",
    ):
        assert text in said
    failed = judge("dsrdump", "+Pl", study_folder / "failed.sr.dcm")
    assert "the gap is 5.0 mm" in failed
    assert not [line for line in (said + failed).splitlines() if line.startswith(("E:", "F:"))]


@pytest.mark.service("pixelmed")
@pytest.mark.timeout(2 * PATIENCE_S)
def test_pixelmed_finds_no_error_in_the_template_of_any_report(service, study_folder: Path):
    service("pixelmed", shutil.which("java") and all(jar.exists() for jar in JARS))
    command = (
        "java",
        "-Xmx1500m",
        "-Xss64m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        # The XPath of the template rules is longer than Java allows by default.
        "-Djdk.xml.xpathTotalOpLimit=0",
        "-Djdk.xml.xpathExprOpLimit=0",
        "-Djdk.xml.xpathExprGrpLimit=0",
        "-cp",
        ":".join(map(str, JARS)),
        "com.pixelmed.validate.DicomSRValidator",
    )
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda name: judge(*command, study_folder / f"{name}.dcm"), REPORTS)
    for name, verdict in zip(REPORTS, verdicts, strict=True):
        assert "Root Template Validation Complete" in verdict, name
        assert "Found Root Template TID_1500" in verdict, name
        assert not [line for line in verdict.splitlines() if line.startswith("Error")], name
