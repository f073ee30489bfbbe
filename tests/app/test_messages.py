"""The two processes understand each other."""

from __future__ import annotations

import pytest

from fracture_map.child import failure_of
from fracture_map.messages import (
    DoneMessage,
    FailedMessage,
    StageMessage,
    StudyMessage,
    decode,
    encode,
)


@pytest.mark.parametrize(
    "message",
    [
        StageMessage("read"),
        StageMessage("read", 1.5),
        StudyMessage("1.2.3", ((2, "localizers"),), ("thick",)),
        DoneMessage("cpu"),
        DoneMessage("cuda", 3, "No spine."),
        FailedMessage(4, "Line one\nline two ü"),
    ],
)
def test_every_message_is_one_line_and_comes_back_as_it_was(message):
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == message


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b"{}", b'{"kind": "Quux"}', b'{"kind": "StageMessage"}'])
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ValueError):
        decode(line)


def test_a_defect_is_told_by_its_kind_alone_for_its_text_may_name_the_patient():
    told = failure_of(KeyError("Doe^Jane"))
    assert told.exit_code == 1
    assert "KeyError" in told.sentence
    assert "Doe" not in told.sentence


def test_want_of_memory_is_said_plainly():
    assert "memory" in failure_of(MemoryError()).sentence
