"""findings.json follows its published schema, and the schema says what the contract says."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import jsonschema
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import OutputError
from cspine.findings import Decision, ModelVersion, Overall, StudyFindings, VertebraFinding
from cspine.volume import Visibility
from fracture_map.summary import encode_checked, encode_findings, schema, to_document

BOX = ((-1.0, -2.0, 3.0), (10.12345, 20.0, 30.0))


def level(vertebra: Vertebra) -> VertebraFinding:
    if vertebra is Vertebra.C5:
        return VertebraFinding(
            vertebra, Visibility.COMPLETE, 0.93, Decision.PRESENT, None, BOX, BOX[0], 4, "1.2.3"
        )
    if vertebra is Vertebra.C7:
        return VertebraFinding(vertebra, Visibility.ABSENT, None, Decision.UNDETERMINED, "C7 was not found.")
    return VertebraFinding(vertebra, Visibility.COMPLETE, 0.1, Decision.ABSENT, None, BOX, BOX[0], 4, None)


FINDINGS = StudyFindings(
    "1.2",
    "1.2.3",
    Overall(0.9, Decision.PRESENT),
    tuple(level(v) for v in CERVICAL),
    (ModelVersion("cspine_ct_segmentation", "0.1.0", "0" * 64),),
    ("The slices are 3 mm thick.",),
    {"read": 0.25},
)


def test_findings_are_read_back_as_they_were():
    document = json.loads(encode_findings(FINDINGS))
    assert [part["level"] for part in document["levels"]] == ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
    assert document["levels"][4] == {
        "level": "C5",
        "visibility": "complete",
        "probability": 0.93,
        "decision": "present",
        "reason": None,
        "box_lps_mm": [[-1.0, -2.0, 3.0], [10.123, 20.0, 30.0]],
        "center_lps_mm": [-1.0, -2.0, 3.0],
        "key_sop_instance_uid": "1.2.3",
    }
    assert document["levels"][6]["reason"] == "C7 was not found."
    assert document["outcome"] == "partial_findings"
    assert document["overall"] == {"probability": 0.9, "decision": "present"}
    assert document["models"] == [{"name": "cspine_ct_segmentation", "version": "0.1.0", "sha256": "0" * 64}]
    assert document["seconds"] == {"read": 0.25}


def test_a_failed_study_follows_the_schema_too():
    document = json.loads(encode_findings(StudyFindings.failed("A slice is missing.")))
    assert document["outcome"] == "failed"
    assert document["failure"] == "A slice is missing."
    assert document["study_instance_uid"] == ""


def test_the_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("levels", 0, "level"), "C2"),
        (("levels", 0, "decision"), "maybe"),
        (("levels", 0, "probability"), 1.5),
        (("levels", 0, "probability"), None),
        (("levels", 0, "reason"), "although it was decided"),
        (("levels", 0, "box_lps_mm"), None),
        (("levels", 0, "patient"), "Doe"),
        (("levels", 6, "reason"), None),
        (("levels", 6, "probability"), 0.1),
        (("outcome",), "fine"),
        (("overall", "probability"), -0.1),
        (("models", 0, "sha256"), "abc"),
        (("study_instance_uid",), "Doe^Jane"),
        (("seconds", "read"), -1),
        (("extra",), 1),
    ],
)
def test_a_document_against_the_contract_is_refused(path, value):
    document = deepcopy(to_document(FINDINGS))
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(OutputError, match="schema"):
        encode_checked(document)


def test_six_levels_are_refused():
    document = to_document(FINDINGS)
    with pytest.raises(OutputError):
        encode_checked({**document, "levels": document["levels"][:6]})


def test_what_is_no_number_is_refused():
    with pytest.raises(OutputError):
        encode_findings(replace(FINDINGS, seconds={"read": float("nan")}))
