"""Whose study it is: kept, recoded, never mixed, and never told."""

from __future__ import annotations

import io
import logging
import warnings

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from cspine.dicom import read_ct, read_evidence, read_identity
from cspine.errors import CspineError, InputError
from cspine.phantom.dicom_study import StudyOptions

PLANTED = ("Xanthippe", "Quetzalcoatl", "ID-4711-secret", "19341122")


def read_back(dataset):
    """Write a header as UTF-8 and read it again."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    buffer.seek(0)
    return dcmread(buffer, force=True)


def set_raw(paths, tag: bytes, vr: bytes, value: bytes, charset: bytes | None) -> None:
    """Put bytes into an element of explicit VR files, as a scanner with that character set would."""
    for path in paths:
        ds = dcmread(path)
        ds.SpecificCharacterSet = "" if charset is None else charset.decode().split("\\")
        ds.PatientName = "A" * len(value)
        ds.save_as(path)
        data = path.read_bytes()
        old = tag + vr + len(value + b" " * (len(value) % 2)).to_bytes(2, "little") + b"A" * len(value)
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, old[: -len(value)] + value))


@pytest.mark.parametrize(
    ("charset", "encoded", "name"),
    [
        (b"ISO_IR 100", "Müller^Jürg".encode("latin-1"), "Müller^Jürg"),
        (None, "Müller^Jürg".encode("latin-1"), "Müller^Jürg"),
        (b"ISO_IR 192", "Žižková^山田".encode(), "Žižková^山田"),
        (b"ISO_IR 144", "Жуков".encode("iso8859-5"), "Жуков"),
        (
            # PS3.5 H.3.1, example 1.
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (b"ISO_IR 6", b"Plain^Name", "Plain^Name"),
    ],
    ids=["latin1", "undeclared", "utf8", "cyrillic", "kanji", "ascii"],
)
def test_names_of_every_script_come_out_as_utf8(write, charset, encoded, name):
    paths = write()
    set_raw(paths, b"\x10\x00\x10\x00", b"PN", encoded, charset)
    for header in (read_ct(paths[0].parent).headers[5], read_identity(paths[0].parent)):
        again = read_back(header)
        assert again.SpecificCharacterSet == "ISO_IR 192"
        assert str(again.PatientName) == name


def test_text_in_sequences_is_recoded_too(write, edit):
    paths = write()

    def add(ds, _):
        ds.SpecificCharacterSet = "ISO_IR 100"
        item = Dataset()
        item.CodeMeaning, item.CodeValue, item.CodingSchemeDesignator = "Wirbelsäule", "1", "99L"
        ds.ProcedureCodeSequence = [item]

    edit(paths, add)
    again = read_back(read_ct(paths[0].parent).headers[0])
    assert again.ProcedureCodeSequence[0].CodeMeaning == "Wirbelsäule"


@pytest.mark.filterwarnings("ignore:The PN component")
def test_a_name_of_eighty_characters_is_kept(write):
    name = "N" * 50 + "^" + "V" * 29
    paths = write(options=StudyOptions(patient_name=name))
    assert str(read_back(read_ct(paths[0].parent).headers[0]).PatientName) == name


def test_an_identity_that_is_absent_is_there_but_empty(write, edit):
    keywords = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"]
    keywords += ["StudyID", "AccessionNumber", "ReferringPhysicianName"]
    paths = write()

    def strip(ds, _):
        for keyword in keywords:
            delattr(ds, keyword)

    edit(paths, strip)
    header = read_ct(paths[0].parent).headers[0]
    assert all(keyword in header and not str(header[keyword].value or "") for keyword in keywords)


def test_two_patients_in_one_input_are_refused(write):
    write("study/1", StudyOptions(patient_id="A"))
    paths = write("study/2", StudyOptions(patient_id="B", series_number=3))
    with pytest.raises(InputError, match="holds 2 patients"):
        read_ct(paths[0].parents[1])
    assert read_identity(paths[0].parents[1]) is None
    assert read_evidence(paths[0].parents[1]) == ()


def test_two_studies_in_one_input_are_refused(write):
    write("study/1", StudyOptions(seed=1))
    paths = write("study/2", StudyOptions(seed=2))
    with pytest.raises(InputError, match="holds 2 studies"):
        read_ct(paths[0].parents[1])
    assert read_identity(paths[0].parents[1]) is None


def test_patients_without_identifier_are_told_apart_by_name(write):
    write("study/1", StudyOptions(patient_id="", patient_name="A"))
    paths = write("study/2", StudyOptions(patient_id="", patient_name="B", series_number=3))
    with pytest.raises(InputError, match="holds 2 patients"):
        read_ct(paths[0].parents[1])


@pytest.fixture
def planted(write, edit):
    """A study with planted names, some of them against the rules of their VR so that pydicom complains."""
    paths = write(
        "study of one",
        StudyOptions(
            patient_name="Xanthippe" * 8 + "^Quetzalcoatl",
            patient_id="ID-4711-secret" * 6,
            series_description="Xanthippe",
        ),
    )

    def plant(ds, _):
        ds.PatientBirthDate = "19341122"
        ds.PatientComments = "Quetzalcoatl"
        ds.ReferringPhysicianName = "Xanthippe" * 9
        ds.StudyID = "ID-4711-secret" * 3
        ds.AccessionNumber = "ID-4711-secret" * 3

    edit(paths, plant)
    return paths


SPOILS = {
    "good": lambda paths, edit: None,
    "gap": lambda paths, edit: paths[5].unlink(),
    "truncated": lambda paths, edit: paths[5].write_bytes(paths[5].read_bytes()[:-99]),
    "damaged": lambda paths, edit: paths[5].write_bytes(paths[5].read_bytes()[:900]),
    "two patients": lambda paths, edit: edit(paths[:3], lambda ds, _: setattr(ds, "PatientID", "Xanthippe")),
    "mixed": lambda paths, edit: edit(paths[:3], lambda ds, _: setattr(ds, "PixelSpacing", [1, 1])),
    "not CT": lambda paths, edit: edit(paths, lambda ds, _: setattr(ds, "Modality", "Xanthippe")),
    "bad number": lambda paths, edit: edit(
        paths, lambda ds, _: ds.add_new("SliceThickness", "LO", "Xanthippe")
    ),
    "bad uid": lambda paths, edit: edit(paths, lambda ds, _: setattr(ds, "StudyInstanceUID", "Xanthippe")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_no_name_reaches_logs_warnings_or_errors(planted, edit, spoil, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoil(planted, edit)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    capfd.readouterr()
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for read in (read_ct, read_identity, read_evidence):
            try:
                result = read(planted[0].parent)
            except CspineError as error:
                said.append(f"{error!r} {error.__cause__!r}")
            else:
                said.append(str(getattr(result, "left_out", "")) + str(getattr(result, "warnings", "")))
    out, err = capfd.readouterr()
    text = "\n".join([*said, caplog.text, out, err, *(str(warning.message) for warning in caught)])
    uids = [str(dcmread(planted[0]).SeriesInstanceUID)]
    assert not [secret for secret in (*PLANTED, *uids) if secret in text]


def test_pydicom_may_speak_again_afterwards(write):
    before = (logging.getLogger("pydicom").level, list(warnings.filters))
    read_ct(write()[0].parent)
    assert (logging.getLogger("pydicom").level, list(warnings.filters)) == before
