from dataclasses import replace

import pytest

from cspine.anatomy import Vertebra
from cspine.findings import ModelVersion, OperatingPoint, Outcome, StudyFindings
from cspine.page import words
from cspine.volume import Grid


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        ([1], "C1"),
        ([2, 5], "C2 and C5"),
        ([1, 2], "C1 and C2"),
        ([1, 3, 4, 5, 7], "C1, C3–C5 and C7"),  # noqa: RUF001
        ([], "none"),
    ],
)
def test_levels_are_listed_as_people_list_them(levels, named):
    assert words.level_list(map(Vertebra, levels)) == named


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "<0.01"), (0.004, "<0.01"), (0.5, "0.50"), (0.9999, ">0.99")],  # noqa: RUF001
)
def test_a_probability_is_never_rounded_to_a_certainty(value, text):
    assert words.probability(value) == text


def test_the_headline_names_the_fractured_levels(neck, found):
    assert words.verdict(found(neck, 0.1, 0.9, 0.1, 0.1, 0.7, 0.1, 0.1)) == "Fracture suspected at C2 and C5."
    assert words.verdict(found(neck, *[0.9] * 7)) == "Fracture suspected at all seven levels."
    assert words.verdict(found(neck, *[0.1] * 7)) == "No fracture seen from C1 to C7."


def test_a_fracture_that_only_the_whole_spine_shows_is_still_a_headline(neck, found):
    suspected = found(neck, *[0.1] * 7, overall=0.9)
    assert words.verdict(suspected) == "Fracture suspected; the level is not certain."


def test_levels_outside_the_image_are_named_and_never_called_free_of_fracture(make_neck, neck, found):
    upper = make_neck(neck[0].grid, levels=[0, 1, 2])
    findings = found(upper, *[0.1] * 7)
    assert words.verdict(findings) == "Undetermined. No fracture seen at C1–C3."  # noqa: RUF001
    assert words.second_sentence(findings) == "C4–C7 are not in the image."  # noqa: RUF001
    assert words.status(findings.level(Vertebra.C7)) == "Not in the image"
    assert words.reasons(findings) == []


def test_a_fractured_level_that_the_image_cuts_is_not_said_to_be_seen_completely(make_neck, found):
    cut = make_neck(Grid((64, 96, 84), [[0, 0, 0.9, -38], [0, 1.1, 0, -55], [2.0, 0, 0, -164], [0, 0, 0, 1]]))
    findings = found(cut, *[0.9] * 7)
    assert words.status(findings.level(Vertebra.C7)) == "Fracture suspected, partly in the image"
    assert words.second_sentence(findings) == "C7 is only partly in the image."
    assert findings.outcome is Outcome.PARTIAL_FINDINGS


def test_levels_that_share_a_reason_are_told_together(neck, found):
    findings = found(neck, *[0.1] * 7)
    undecided = tuple(
        replace(f, decision=words.Decision.UNDETERMINED, reason="The image is noisy.")
        for f in findings.levels
    )
    assert words.reasons(replace(findings, levels=undecided)) == ["C1–C7: The image is noisy."]  # noqa: RUF001


def test_the_most_suspicious_levels_come_first(neck, found):
    order = words.most_suspicious(found(neck, 0.3, 0.9, 0.1, 0.1, 0.99, 0.2, 0.1), 4)
    assert [f.level.name for f in order] == ["C5", "C2", "C1", "C6"]


def test_the_facts_hold_grid_networks_and_threshold_only():
    grid = Grid((4, 5, 6), [[0, 0, 0.5, 0], [0, 0.75, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]])
    rows = words.facts(
        grid, [ModelVersion("cspine_ct_segmentation", "0.1.0", "ab" * 32)], OperatingPoint(0.4, 0.3)
    )
    assert rows == [
        ("Images", "6 × 5 × 4 voxels of 0.50 × 0.75 × 2.00 mm"),  # noqa: RUF001
        ("Networks", "segmentation 0.1.0 (abababab)"),
        ("Threshold", "0.40 for a level, 0.30 for the spine as a whole"),
    ]


def test_a_failed_study_says_so():
    assert words.verdict(StudyFindings.failed("No CT was found.")) == "This study could not be analysed."
