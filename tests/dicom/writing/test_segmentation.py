"""The Segmentation, read back from its bytes."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from cspine.anatomy import Vertebra
from cspine.dicom.provenance import Provenance, to_bytes
from cspine.dicom.segmentation import build_segmentation, segment_numbers
from cspine.dicom.verification import verify_segmentation
from cspine.errors import OutputError
from cspine.findings import ModelVersion
from cspine.volume import SpineMask


@pytest.mark.parametrize("labelmap", [False, True])
def test_every_voxel_lies_where_the_mask_has_it_in_the_patient(
    any_series, mask_of, findings_of, voxels, labelmap
):
    mask = mask_of(any_series)
    built = build_segmentation(any_series, mask, findings_of(any_series, mask), labelmap=labelmap)
    data = to_bytes(built)
    assert voxels.written(dcmread(io.BytesIO(data)), mask) == voxels.of(mask)
    verify_segmentation(data, any_series, mask)


@pytest.mark.parametrize("labelmap", [False, True])
def test_highdicom_reads_the_mask_back_by_source_image(series, mask_of, findings_of, labelmap):
    mask = mask_of(series)
    built = build_segmentation(series, mask, findings_of(series, mask), labelmap=labelmap)
    read = highdicom.seg.segread(io.BytesIO(to_bytes(built)))
    labels = read.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in series.headers],
        combine_segments=True,
        ignore_spatial_locations=False,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(labels, mask.labels)


def test_highdicom_reads_the_mask_of_a_multi_frame_source_back_by_frame(enhanced, mask_of, findings_of):
    mask = mask_of(enhanced)
    built = build_segmentation(enhanced, mask, findings_of(enhanced, mask))
    read = highdicom.seg.segread(io.BytesIO(to_bytes(built)))
    labels = read.get_pixels_by_source_frame(
        enhanced.headers[0].SOPInstanceUID,
        list(enhanced.frame_numbers),
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(labels, mask.labels)


def test_segments_are_numbered_without_gaps_and_coded_by_vertebra(series, mask_of, findings_of):
    mask = mask_of(series, Vertebra.C3, Vertebra.C6)
    written = dcmread(io.BytesIO(to_bytes(build_segmentation(series, mask, findings_of(series, mask)))))
    described = [
        (s.SegmentNumber, s.SegmentedPropertyTypeCodeSequence[0].CodeValue, s.SegmentLabel, s.TrackingID)
        for s in written.SegmentSequence
    ]
    assert described == [
        (1, "113205007", "C3 vertebra", "C3"),
        (2, "5329002", "C4 vertebra", "C4"),
        (3, "36978003", "C5 vertebra", "C5"),
        (4, "36054005", "C6 vertebra", "C6"),
    ]
    assert all("RecommendedDisplayCIELabValue" in s for s in written.SegmentSequence)
    assert {
        s.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator for s in written.SegmentSequence
    } == {"SCT"}


def test_one_vertebra_alone_is_written_and_verified(series, mask_of, findings_of):
    mask = mask_of(series, Vertebra.C5, Vertebra.C5)
    data = to_bytes(build_segmentation(series, mask, findings_of(series, mask)))
    verify_segmentation(data, series, mask)
    assert segment_numbers(dcmread(io.BytesIO(data))) == {Vertebra.C5: 1}


def test_only_frames_with_a_segment_are_written(any_series, mask_of, findings_of):
    mask = mask_of(any_series, Vertebra.C2, Vertebra.C3)
    built = build_segmentation(any_series, mask, findings_of(any_series, mask))
    shown = sum(int((mask.labels == v).any(axis=(1, 2)).sum()) for v in (Vertebra.C2, Vertebra.C3))
    assert built.NumberOfFrames == shown
    assert dcmread(io.BytesIO(to_bytes(built))).pixel_array.any(axis=(1, 2)).all()


def test_no_vertebra_gives_no_segmentation(series, findings_of):
    empty = SpineMask.from_labels(series.volume.grid, np.zeros(series.volume.grid.shape, np.uint8))
    assert build_segmentation(series, empty, findings_of(series, empty)) is None


def test_a_vertebra_that_lies_in_the_padding_of_a_tilted_volume_gets_no_segment(tilted, mask_of, findings_of):
    labels = mask_of(tilted, Vertebra.C4, Vertebra.C6).labels.copy()
    labels[-6:-1, :12] = Vertebra.C1
    mask = SpineMask.from_labels(tilted.volume.grid, labels)
    data = to_bytes(build_segmentation(tilted, mask, findings_of(tilted, mask)))
    assert list(segment_numbers(dcmread(io.BytesIO(data)))) == [Vertebra.C4, Vertebra.C5, Vertebra.C6]
    verify_segmentation(data, tilted, mask)


def test_a_mask_on_another_grid_is_refused(series, tilted, mask_of, findings_of):
    mask = mask_of(tilted)
    with pytest.raises(OutputError, match="grid"):
        build_segmentation(series, mask, findings_of(tilted, mask))


def test_tracking_uids_stay_and_sop_uids_change_from_run_to_run(series, mask_of, findings_of):
    mask = mask_of(series)
    first, second = (build_segmentation(series, mask, findings_of(series, mask)) for _ in range(2))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    uids = [[segment.TrackingUID for segment in built.SegmentSequence] for built in (first, second)]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 7


def test_other_weights_or_another_version_are_another_device(series, mask_of, findings_of):
    mask = mask_of(series)
    findings = findings_of(series, mask)
    retrained = replace(findings, models=(ModelVersion("cspine_ct_segmentation", "0.1.0", "c" * 64),))
    devices = []
    for each in (findings, findings, retrained):
        built = dcmread(io.BytesIO(to_bytes(build_segmentation(series, mask, each))))
        (ours,) = (i for i in built.ContributingEquipmentSequence if i.Manufacturer == "Fracture Map")
        assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        devices.append(ours.DeviceUID)
    assert devices[0] == devices[1] != devices[2]
    assert Provenance(findings.models, version="9.9.9").device_uid != devices[0]


def test_the_network_that_segmented_is_named_with_its_version_and_weights(series, mask_of, findings_of):
    mask = mask_of(series)
    written = dcmread(io.BytesIO(to_bytes(build_segmentation(series, mask, findings_of(series, mask)))))
    for segment in written.SegmentSequence:
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("cspine_ct_segmentation", "0.1.0")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert "a" * 64 in algorithm.AlgorithmParameters


def test_slice_thickness_of_a_multi_frame_source_comes_from_its_functional_groups(
    enhanced, mask_of, findings_of
):
    mask = mask_of(enhanced)
    built = build_segmentation(enhanced, mask, findings_of(enhanced, mask))
    measures = built.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (3.5, 2.5)
