"""Files through multipart/related, whole or not at all."""

from __future__ import annotations

import pytest

from fracture_map.watch.multipart import STORE_TYPE, body_of, save_parts
from fracture_map.watch.states import PacsError

FILES = [b"first", b"", b"\r\n--not a boundary\r\n\r\n" + bytes(range(256)) * 50]
KIND = 'multipart/related; type="application/dicom"; boundary="a b"'


def body(files: list[bytes]) -> bytes:
    parts = [b"--a b\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n" for data in files]
    return b"".join(parts) + b"--a b--\r\n"


@pytest.mark.parametrize("size", [1, 7, 100000])
def test_every_part_becomes_a_file_byte_for_byte_however_it_is_cut(tmp_path, size):
    whole = body(FILES)
    chunks = [whole[k : k + size] for k in range(0, len(whole), size)]
    assert save_parts(KIND, chunks, tmp_path, "x-") == len(FILES)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == FILES


@pytest.mark.parametrize("kept", [0, 30, 60, 5000, -9])
def test_a_body_that_breaks_off_is_an_error(tmp_path, kept):
    with pytest.raises(PacsError):
        save_parts(KIND, [body(FILES)[:kept]], tmp_path, "x-")


@pytest.mark.parametrize("kind", ["application/json", "multipart/related", ""])
def test_what_is_no_multipart_is_an_error(tmp_path, kind):
    with pytest.raises(PacsError, match="multipart/related"):
        save_parts(kind, [body(FILES)], tmp_path, "x-")


def test_what_is_stored_is_what_the_pacs_gets(tmp_path):
    assert save_parts(STORE_TYPE, [body_of(FILES[2])], tmp_path, "x-") == 1
    assert (tmp_path / "x-000001.dcm").read_bytes() == FILES[2]
