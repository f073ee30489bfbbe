import inspect
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cspine.findings import Decision, ModelVersion, OperatingPoint, Overall, StudyFindings
from cspine.page import draw_report, png_to_rgb
from cspine.settings import DISCLAIMER
from cspine.volume import Grid, SpineMask

A4_PIXELS = (1403, 992)
MODELS = tuple(ModelVersion(f"cspine_ct_{n}", "0.1.0", "ab" * 32) for n in ("localization", "segmentation"))
FRACTURED = (0.03, 0.93, 0.12, 0.02, 0.71, 0.44, 0.08)
LONG = "Streaks from shoulders and metal cross the lower levels. " * 12


def is_one_page(pdf: bytes) -> bool:
    return pdf.startswith(b"%PDF-1.4") and pdf.rstrip().endswith(b"%%EOF") and b"/Count 1 " in pdf


def undecided(findings: StudyFindings, reason: str) -> StudyFindings:
    levels = tuple(replace(f, decision=Decision.UNDETERMINED, reason=reason) for f in findings.levels)
    return replace(findings, levels=levels, overall=Overall(0.4, Decision.UNDETERMINED))


def drawn(page) -> np.ndarray:
    assert is_one_page(page.pdf)
    picture = png_to_rgb(page.png)
    assert picture.shape == (*A4_PIXELS, 3)
    assert (picture[:40] == 255).all(), "something is drawn over the upper margin"
    assert (picture[:, :50] == 255).all(), "something is drawn over the left margin"
    assert (picture[:, -50:] == 255).all(), "something is drawn over the right margin"
    assert (picture[-25:] == 255).all(), "something is drawn over the lower margin"
    return picture


@pytest.mark.parametrize("probabilities", [(0.02,) * 7, FRACTURED, (0.999,) * 7], ids=["none", "two", "all"])
def test_a_page_is_drawn_for_any_number_of_fractures(neck, found, probabilities):
    findings = replace(found(neck, *probabilities), models=MODELS)
    picture = drawn(draw_report(*neck, findings, OperatingPoint()))
    assert (picture[300:700, 100:500] < 120).mean() > 0.5, "the picture along the spine is dark"


@pytest.mark.parametrize("levels", [[3], [0, 1], [5, 6], range(7)], ids=["C4", "C1-C2", "C6-C7", "all"])
def test_a_page_is_drawn_for_few_levels(make_neck, neck, found, levels):
    some = make_neck(neck[0].grid, levels)
    drawn(draw_report(*some, found(some, *FRACTURED)))


@pytest.mark.parametrize(("slices", "thickness_mm"), [(3, 12.0), (20, 5.0), (5, 2.0)])
def test_a_page_is_drawn_for_few_or_thick_slices(make_neck, found, slices, thickness_mm):
    affine = np.array([[0, 0, 0.9, -38], [0, 1.1, 0, -55], [thickness_mm, 0, 0, -120], [0, 0, 0, 1.0]])
    stack = make_neck(Grid((slices, 96, 84), affine))
    drawn(draw_report(*stack, found(stack, *FRACTURED)))


def test_a_page_is_drawn_for_an_oblique_grid(make_neck, found):
    a = np.deg2rad(30)
    affine = np.eye(4)
    affine[:3, :3] = [
        [0.1, 0, 0.9],
        [-2 * np.sin(a), 1.1 * np.cos(a), 0],
        [2 * np.cos(a), 1.1 * np.sin(a), 0],
    ]
    affine[:3, 3] = np.array([0, -2, -110]) - affine[:3, :3] @ np.array([38, 48, 42])
    oblique = make_neck(Grid((76, 96, 84), affine))
    drawn(draw_report(*oblique, found(oblique, *FRACTURED)))


def test_long_reasons_and_warnings_stay_on_the_page(neck, found):
    findings = undecided(found(neck, *FRACTURED), LONG)
    drawn(
        draw_report(
            *neck, replace(findings, warnings=(LONG, "W" * 400, "$\\alpha_{1}$ & 50 %")), OperatingPoint()
        )
    )


