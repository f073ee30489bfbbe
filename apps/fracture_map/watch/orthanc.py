"""Orthanc's list of changes: which studies are new, and which have become stable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from fracture_map.watch.database import Database
from fracture_map.watch.pacs import check_answer, credentials, translated
from fracture_map.watch.states import PacsError

_MARK: Final = "changes"
_PAGE: Final = 200
_KINDS: Final = ("NewStudy", "StableStudy")
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)


@dataclass(frozen=True)
class Change:
    """Something happened to a study; `stable` where Orthanc takes it as complete."""

    study_uid: str
    stable: bool


class OrthancChanges:
    """Follows the changes from where the queue last stood.

    Args:
        url: of Orthanc's REST API (not of DICOMweb).
        database: of the queue, which remembers the place.
    """

    def __init__(self, url: str, database: Database) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT, **credentials())
        self._database = database

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def pages(self) -> Iterator[list[Change]]:
        """The changes since the last time, by page; a page counts as taken when the next is asked for."""
        since = self._database.mark(_MARK)
        if int(self._get("/changes?last").get("Last", 0)) < since:
            since = 0  # another Orthanc, or one that was emptied
        while True:
            page = self._get(f"/changes?since={since}&limit={_PAGE}")
            yield [change for record in page["Changes"] if (change := self._change(record))]
            if page["Changes"]:
                since = int(page["Last"])
                self._database.set_mark(_MARK, since)
            if page["Done"]:
                return

    def _change(self, record: dict[str, Any]) -> Change | None:
        if record.get("ChangeType") not in _KINDS:
            return None
        study = self._get(f"/studies/{record['ID']}", absent={})
        uid = study.get("MainDicomTags", {}).get("StudyInstanceUID")
        return Change(uid, record["ChangeType"] == "StableStudy") if uid else None

    def _get(self, path: str, absent: dict[str, Any] | None = None) -> dict[str, Any]:
        with translated():
            answer = self._http.get(path)
            if absent is not None and answer.status_code == httpx.codes.NOT_FOUND:
                return absent  # deleted since
            check_answer(answer)
            try:
                found: Any = answer.json()
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise PacsError("This is not the address of Orthanc's REST API; check --orthanc.")
        return found
