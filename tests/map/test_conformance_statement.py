"""The conformance statement says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.uid import UID

import cspine
from cspine.dicom import codes
from cspine.dicom.archive import MAX_FILES
from cspine.dicom.choice import CT_IMAGE, ENHANCED_CT
from cspine.dicom.pixels import _PLUGINS, LOSSY
from cspine.dicom.provenance import SERIES_NUMBERS
from fracture_map import names

TEXT = (Path(__file__).resolve().parents[2] / "docs/reference/conformance-statement.md").read_text()


def rows(begin: str) -> list[list[str]]:
    """The cells of the table that follows a line."""
    table = TEXT[TEXT.index(begin) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]


def test_it_is_of_this_version():
    assert f"Fracture Map {cspine.__version__}." in TEXT


def test_the_transfer_syntaxes_are_those_that_are_decoded():
    listed = {row[1]: row[2] for row in rows("| transfer syntax | UID | read |") if row[1]}
    assert listed.keys() == _PLUGINS.keys()
    assert {uid for uid, said in listed.items() if "warning" in said} == LOSSY.keys()


def test_the_objects_are_those_that_are_read_and_written():
    listed = {row[1]: row[0] for row in rows("| object | SOP Class UID | reads | writes |")}
    assert {CT_IMAGE, *ENHANCED_CT} <= listed.keys()
    for uid, name in listed.items():
        words = re.sub(r"\(.*\)", "", name).replace("Media Storage Directory", "Media Storage").split()
        assert all(word in UID(uid).name for word in words), (name, UID(uid).name)


def test_the_files_have_the_names_and_series_numbers_of_the_code():
    listed = {row[1].strip("`"): (row[3], row[4]) for row in rows("| object | file | transfer syntax |")}
    assert listed.keys() == {names.REPORT, names.SEGMENTATION, *names.ALSO.values()}
    assert dict(listed.values()) == {kind: str(number) for kind, number in SERIES_NUMBERS.items()}


def test_the_codes_are_those_that_are_written():
    written = [*codes.VERTEBRA.values(), *codes.DECISION.values(), codes.CERVICAL_SPINE, codes.FRACTURE]
    written += [codes.SUMMARY, codes.PROBABILITY, codes.REPORT_TITLE, codes.MEASUREMENTS, codes.QUALITATIVE]
    for code in written:
        assert code.value in TEXT, code


def test_the_limits_of_a_zip_file_are_those_of_the_code():
    assert f"{MAX_FILES:,} files" in TEXT
