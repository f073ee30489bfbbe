from __future__ import annotations

import io
import json
import os
from queue import SimpleQueue

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from cspine.dicom import decoding, read_ct
from cspine.dicom.frames import single_frame
from cspine.dicom.headers import read_header
from cspine.errors import CspineError, InputError
from cspine.phantom.dicom_study import Order, StudyOptions


@pytest.fixture
def helped(monkeypatch):
    """Share every compressed series with helper processes, however short."""
    monkeypatch.setattr(decoding, "WORTH_HELPERS_S", 0.0)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless])
def test_helper_processes_decode_the_same(write, volume, helped, syntax):
    paths = write(options=StudyOptions(transfer_syntax=syntax, order=Order.SHUFFLED))
    series = read_ct(paths[0].parent, threads=3)
    np.testing.assert_array_equal(series.volume.hu, volume.hu)
    assert not series.volume.hu.flags.writeable


def test_helper_processes_undo_a_tilt_the_same(write, smooth, helped, monkeypatch):
    folder = write(options=StudyOptions(transfer_syntax=JPEG2000Lossless, tilt_deg=15), of=smooth)[0].parent
    shared = read_ct(folder, threads=2).volume.hu
    monkeypatch.setattr(decoding, "WORTH_HELPERS_S", 1e9)
    np.testing.assert_array_equal(shared, read_ct(folder, threads=2).volume.hu)


def test_a_multi_frame_image_is_one_file_and_needs_no_helper(write, volume, helped):
    paths = write(options=StudyOptions(transfer_syntax=JPEG2000Lossless, enhanced=True))
    np.testing.assert_array_equal(read_ct(paths[0], threads=4).volume.hu, volume.hu)


def test_a_truncated_file_is_named_whoever_decodes_it(write, helped):
    paths = write(options=StudyOptions(transfer_syntax=JPEGLosslessSV1))
    paths[8].write_bytes(paths[8].read_bytes()[:-500])
    with pytest.raises(InputError, match=r"'CT00009.dcm'"):
        read_ct(paths[0].parent, threads=2)


@pytest.mark.filterwarnings("ignore:End of file reached")
def test_a_helper_says_which_file_it_cannot_decode(write):
    paths = write(options=StudyOptions(transfer_syntax=JPEGLosslessSV1))
    paths[8].write_bytes(paths[8].read_bytes()[:-500])
    jobs = [
        {"path": str(path), "slices": [k], "frames": [[0, 1.0, -1024.0]], "at_px": None}
        for k, path in enumerate(paths)
    ]
    shared = os.memfd_create("test")
    os.ftruncate(shared, 2 * 12 * 40 * 36)
    answers = io.StringIO()
    decoding.help_decoding(
        shared,
        (12, 40, 36),
        io.StringIO("\n".join(json.dumps(part) for part in (jobs[:8], jobs[8:]))),
        answers,
    )
    os.close(shared)
    fine, damaged = map(json.loads, answers.getvalue().splitlines())
    assert fine is None
    assert "'CT00009.dcm'" in damaged


def test_a_helper_that_ends_early_is_an_error_not_a_gap_in_the_volume(write, monkeypatch):
    header = read_header(write(options=StudyOptions(transfer_syntax=JPEG2000Lossless))[0])
    waiting = SimpleQueue()
    waiting.put(decoding._jobs([single_frame(header)]))
    monkeypatch.setattr(decoding.sys, "executable", "/bin/false")
    shared = os.memfd_create("test")
    with pytest.raises(CspineError, match="ended early"):
        decoding._drive_helper(waiting, shared, (1, 40, 36), None)
    os.close(shared)
