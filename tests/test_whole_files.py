from __future__ import annotations

import json

import pytest

from cspine.errors import OutputError
from cspine.whole_files import write_json, write_whole


def test_a_file_appears_with_the_folders_above_it(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"C1": [1, 2]})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"C1": [1, 2]}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


@pytest.mark.parametrize("failure", [OSError("no space left"), RuntimeError("archive writer failed")])
def test_what_cannot_be_written_to_its_end_leaves_the_old_file_and_nothing_half(tmp_path, failure):
    path = tmp_path / "scores.npz"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise failure

    with pytest.raises(OutputError, match="disk full"):
        write_whole(path, write)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["scores.npz"]
