from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cspine.anatomy import Vertebra
from cspine.errors import ModelError, OutputError
from cspine.evaluation import intervals
from cspine.evaluation.anchors import ANCHORS
from cspine.evaluation.command import Evaluation, build_metrics, metrics_schema, summary_lines, write_metrics
from cspine.evaluation.report import draw_report, lay_out
from cspine.evaluation.runner import run_set
from cspine.findings import ModelVersion

MODELS = (ModelVersion("cspine_ct_localization", "0.1.0", "ab" * 32),)


BROKEN = {1: [], 2: [Vertebra.C5], 3: [Vertebra.C1, Vertebra.C2], 4: []}
SAID = {1: {}, 2: {Vertebra.C5: 0.8}, 3: {Vertebra.C2: 0.6}, 4: {Vertebra.C7: 0.55}}


@pytest.fixture(scope="module")
def sets(make_case, fake_cases, spine):
    """Two sets with what is found in them; in the second one a case fails with a long sentence."""
    cases = {f"case-{n}": make_case(n, levels, confounded=[Vertebra.C7]) for n, levels in BROKEN.items()}
    masks = {n: spine({Vertebra.C3: None} if n == 4 else None, margin=2.0) for n in SAID}
    failing = {2: ModelError("It broke. " * 30)}
    return [
        (fake_cases(cases, name="phantom-default"), masks, {}),
        (fake_cases(cases, name="phantom-shifted"), masks, failing),
    ]


@pytest.fixture(scope="module")
def measured(sets, fake_method, points, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    asked = Evaluation(folder, "phantom:4", folder, command="cspine evaluate --data phantom:4 --out OUT")
    found = [
        (source, run_set(fake_method(masks, SAID, errors), points, source, folder / source.name))
        for source, masks, errors in sets
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "REPEATS", 40)
        return build_metrics(asked, found, MODELS, points, default="balanced")


@pytest.fixture
def metrics(measured):
    """What metrics.json would hold; every test has its own."""
    return deepcopy(measured)


def texts(metrics: dict) -> str:
    flow = lay_out(metrics)
    return "\n".join(text.get_text() for sheet in flow.sheets for text in sheet.figure.texts)


def test_metrics_keep_to_their_schema(metrics):
    schema = metrics_schema()
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(json.dumps(metrics, allow_nan=False)))


def test_a_misspelt_number_does_not_keep_to_the_schema(metrics):
    metrics["sets"][0]["masks"]["dise"] = metrics["sets"][0]["masks"].pop("dice")
    assert list(Draft202012Validator(metrics_schema()).iter_errors(metrics))


def test_every_target_stands_on_the_first_page_with_its_verdict(metrics):
    first = "\n".join(text.get_text() for text in lay_out(metrics).sheets[0].figure.texts)
    for entry in metrics["sets"]:
        for line in entry["targets"]:
            assert line["name"].split(",")[0] in first
    assert "PASS" in first
    assert "FAIL" in first


def test_what_was_run_and_with_what_stands_in_the_report(metrics):
    said = texts(metrics)
    assert "cspine evaluate --data phantom:4" in said
    assert "cspine_ct_localization 0.1.0" in said
    assert metrics["date"] in said
    assert "say nothing of patients" in said


def test_published_results_are_named_with_their_data_and_as_patients(metrics):
    said = texts(metrics).replace("\n", " ")
    assert "all of them on patients" in said
    for anchor in ANCHORS:
        assert anchor.source.split(",")[0] in said
        assert anchor.data.split()[0] in said


def test_failures_are_listed_with_their_sentence(metrics):
    said = texts(metrics)
    assert "case-2" in said
    assert "It broke." in said


def test_pages_do_not_overflow(metrics):
    for sheet in lay_out(metrics).sheets:
        for text in sheet.figure.texts:
            x, y = text.get_position()
            assert 0 < x < 1
            assert 0.015 < y < 0.99, text.get_text()


def test_the_same_metrics_give_the_same_report(metrics):
    report = draw_report(metrics)
    assert report.startswith(b"%PDF")
    assert report == draw_report(json.loads(json.dumps(metrics)))


def test_one_set_without_masks_and_fractures_is_drawn_too(metrics):
    entry = metrics["sets"][0]
    entry["masks"] = None
    entry["boxes"] |= {"map50": None, "map50_95": None, "froc": None}
    entry["fractures"]["level"] |= {"roc": None, "reliability": []}
    entry["confounders"] = None
    assert draw_report({**metrics, "sets": [entry]}).startswith(b"%PDF")


def test_metrics_and_report_are_written_whole(metrics, tmp_path):
    folder = tmp_path / "new" / "folder"
    write_metrics(metrics, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "report.pdf"]
    assert json.loads((folder / "metrics.json").read_text("utf-8")) == json.loads(json.dumps(metrics))


def test_an_output_folder_that_cannot_be_written_is_a_sentence(metrics, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_metrics(metrics, tmp_path / "file")


def test_the_terminal_gets_one_line_a_target(metrics):
    lines = summary_lines(metrics)
    assert lines[0] == "phantom-default: 4 cases, 0 failed"
    assert len(lines) == 2 * (1 + len(metrics["sets"][0]["targets"]))


def test_the_documentation_names_every_part_of_the_metrics(metrics):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "evaluation.md").read_text("utf-8")
    for name in (
        *metrics,
        *metrics["sets"][0],
        *metrics["sets"][0]["masks"],
        *metrics["sets"][0]["fractures"],
    ):
        assert f"`{name}`" in page, name
