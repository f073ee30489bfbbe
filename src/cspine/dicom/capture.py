"""A picture of the result as a Secondary Capture, for viewers that show nothing else."""

from __future__ import annotations

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from cspine.dicom import codes
from cspine.dicom.filing import file_under, require_study
from cspine.dicom.headers import quietly
from cspine.dicom.provenance import Provenance, instance
from cspine.errors import OutputError
from cspine.findings import StudyFindings


def build_capture(header: Dataset, rgb: NDArray[np.uint8], findings: StudyFindings) -> highdicom.sc.SCImage:
    """Build the Secondary Capture (RLE) of a picture.

    Args:
        header: any header of the study.
        rgb: uint8 (rows, columns, 3).
        findings: names the networks that took part.

    Raises:
        InputError: the study of `header` is unknown.
        OutputError: `rgb` is no such picture.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise OutputError(f"A capture needs uint8 (rows, columns, 3), not {rgb.dtype} {rgb.shape}.")
    require_study([header])
    with quietly():
        capture = highdicom.sc.SCImage(
            pixel_array=rgb,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=header.StudyInstanceUID,
            patient_birth_date="",
            transfer_syntax_uid=RLELossless,
            **instance("OT", "AI fracture report, picture (research use only)"),
            **Provenance(findings.models).equipment(),
        )
        file_under(capture, header)
    # A composed page has no one orientation: highdicom wants one, the standard lets it be empty (Type 2C).
    capture.PatientOrientation = None
    capture.BodyPartExamined = codes.BODY_PART
    capture.BurnedInAnnotation = "YES"
    return capture
