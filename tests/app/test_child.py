"""The analysing process, from its request to the graph."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cspine.errors import InputError, ModelError
from fracture_map.child import analyse
from fracture_map.messages import Request

PATIENCE_S = 600


def request_for(source: Path, staging: Path) -> Request:
    return Request(input=str(source), staging=str(staging), models="", device="cpu", previous=None, also=())


def test_a_study_that_cannot_be_read_does_not_wait_for_the_networks(tmp_path):
    (tmp_path / "in").mkdir()
    read, loaded = threading.Event(), threading.Event()

    def load(models: str, device: str) -> None:
        assert read.wait(PATIENCE_S)
        loaded.set()

    try:
        with pytest.raises(InputError):
            analyse(request_for(tmp_path / "in", tmp_path), lambda _: None, load)
        assert not loaded.is_set()
    finally:
        read.set()
    assert loaded.wait(PATIENCE_S)  # what the next study of this process needs goes on being loaded


def test_networks_that_cannot_be_loaded_are_an_error_of_the_models(study, tmp_path):
    def load(models: str, device: str) -> None:
        raise ModelError("They are not there.")

    with pytest.raises(ModelError, match="not there"):
        analyse(request_for(study.folder, tmp_path), lambda _: None, load)
