"""Images in a PACS: each CT series is a case, called by its Series Instance UID."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from cspine.dicom import read_ct
from cspine.dicom.headers import text
from cspine.dicom.provenance import to_bytes
from cspine.errors import InputError
from cspine_label.cases import CaseImage
from cspine_label.errors import ConflictError, UnknownNameError
from cspine_label.pacs import Pacs
from cspine_label.segmentations import is_drawn, referenced_series

FRESH_S: Final = 5.0
"""How long an answer of the PACS counts as true; a label that was saved here is known at once."""


@dataclass(frozen=True)
class DrawnLabel:
    """A Segmentation in the PACS that a person had a hand in."""

    study_uid: str
    series_uid: str


class _Remembered:
    """An answer of the PACS, asked anew when it is old."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._value: Any = None
        self._at = float("-inf")

    def __call__(self) -> Any:
        with self._lock:
            if time.monotonic() - self._at > FRESH_S:
                self._value, self._at = self._ask(), time.monotonic()
            return self._value

    def forget(self) -> None:
        self._at = float("-inf")


class PacsImages:
    """The CT series of a PACS. What was read once stays in a local folder, patient data included."""

    def __init__(self, pacs: Pacs, folder: Path) -> None:
        self.pacs, self._folder = pacs, folder
        self.name = pacs.url
        self._series = _Remembered(self._search)
        self._drawn = _Remembered(self._search_drawn)
        self._known_segs: dict[str, str | None] = {}
        self._reading = threading.Lock()

    def cases(self) -> tuple[str, ...]:
        """Series Instance UIDs, sorted."""
        return tuple(sorted(self._series()))

    def drawn(self) -> Mapping[str, DrawnLabel]:
        """The Segmentation of each case that has one that a person drew, the newest one."""
        found: Mapping[str, DrawnLabel] = self._drawn()
        return found

    def forget(self) -> None:
        """Ask the PACS anew next time: something was sent to it."""
        self._series.forget()
        self._drawn.forget()

    def info(self, case_id: str) -> Mapping[str, Any]:
        """What MONAI Label's clients expect to be told of a series."""
        item = self._item(case_id)
        names = ("StudyDate", "StudyTime", "Modality", "PatientID", "StudyInstanceUID")
        return {"SeriesInstanceUID": case_id, **{name: text(item, name) or "UNK" for name in names}}

    def is_here(self, case_id: str) -> bool:
        """Whether the images are in the local folder, so that the PACS is not needed."""
        return (self._place(case_id) / "complete").exists()

    def path(self, case_id: str) -> Path:
        """The folder of its DICOM files, from the PACS where they are not here yet."""
        with self._reading:
            folder = self._place(case_id)
            if not self.is_here(case_id):
                self._fetch(case_id, folder)
            return folder / "dicom"

    def read(self, case_id: str) -> CaseImage:
        """The image of a case."""
        series = read_ct(self.path(case_id))
        return CaseImage(case_id, series.volume, series)

    def add(self, case_id: str, file: Path) -> str:
        """Images come into a PACS from elsewhere."""
        raise ConflictError("Images of a PACS cannot be added here; send them to the PACS.")

    def _fetch(self, case_id: str, folder: Path) -> None:
        study = text(self._item(case_id), "StudyInstanceUID")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "dicom").mkdir(parents=True)
        instances = self.pacs.series(study, case_id)
        if not instances:
            raise InputError("The PACS holds no image of this series.")
        for number, dataset in enumerate(instances):
            (folder / "dicom" / f"CT{number:05d}.dcm").write_bytes(to_bytes(dataset))
        (folder / "complete").touch()

    def _item(self, case_id: str) -> Dataset:
        item: Dataset | None = self._series().get(case_id)
        if item is None:
            raise UnknownNameError(f"There is no CT series '{case_id}' in the PACS.")
        return item

    def _place(self, case_id: str) -> Path:
        # A UID from the outside never becomes a path.
        return self._folder / hashlib.sha256(case_id.encode()).hexdigest()[:24]

    def _search(self) -> dict[str, Dataset]:
        return {text(item, "SeriesInstanceUID"): item for item in self.pacs.search_series(Modality="CT")}

    def _search_drawn(self) -> dict[str, DrawnLabel]:
        found: dict[str, DrawnLabel] = {}
        for item in sorted(self.pacs.search_series(Modality="SEG"), key=_age):
            study, series = text(item, "StudyInstanceUID"), text(item, "SeriesInstanceUID")
            if series not in self._known_segs:
                self._known_segs[series] = self._drawn_on(self.pacs.metadata(study, series))
            case = self._known_segs[series]
            if case is not None:
                found[case] = DrawnLabel(study, series)
        return found

    @staticmethod
    def _drawn_on(headers: Sequence[Dataset]) -> str | None:
        return referenced_series(headers[0]) if headers and is_drawn(headers[0]) else None


def _age(item: Dataset) -> tuple[str, str]:
    return text(item, "SeriesDate"), text(item, "SeriesTime")
