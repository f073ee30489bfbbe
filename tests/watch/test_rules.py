"""Which studies are analysed, and the file that says so."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from cspine.errors import UsageError
from fracture_map.watch.rules import Rules
from fracture_map.watch.seen import SeriesSeen, StudySeen
from fracture_map.watch.settings import Settings, read_settings

TODAY = datetime.date(2026, 3, 10)
BONE = SeriesSeen("1.2", "CT", 300, "HWS Knochen 1.0", "NECK", "Polytrauma", "CT1")
STUDY = StudySeen("1", "20260309", "CT Trauma", 301, (SeriesSeen("1.1", "CT", 1, "Topogramm"), BONE))


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(body_parts=("neck",)),
        Rules(descriptions=("hws|c-?spine",)),
        Rules(descriptions=("trauma",)),
        Rules(protocols=("^poly",)),
        Rules(body_parts=("HEAD",), protocols=("poly",)),
        Rules(stations=("CT1", "CT2")),
        Rules(without=("Topogramm",)),
    ],
)
def test_a_study_is_wanted_when_one_hint_fits_and_nothing_speaks_against_it(rules):
    assert rules.refusal(STUDY, TODAY) is None


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Rules(body_parts=("HEAD",)), "Neither body part"),
        (Rules(stations=("CT9",)), "station"),
        (Rules(without=("trauma",)), "leave out"),
        (Rules(without=("topo", "hws")), "leave out"),
        (Rules(max_age_days=0), None),
    ],
)
def test_a_study_that_a_rule_speaks_against_is_left_alone(rules, words):
    refusal = rules.refusal(STUDY, TODAY)
    assert refusal is None if words is None else words in refusal


def test_a_study_without_ct_is_left_alone_whatever_the_rules_say():
    assert Rules().refusal(replace(STUDY, series=()), TODAY) == "It holds no CT series."


@pytest.mark.parametrize(
    ("date", "refused"),
    [("20260303", False), ("20260302", False), ("20260301", True), ("", False), ("20270101", False)],
)
def test_a_study_that_is_too_old_is_left_alone_with_a_day_of_grace_for_clocks(date, refused):
    assert (Rules(max_age_days=7).refusal(replace(STUDY, date=date), TODAY) is not None) == refused


def test_the_content_of_a_study_is_its_ct_and_not_our_own_results():
    ours = SeriesSeen("9.9", "SR", 1, "AI cervical spine fractures (research use only)")
    assert replace(STUDY, series=(ours, *STUDY.series)).content == STUDY.content
    more = replace(BONE, instances=301)
    assert replace(STUDY, series=(STUDY.series[0], more)).content != STUDY.content


def test_a_file_of_settings_changes_what_it_names_and_nothing_else(tmp_path):
    path = tmp_path / "watch.toml"
    path.write_text('[studies]\nbody_parts = ["NECK"]\nmax_age_days = 2\n[timing]\nquiet_s = 5\n')
    settings = read_settings(path)
    assert settings.studies == Rules(body_parts=("NECK",), max_age_days=2)
    assert settings.timing == replace(Settings().timing, quiet_s=5)
    assert settings.worklist == Settings().worklist


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[study]", "no part 'study'"),
        ("[studies]\nbodyparts = []", "no 'bodyparts'"),
        ("studies = 1", "no '1'"),
        ('[studies]\ndescriptions = ["("]', "regular expressions"),
        ("[studies]\ndescriptions = [1]", "regular expressions"),
        ('[timing]\nquiet_s = "60"', "no number"),
        ("[timing]\nquiet_s = -1", "no number"),
        ("[timing]\nmax_attempts = 1.5", "no whole number"),
        ("[timing", "no TOML"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path, text, words):
    path = tmp_path / "watch.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_settings(path)


def test_settings_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "absent.toml")
