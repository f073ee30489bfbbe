"""Every folder of the real data ends as its table expects, as far as reading goes."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.dicom import read_ct, read_identity
from cspine.dicom.frames import single_frame
from cspine.dicom.headers import quietly, read_header
from cspine.dicom.pixels import read_plane
from cspine.errors import InputError, NoUsableSeriesError

SYNTAX = "CTImage.dcm_{}.dcm"
LOSSLESS = [
    "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1",
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
]
LOSSY = [
    ("JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50", 64),
    ("JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81", 3),
    ("JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91", 6),
]


def hounsfield(path) -> np.ndarray:
    with quietly():
        return read_plane(single_frame(read_header(path)))


def test_the_real_neck_is_read_from_vertex_to_t1(real_data):
    series = read_ct(real_data("real-neck-ct"))
    grid = series.volume.grid
    assert grid.shape == (90, 511, 511)
    np.testing.assert_allclose(grid.spacing_mm, (3, 1, 1))
    np.testing.assert_allclose(grid.to_lps_mm([(0, 0, 0), (89, 0, 0)]), [(1, -511, -267), (1, -511, 0)])
    assert (series.volume.hu.min(), series.volume.hu.max()) == (-1024, 3844)
    assert len({header.SOPInstanceUID for header in series.headers}) == 90
    assert "3.0 mm thick" in series.warnings[0]
    assert [left.count for left in series.left_out] == [2]


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_lossless_syntax_of_a_real_slice_decodes_alike(real_data, name):
    folder = real_data("ct-transfer-syntaxes")
    reference = hounsfield(folder / "CTImage.dcm")
    assert reference.shape == (512, 512)
    assert (reference.min(), reference.max()) == (-1024, 1378)
    np.testing.assert_array_equal(hounsfield(folder / SYNTAX.format(name)), reference)


@pytest.mark.parametrize(("name", "most"), LOSSY)
def test_lossy_syntaxes_of_a_real_slice_come_close(real_data, name, most):
    folder = real_data("ct-transfer-syntaxes")
    reference, lossy = hounsfield(folder / "CTImage.dcm"), hounsfield(folder / SYNTAX.format(name))
    inside = reference > -1024
    assert np.percentile(np.abs(lossy[inside].astype(int) - reference[inside]), 99) <= most


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53", "JPEG Spectral Selection"),
        ("JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55", "JPEG Full Progression"),
    ],
)
def test_retired_syntaxes_are_refused_by_name(real_data, name, words):
    with pytest.raises(InputError, match=words):
        read_ct(real_data("ct-transfer-syntaxes") / SYNTAX.format(name))


def test_a_lossy_syntax_without_decoder_is_refused_by_file_and_name(real_data):
    path = real_data("ct-transfer-syntaxes") / SYNTAX.format(
        "JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51"
    )
    with pytest.raises(InputError, match=r"JPEG Extended .*cannot be decoded"):
        hounsfield(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("ct-transfer-syntaxes/CTImage.dcm", "single slice"),
        ("ct-transfer-syntaxes/CT1_J2KR", "single slice"),
        ("ct-transfer-syntaxes/CT2_J2KR", "derived images"),
        ("ct-transfer-syntaxes/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm", "perfusion"),
        ("ct-transfer-syntaxes/no-pixel-data.dcm", "modality SR, not CT"),
        ("ct-transfer-syntaxes/no-pixel-spacing.dcm", "modality US, not CT"),
        ("odd-headers/eCT_Supplemental.dcm", "perfusion"),
        ("odd-headers/bad_sequence.dcm", "single slice"),
        ("odd-headers/CT_small.dcm", "single slice"),
        ("odd-headers/explicit_VR-UN.dcm", "single slice"),
        ("odd-headers/J2K_pixelrep_mismatch.dcm", "single slice"),
        ("odd-headers/693_J2KR.dcm", "single slice"),
        ("odd-headers/dicomdirtests/98892001/CT2N", "localizer"),
        ("odd-headers/dicomdirtests/98892003/MR700", "modality MR, not CT"),
        ("broken-series/failing_all/notavolume/001", "All 4 slices lie at one position, as in bolus"),
        ("broken-series/failing_all/slicecount/001", "modality MR, not CT"),
        ("broken-series/failing_all/sliceorientation/001", "modality MR, not CT"),
        ("tilted-multi-series/Philips_S21610/S1000", "localizer"),
        ("tilted-multi-series/Philips_S21610/S4010", "secondary captures"),
    ],
)
def test_what_cannot_be_analysed_is_refused_for_its_own_reason(real_data, path, words):
    folder, rest = path.split("/", 1)
    source = real_data(folder) / rest
    with pytest.raises(NoUsableSeriesError, match=words):
        read_ct(source)
    assert read_identity(source).StudyInstanceUID


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("broken-series/failing_all/sliceincrement/001", "10.00 mm where 5.00 mm are usual"),
        ("broken-series/failing_all/sliceincrement/002", "1.50 mm where 0.75 mm are usual"),
        ("odd-headers/dicomdirtests/77654033/CT2", "202.50 mm where"),
        ("odd-headers/dicomdirtests/TINY_ALPHA", "50 of 50 CT images hold no pixels"),
        ("odd-headers/dicomdirtests/TINY_ALPHA/DICOMDIR", "50 of 50 CT images hold no pixels"),
    ],
)
def test_what_is_incomplete_is_refused_for_its_own_reason(real_data, path, words):
    folder, rest = path.split("/", 1)
    source = real_data(folder) / rest
    with pytest.raises(InputError, match=words):
        read_ct(source)
    assert read_identity(source).StudyInstanceUID


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("odd-headers", "patients"),
        ("ct-transfer-syntaxes", "patients"),
        ("broken-series", "studies"),
        ("odd-headers/dicomdirtests", "patients"),
        ("odd-headers/dicomdirtests/DICOMDIR-bigEnd", "patients"),
        ("odd-headers/dicomdirtests/DICOMDIR-nopatient", "patients"),
        ("odd-headers/dicomdirtests/98892003", "studies"),
    ],
)
def test_folders_of_several_patients_or_studies_are_refused(real_data, path, words):
    folder, _, rest = path.partition("/")
    with pytest.raises(InputError, match=rf"holds \d+ {words}"):
        read_ct(real_data(folder) / rest)
    assert read_identity(real_data(folder) / rest) is None


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("693_J2KR.dcm", -1024, 1468),
        ("693_UNCR.dcm", -1024, 1468),
        ("J2K_pixelrep_mismatch.dcm", -1024, 1896),
        ("explicit_VR-UN.dcm", -1024, 1186),
        ("bad_sequence.dcm", -1011, 1243),
    ],
)
def test_odd_pixels_have_the_right_hounsfield_units(real_data, name, lowest, highest):
    hu = hounsfield(real_data("odd-headers") / name)
    assert (hu.min(), hu.max()) == (lowest, highest)


def test_the_same_slice_compressed_and_not_is_the_same(real_data):
    folder = real_data("odd-headers")
    np.testing.assert_array_equal(hounsfield(folder / "693_J2KR.dcm"), hounsfield(folder / "693_UNCR.dcm"))


def test_the_tilted_series_is_desheared(real_data):
    series = read_ct(real_data("broken-series") / "failing_all" / "gantrytilting" / "001")
    grid = series.volume.grid
    axes = grid.affine_lps[:3, :3] / grid.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    # Siemens, 14 degrees, 5 mm along the table.
    assert grid.spacing_mm[0] == pytest.approx(5 * 0.9703, abs=1e-3)
    assert series.shear_px[:, 0].max() * grid.spacing_mm[1] == pytest.approx(15 * 0.2419, abs=1e-2)


def test_of_several_tilted_series_the_longer_is_taken_and_the_others_are_accounted_for(real_data):
    series = read_ct(real_data("tilted-multi-series") / "Philips_S21610")
    assert series.volume.grid.shape[0] == 54
    assert series.headers[0].SeriesNumber == 201
    assert series.shear_px is not None
    assert series.volume.grid.spacing_mm[0] == pytest.approx(2.371, abs=1e-3)
    assert {left.reason: left.count for left in series.left_out} == {
        "DICOMDIR, not an image": 3,
        "localizer (scout) images": 1,
        "secondary captures or other objects, not CT images": 5,
        "Series 301: Series 201 was preferred": 20,
    }


def test_the_head_and_the_abdomen_are_read_whatever_they_show(real_data):
    lumbar = read_ct(real_data("lumbar-ct-with-labels"))
    assert lumbar.volume.grid.shape == (20, 512, 512)
    np.testing.assert_allclose(lumbar.volume.grid.spacing_mm, (2.0, 0.9765625, 0.9765625))
    assert any("made up" in warning for warning in lumbar.warnings)
    head = read_ct(real_data("odd-headers") / "dicomdirtests" / "98892001" / "CT5N")
    assert head.volume.grid.shape == (5, 16, 16)
