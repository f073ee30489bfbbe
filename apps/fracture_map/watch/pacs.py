"""A DICOMweb server: what it holds (QIDO-RS), its images (WADO-RS), and a place for results (STOW-RS)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from fracture_map.watch.multipart import STORE_TYPE, body_of, save_parts
from fracture_map.watch.seen import SeriesSeen, StudySeen, count, value
from fracture_map.watch.states import PacsAwayError, PacsError, PacsRefusedError

# httpx logs addresses at level INFO, and they hold UIDs.
logging.getLogger("httpx").setLevel(logging.WARNING)

USER: Final = "FRACTURE_MAP_DICOMWEB_USER"
PASSWORD: Final = "FRACTURE_MAP_DICOMWEB_PASSWORD"
TOKEN: Final = "FRACTURE_MAP_DICOMWEB_TOKEN"

_PAGE: Final = 200
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_AWAY: Final = (502, 503, 504)
_JSON: Final = {"Accept": "application/dicom+json"}
_FILES: Final = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
_STUDY_UID, _SERIES_UID, _SOP_UID = "0020000D", "0020000E", "00080018"
_STUDY_FIELDS: Final = {"includefield": ("00081030", "00201208")}
_SERIES_FIELDS: Final = {"includefield": ("00180015", "00181030", "00081010")}
"""Body Part Examined, Protocol Name, Station Name: what servers do not list without being asked."""


class Pacs:
    """A DICOMweb server.

    Args:
        url: of the service, the part before ``/studies``.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT, **credentials())

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def changed_counts(self, since_date: str | None) -> Iterator[tuple[str, int | None]]:
        """The studies of a window of time, with how many instances each holds.

        Args:
            since_date: the first Study Date (YYYYMMDD); None for every study.
        """
        wanted: dict[str, str | tuple[str, ...]] = {"ModalitiesInStudy": "CT", **_STUDY_FIELDS}
        if since_date is not None:
            wanted["StudyDate"] = f"{since_date}-"
        known: set[str] = set()
        while True:
            page = self._list("/studies", {**wanted, "limit": str(_PAGE), "offset": str(len(known))})
            new = {value(record, _STUDY_UID): count(record, "00201208") for record in page}
            yield from ((uid, number) for uid, number in new.items() if uid not in known)
            if new.keys() <= known:  # the last page, or a server that knows no pages
                return
            known |= new.keys()

    def look(self, study_uid: str) -> StudySeen | None:
        """What the PACS holds of a study; None where it has none of it.

        Raises:
            PacsError: it does not say how many instances a series holds.
        """
        found = self._list("/studies", {"StudyInstanceUID": study_uid, **_STUDY_FIELDS})
        if not found:
            return None
        listed = self._list(f"/studies/{study_uid}/series", _SERIES_FIELDS)
        return StudySeen(
            uid=study_uid,
            date=value(found[0], "00080020"),
            description=value(found[0], "00081030"),
            instances=count(found[0], "00201208"),
            series=tuple(map(_series, listed)),
        )

    def fetch(self, study_uid: str, series: SeriesSeen, folder: Path, prefix: str) -> None:
        """Fetch the files of a series, byte for byte.

        Raises:
            PacsError: they did not all come.
            OSError: they cannot be written.
        """
        path = f"/studies/{study_uid}/series/{series.uid}"
        with translated(), self._http.stream("GET", path, headers=_FILES) as answer:
            check_answer(answer)
            got = save_parts(answer.headers.get("content-type", ""), answer.iter_bytes(), folder, prefix)
        if got != series.instances:
            raise PacsError(
                f"The PACS sent {got} of {series.instances} images of a series; it is asked again."
            )

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Whether an instance is in the PACS."""
        path = f"/studies/{study_uid}/series/{series_uid}/instances"
        found = self._list(path, {"SOPInstanceUID": sop_uid}, absent_is_empty=True)
        return any(value(record, _SOP_UID) == sop_uid for record in found)

    def store(self, study_uid: str, data: bytes) -> None:
        """Store one object in a study.

        Raises:
            PacsRefusedError: the PACS did not take it.
        """
        headers = {**_JSON, "Content-Type": STORE_TYPE}
        with translated():
            answer = self._http.post(f"/studies/{study_uid}", content=body_of(data), headers=headers)
            if answer.status_code in _AWAY:
                check_answer(answer)
        if answer.is_error:
            raise PacsRefusedError(
                f"The PACS did not take a result (HTTP {answer.status_code}); "
                "check that it accepts SR and SEG and may be written."
            )

    def _list(
        self, path: str, query: Mapping[str, str | tuple[str, ...]], *, absent_is_empty: bool = False
    ) -> list[dict[str, Any]]:
        with translated():
            answer = self._http.get(path, params=dict(query), headers=_JSON)
            if answer.status_code == httpx.codes.NO_CONTENT:
                return []
            if absent_is_empty and answer.status_code == httpx.codes.NOT_FOUND:
                return []
            check_answer(answer)
            try:
                found = answer.json()
            except ValueError:
                found = None
        if not isinstance(found, list):
            raise PacsError("The PACS answered a query with something else than a list; check its address.")
        return found


def credentials() -> dict[str, Any]:
    """What to log in with, from the environment: a token, or a user and a password, or nothing."""
    if token := os.environ.get(TOKEN):
        return {"headers": {"Authorization": f"Bearer {token}"}}
    if user := os.environ.get(USER):
        return {"auth": (user, os.environ.get(PASSWORD, ""))}
    return {}


@contextmanager
def translated() -> Iterator[None]:
    """Say what is wrong with the connection in our own words; those of httpx hold addresses with UIDs.

    Raises:
        PacsAwayError: there is no connection.
        PacsError: the server took too long.
    """
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise PacsAwayError("The PACS does not answer; it is asked again.") from None
    except httpx.TimeoutException:
        raise PacsError("The PACS took too long to answer; it is asked again.") from None
    except httpx.HTTPError:
        raise PacsAwayError("The connection to the PACS broke; it is asked again.") from None
    except httpx.InvalidURL:
        raise PacsError("The address of the PACS is none.") from None


def check_answer(answer: httpx.Response) -> None:
    """Refuse an answer that is none.

    Raises:
        PacsAwayError: the server is not ready.
        PacsError: it answered with an error.
    """
    if answer.status_code in _AWAY:
        raise PacsAwayError(f"The PACS is not ready (HTTP {answer.status_code}); it is asked again.")
    if answer.is_error:
        raise PacsError(
            f"The PACS answered HTTP {answer.status_code}; check its address and what this user may do."
        )


def _series(record: Mapping[str, Any]) -> SeriesSeen:
    instances = count(record, "00201209")
    if instances is None:
        raise PacsError(
            "The PACS does not say how many instances a series holds, so no study can be followed."
        )
    return SeriesSeen(
        uid=value(record, _SERIES_UID),
        modality=value(record, "00080060"),
        instances=instances,
        description=value(record, "0008103E"),
        body_part=value(record, "00180015"),
        protocol=value(record, "00181030"),
        station=value(record, "00081010"),
    )
