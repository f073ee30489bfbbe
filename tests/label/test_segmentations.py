"""DICOM Segmentations of ours and of others."""

from __future__ import annotations

import io
from copy import deepcopy

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.coding import Code

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom import codes, read_ct, to_bytes
from cspine.findings import Decision
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, SpineMask, Volume
from cspine_label.errors import RefusedLabelError
from cspine_label.fractures import annotated_findings, read_annotations
from cspine_label.reports import drawn_report
from cspine_label.segmentations import (
    drawn_segmentation,
    is_drawn,
    read_segmentation,
    referenced_series,
    segment_levels,
)

NOTHING = read_annotations({})


def _series(folder, tilt_deg: float = 0.0):
    affine = np.array([[0, 0, 0.8, -14], [0, 0.75, 0, -14], [1.5, 0, 0, 30], [0, 0, 0, 1]], float)
    grid = Grid((24, 40, 36), affine)
    hu = np.random.default_rng(3).integers(-900, 1500, grid.shape).astype(np.int16)
    write_study(Volume(grid, hu), folder, StudyOptions(tilt_deg=tilt_deg))
    return read_ct(folder)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return _series(tmp_path_factory.mktemp("ct"))


def _mask(series, levels=CERVICAL) -> SpineMask:
    grid = series.volume.grid
    labels = np.zeros(grid.shape, np.uint8)
    for vertebra in levels:
        first = 1 + 3 * (7 - int(vertebra))
        labels[first : first + 3, 14:26, 10:24] = vertebra
    return SpineMask.from_labels(grid, labels)


def _drawn(series, mask, said=NOTHING) -> pydicom.Dataset:
    findings = annotated_findings(said, series.volume, mask)
    return pydicom.dcmread(io.BytesIO(to_bytes(drawn_segmentation(series, mask, findings, "ann"))))


def test_what_was_drawn_comes_back_level_by_level_through_bytes(series):
    mask = _mask(series, CERVICAL[2:])
    written = _drawn(series, mask)
    assert segment_levels(written) == dict(enumerate(CERVICAL[2:], start=1))
    assert np.array_equal(read_segmentation(written, series).labels, mask.labels)
    assert is_drawn(written)
    assert referenced_series(written) == series.series_uid
    assert str(written.ContentCreatorName).startswith("ann")


def test_a_tilted_series_gets_its_label_on_the_tilted_frames_and_back(tmp_path):
    tilted = _series(tmp_path / "tilted", tilt_deg=12.0)
    assert tilted.shear_px is not None
    mask = _mask(tilted)
    found = read_segmentation(_drawn(tilted, mask), tilted)
    assert np.array_equal(found.labels, mask.labels)


def test_segments_without_our_codes_are_known_by_name_and_other_structures_left_out(series):
    written = _drawn(series, _mask(series))
    for segment, name in zip(written.SegmentSequence, ["vertebrae_C1", "c2", "Tumour", *"4567"], strict=True):
        segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "99"
        segment.SegmentLabel = name if name in ("vertebrae_C1", "c2", "Tumour") else f"C{name} (body)"
    found = read_segmentation(written, series)
    expected = np.where(_mask(series).labels == 3, 0, _mask(series).labels)
    assert np.array_equal(found.labels, expected)


def _foreign(series, grid: Grid, labels: np.ndarray, **changes) -> pydicom.Dataset:
    """A Segmentation on a grid of its own, as other software writes it."""
    volume = highdicom.Volume(
        labels,
        affine=grid.affine_lps,
        coordinate_system="PATIENT",
        frame_of_reference_uid=str(series.headers[0].FrameOfReferenceUID),
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=1,
            segment_label="C4",
            segmented_property_category=codes.ANATOMICAL_STRUCTURE,
            segmented_property_type=Code("51282000", "SCT", "Vertebra"),
            algorithm_type="MANUAL",
        )
    ]
    written = highdicom.seg.Segmentation(
        source_images=[deepcopy(header) for header in series.headers[:1]],
        pixel_array=volume,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=highdicom.UID(),
        series_number=5,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
    )
    for keyword, value in changes.items():
        setattr(written, keyword, value)
    return pydicom.dcmread(io.BytesIO(to_bytes(written)))


def test_a_segmentation_on_another_grid_is_resampled_onto_the_image(series):
    affine = np.array([[0, 0, 0.4, -14], [0, 0.375, 0, -14], [0.75, 0, 0, 30], [0, 0, 0, 1]], float)
    labels = np.zeros((48, 80, 72), np.uint8)
    labels[10:30, 30:50, 20:48] = 1
    found = read_segmentation(_foreign(series, Grid(labels.shape, affine), labels), series)
    assert set(np.unique(found.labels)) == {0, int(Vertebra.C4)}
    assert np.array_equal(found.labels > 0, labels[::2, ::2, ::2] > 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "no DICOM Segmentation"),
        ({"FrameOfReferenceUID": "1.2.3"}, "another frame of reference"),
    ],
)
def test_an_object_that_is_not_of_these_images_is_refused(series, change, why):
    written = _drawn(series, _mask(series))
    for keyword, value in change.items():
        setattr(written, keyword, value)
    with pytest.raises(RefusedLabelError, match=why):
        read_segmentation(written, series)


def test_a_segmentation_without_a_level_or_without_a_voxel_is_refused(series):
    written = _drawn(series, _mask(series))
    empty = deepcopy(written)
    empty.PixelData = bytes(len(written.PixelData))
    with pytest.raises(RefusedLabelError, match="no voxel"):
        read_segmentation(empty, series)
    for segment in written.SegmentSequence:
        segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "99"
        segment.SegmentLabel = "T1"
    with pytest.raises(RefusedLabelError, match="no segment that is one of C1 to C7"):
        read_segmentation(written, series)


def test_two_segments_of_one_level_and_damaged_pixels_are_refused(series):
    written = _drawn(series, _mask(series))
    damaged = deepcopy(written)
    damaged.PixelData = written.PixelData[:-100]
    with pytest.raises(RefusedLabelError, match="cannot be decoded"):
        read_segmentation(damaged, series)
    written.SegmentSequence[1] = deepcopy(written.SegmentSequence[0])
    with pytest.raises(RefusedLabelError, match="C1 has two segments"):
        read_segmentation(written, series)


def test_the_report_says_what_the_person_said_and_states_no_probability(series):
    mask = _mask(series)
    said = read_annotations({"C5": "present", "C6": "absent"})
    segmentation = _drawn(series, mask, said)
    findings = annotated_findings(said, series.volume, mask)
    report = pydicom.dcmread(io.BytesIO(to_bytes(drawn_report(series, findings, segmentation, "ann"))))
    text = "\n".join(str(element.value) for element in report.iterall() if element.VR != "SQ")
    assert codes.DECISION[Decision.PRESENT].meaning in text
    assert "Judged by a person to teach the networks; fractured: C5." in text
    assert "The annotator did not judge C4." in text
    assert codes.PROBABILITY.value not in text
    assert "AI output" not in text
    assert "ann" in {str(element.value).rstrip("^") for element in report.iterall() if element.VR == "PN"}
    assert str(segmentation.SOPInstanceUID) in text
