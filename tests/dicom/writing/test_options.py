"""Key objects, Secondary Capture and Encapsulated PDF, read back from their bytes."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from cspine.anatomy import Vertebra
from cspine.dicom.capture import build_capture
from cspine.dicom.encapsulated import build_encapsulated_pdf
from cspine.dicom.key_objects import build_key_objects
from cspine.errors import InputError, OutputError


def test_key_objects_are_the_key_slices_of_fractures(series, mask_of, findings_of, written):
    findings = findings_of(series, mask_of(series), {Vertebra.C2: 0.9, Vertebra.C7: 0.6})
    document = written(build_key_objects(series, findings))
    assert document.ConceptNameCodeSequence[0].CodeValue == "113000"
    images = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in document.ContentSequence
        if item.ValueType == "IMAGE"
    }
    assert images == {findings.level(v).key_sop_instance_uid for v in (Vertebra.C2, Vertebra.C7)}
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    listed = {i.ReferencedSOPInstanceUID for i in study.ReferencedSeriesSequence[0].ReferencedSOPSequence}
    assert listed == images


def test_key_objects_of_a_multi_frame_source_name_their_frames(enhanced, mask_of, findings_of, written):
    findings = findings_of(enhanced, mask_of(enhanced), {Vertebra.C3: 0.9})
    document = written(build_key_objects(enhanced, findings))
    (image,) = (item for item in document.ContentSequence if item.ValueType == "IMAGE")
    frame = enhanced.frame_numbers[findings.level(Vertebra.C3).key_slice]
    assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == frame


def test_without_a_fracture_there_are_no_key_objects(series, mask_of, findings_of):
    assert build_key_objects(series, findings_of(series, mask_of(series))) is None


def test_a_capture_holds_the_picture_pixel_by_pixel(series, mask_of, findings_of, written):
    picture = np.random.default_rng(3).integers(0, 256, (50, 67, 3), np.uint8)
    capture = written(build_capture(series.headers[0], picture, findings_of(series, mask_of(series))))
    assert capture.file_meta.TransferSyntaxUID == RLELossless
    np.testing.assert_array_equal(capture.pixel_array, picture)
    assert (capture.BodyPartExamined, capture.BurnedInAnnotation) == ("CSPINE", "YES")
    assert "Laterality" not in capture


@pytest.mark.parametrize("picture", [np.zeros((5, 6), np.uint8), np.zeros((5, 6, 3), np.float32)])
def test_a_capture_of_anything_but_an_rgb_picture_is_refused(series, mask_of, findings_of, picture):
    with pytest.raises(OutputError, match="uint8"):
        build_capture(series.headers[0], picture, findings_of(series, mask_of(series)))


@pytest.mark.parametrize("pdf", [b"%PDF-1.4\nodd", b"%PDF-1.4\neven"])
def test_a_pdf_comes_back_byte_by_byte(series, mask_of, findings_of, written, pdf):
    document = written(build_encapsulated_pdf(series.headers[0], pdf, findings_of(series, mask_of(series))))
    assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == pdf
    assert len(document.EncapsulatedDocument) % 2 == 0
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_what_is_no_pdf_is_refused(series, mask_of, findings_of):
    with pytest.raises(OutputError, match="no PDF"):
        build_encapsulated_pdf(series.headers[0], b"<html>", findings_of(series, mask_of(series)))


def test_an_unknown_study_gets_neither_capture_nor_pdf(series, mask_of, findings_of):
    findings = findings_of(series, mask_of(series))
    with pytest.raises(InputError, match="study"):
        build_capture(Dataset(), np.zeros((5, 6, 3), np.uint8), findings)
    with pytest.raises(InputError, match="study"):
        build_encapsulated_pdf(Dataset(), b"%PDF-1.4", findings)