def test_a_page_is_drawn_without_a_mask(neck, found):
    drawn(draw_report(neck[0], None, found(neck, *FRACTURED)))


@pytest.mark.parametrize(
    "reason", ["The series has a gap of 10.0 mm after slice 14; send the slices.", LONG * 9]
)
def test_a_failed_study_gets_a_page_without_pictures(reason):
    picture = drawn(draw_report(None, None, StudyFindings.failed(reason)))
    assert picture.min(axis=2).mean() > 200


def test_a_volume_without_vertebrae_is_shown_with_the_reason(neck):
    volume, _ = neck
    empty = SpineMask.from_labels(volume.grid, np.zeros(volume.grid.shape, np.uint8))
    drawn(draw_report(volume, empty, StudyFindings.failed("No cervical vertebra was found in the images.")))


def test_the_same_study_always_gives_the_same_bytes_even_beside_another(neck, found):
    findings = replace(found(neck, *FRACTURED), models=MODELS)
    failed = StudyFindings.failed("The series has a gap of 10.0 mm.")
    first, failure = draw_report(*neck, findings, OperatingPoint()), draw_report(None, None, failed)
    with ThreadPoolExecutor(2) as pool:
        again = pool.submit(draw_report, *neck, findings, OperatingPoint())
        failed_again = pool.submit(draw_report, None, None, failed)
        assert again.result() == first
        assert failed_again.result() == failure
    assert b"CreationDate" not in first.pdf


def test_the_users_settings_of_matplotlib_change_nothing():
    import matplotlib

    findings = StudyFindings.failed("The series has a gap of 10.0 mm.")
    usual = draw_report(None, None, findings)
    with matplotlib.rc_context({"font.size": 20.0, "text.color": "red", "lines.linewidth": 9.0}):
        assert draw_report(None, None, findings) == usual


def test_drawing_needs_no_window_and_leaves_pyplot_alone():
    code = "import sys; import cspine.page; print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_uids_never_reach_the_page():
    reason = "The series has a gap of 10.0 mm."
    with_uids = StudyFindings.failed(reason, study_uid="9.8.7.1", series_uid="9.8.7.2")
    assert draw_report(None, None, with_uids) == draw_report(None, None, StudyFindings.failed(reason))
    assert "patient" not in inspect.signature(draw_report).parameters


def text_of(pdf: bytes, service) -> str:
    tool = shutil.which("pdftotext")
    service("poppler (pdftotext)", tool)
    done = subprocess.run([tool, "-layout", "-", "-"], input=pdf, capture_output=True, check=True)
    return " ".join(done.stdout.decode().split())


@pytest.mark.service("poppler")
def test_the_pdf_says_in_words_what_was_found(neck, found, service):
    findings = replace(found(neck, *FRACTURED), models=MODELS, warnings=("The slices are 2.0 mm thick.",))
    text = text_of(draw_report(*neck, findings, OperatingPoint()).pdf, service)
    for words in (
        "Fracture suspected at C2 and C5.",
        "84 × 96 × 76 voxels of 0.90 × 1.10 × 2.00 mm",  # noqa: RUF001
        "localization 0.1.0 (abababab), segmentation 0.1.0 (abababab)",
        "0.50 for a level, 0.50 for the spine as a whole",
        "No fracture seen",
        "0.93",
        "The slices are 2.0 mm thick.",
        DISCLAIMER,
    ):
        assert words in text, words


@pytest.mark.service("poppler")
def test_the_pdf_of_a_failure_gives_the_reason_and_claims_nothing(service):
    text = text_of(
        draw_report(None, None, StudyFindings.failed("The series has a gap of 10.0 mm.")).pdf, service
    )
    assert "This study could not be analysed." in text
    assert "The series has a gap of 10.0 mm." in text
    assert "No fracture seen" not in text
    assert DISCLAIMER in text
