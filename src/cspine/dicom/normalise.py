"""Headers as the writers of results need them: text in one character set, a complete identity."""

from __future__ import annotations

import hashlib
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage
from pydicom.valuerep import PersonName

from cspine.dicom.headers import text

_TYPE_2: Final = (
    # Required, if empty, of every patient and study (PS3.3 C.7.1.1, C.7.2.1).
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_UNIQUE: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_CT: Final = (CTImageStorage, EnhancedCTImageStorage)
_UTF8: Final = "ISO_IR 192"
_ESCAPE: Final = b"\x1b"
_TEXT: Final = ("PN", "LO", "SH", "LT", "ST", "UT", "UC")


def normalise(dataset: Dataset) -> tuple[str, ...]:
    """Complete a header, in place.

    Text is recoded to UTF-8 (ISO_IR 192); identity attributes that are absent are added, empty; a UID that is
    absent or no UID is replaced by one that is made from what the header says. A SOP class that only the file
    meta information names is named in the header too, and so is the modality of CT images.

    Returns:
        The keywords of the UIDs that were replaced.
    """
    _recode(dataset)
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    meta = getattr(dataset, "file_meta", Dataset())
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" in meta:
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    if "Modality" not in dataset and text(dataset, "SOPClassUID") in _CT:
        dataset.Modality = "CT"
    replaced = tuple(keyword for keyword in _UNIQUE if not UID(text(dataset, keyword)).is_valid)
    made = {keyword: _made_uid(dataset, keyword) for keyword in replaced}
    for keyword, uid in made.items():
        setattr(dataset, keyword, uid)
    return replaced


def _made_uid(dataset: Dataset, keyword: str) -> UID:
    """A UID from what tells this study, series or image from others."""
    telling = {
        "StudyInstanceUID": ("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime"),
        "SeriesInstanceUID": (
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "SeriesNumber",
            "StudyDate",
            "StudyTime",
        ),
        "SOPInstanceUID": ("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "SOPInstanceUID"),
        "FrameOfReferenceUID": ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    }[keyword]
    seed = "|".join((keyword, *(text(dataset, other) for other in telling), text(dataset, "PatientName")))
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], 'big')}")


def _recode(dataset: Dataset) -> None:
    if text(dataset, "SpecificCharacterSet") != _UTF8 and not _is_ascii(dataset):
        dataset.decode()
        _rewrite_names(dataset)
    dataset.SpecificCharacterSet = _UTF8


def _is_ascii(dataset: Dataset) -> bool:
    """Whether no text has bytes that the character set decides on."""
    for tag in dataset.keys():  # noqa: SIM118 (iterating over a Dataset parses every element)
        element = dataset.get_item(tag)
        vr = (element.VR if element is not None else None) or _vr_of(tag)
        if vr == "SQ":
            if not all(_is_ascii(item) for item in dataset[tag].value):
                return False
        elif element is not None and vr in _TEXT:
            value = element.value if isinstance(element.value, bytes) else str(element.value).encode()
            if not value.isascii() or _ESCAPE in value:
                return False
    return True


def _vr_of(tag: BaseTag) -> str:
    """The VR of a tag in a file that does not say (implicit VR)."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


def _rewrite_names(dataset: Dataset) -> None:
    """Give names and items their own text: pydicom keeps the bytes and the character set they came in."""
    for element in dataset.iterall():
        if element.VR == "PN" and element.value:
            names = element.value if element.VM > 1 else [element.value]
            fresh = [PersonName(str(name)) for name in names]
            element.value = fresh if element.VM > 1 else fresh[0]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _drop_character_set(item)


def _drop_character_set(item: Dataset) -> None:
    if "SpecificCharacterSet" in item:
        del item.SpecificCharacterSet
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                _drop_character_set(inner)
