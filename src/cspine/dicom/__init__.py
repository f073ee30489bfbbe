"""DICOM in and out: reading the CT of a study, writing what was found.

The names below are imported from their modules when they are first used, so that a command that reads nothing
starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cspine.dicom.capture import build_capture
    from cspine.dicom.encapsulated import build_encapsulated_pdf
    from cspine.dicom.failure_report import build_failure_report
    from cspine.dicom.key_objects import build_key_objects
    from cspine.dicom.provenance import from_bytes, to_bytes
    from cspine.dicom.reading import read_ct, read_evidence, read_identity
    from cspine.dicom.report import build_report
    from cspine.dicom.segmentation import build_segmentation
    from cspine.dicom.series import CtSeries, LeftOut
    from cspine.dicom.verification import verify_report, verify_segmentation

_HOMES: Final = {
    "CtSeries": "cspine.dicom.series",
    "LeftOut": "cspine.dicom.series",
    "build_capture": "cspine.dicom.capture",
    "build_encapsulated_pdf": "cspine.dicom.encapsulated",
    "build_failure_report": "cspine.dicom.failure_report",
    "build_key_objects": "cspine.dicom.key_objects",
    "build_report": "cspine.dicom.report",
    "build_segmentation": "cspine.dicom.segmentation",
    "from_bytes": "cspine.dicom.provenance",
    "read_ct": "cspine.dicom.reading",
    "read_evidence": "cspine.dicom.reading",
    "read_identity": "cspine.dicom.reading",
    "to_bytes": "cspine.dicom.provenance",
    "verify_report": "cspine.dicom.verification",
    "verify_segmentation": "cspine.dicom.verification",
}

__all__ = [
    "CtSeries",
    "LeftOut",
    "build_capture",
    "build_encapsulated_pdf",
    "build_failure_report",
    "build_key_objects",
    "build_report",
    "build_segmentation",
    "from_bytes",
    "read_ct",
    "read_evidence",
    "read_identity",
    "to_bytes",
    "verify_report",
    "verify_segmentation",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
