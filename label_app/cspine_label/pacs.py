"""DICOMweb: what the label server asks of a PACS, with a few tries and one clear error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from cspine.dicom.headers import quietly
from cspine_label.errors import PacsError

log = logging.getLogger(__name__)
# Its INFO lines hold UIDs, its warnings names.
for _name in ("dicomweb_client", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

TRIES: Final = 3
PAUSE_S: Final = 0.4
TIMEOUT_S: Final = (5.0, 60.0)
"""For a connection, and between two bytes of an answer."""
T = TypeVar("T")


@dataclass(frozen=True)
class Login:
    """User and password of the PACS."""

    user: str
    password: str


class Pacs:
    """A DICOMweb server."""

    def __init__(self, url: str, login: Login | None = None, *, pause_s: float = PAUSE_S) -> None:
        self.url, self._login, self._pause_s = url.rstrip("/"), login, pause_s
        parts = urlsplit(self.url)
        self.address = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    def search_series(self, **filters: str) -> list[Dataset]:
        """QIDO-RS: the series that match."""
        found = self._tried(lambda: self._client().search_for_series(search_filters=dict(filters)))
        return [Dataset.from_json(item) for item in found]

    def series(self, study_uid: str, series_uid: str) -> list[Dataset]:
        """WADO-RS: all instances of a series, with pixels."""
        with quietly():
            return list(self._tried(lambda: self._client().retrieve_series(study_uid, series_uid)))

    def metadata(self, study_uid: str, series_uid: str) -> list[Dataset]:
        """WADO-RS: the headers of a series."""
        found = self._tried(lambda: self._client().retrieve_series_metadata(study_uid, series_uid))
        return [Dataset.from_json(item) for item in found]

    def store(self, datasets: Sequence[Dataset]) -> None:
        """STOW-RS: send instances.

        Raises:
            PacsError: the PACS does not answer or refuses one of them.
        """
        with quietly():
            answer = self._tried(lambda: self._client().store_instances(list(datasets)))
        if len(answer.get("ReferencedSOPSequence") or ()) < len(datasets):
            raise PacsError(f"The PACS at {self.address} refused an object; see its own log.")

    def _client(self) -> Any:
        import requests
        from dicomweb_client.api import DICOMwebClient

        session = requests.Session()
        session.trust_env = False
        if self._login:
            session.auth = (self._login.user, self._login.password)
        # A slow answer is no reason to hold an annotator for ever.
        session.request = _with_timeout(session.request)
        client = DICOMwebClient(url=self.url, session=session)
        # Its own tries take half a minute; ours are below.
        client.set_http_retry_params(retry=False)
        return client

    def _tried(self, ask: Callable[[], T]) -> T:
        import requests

        for attempt in range(TRIES):
            try:
                return ask()
            except (requests.RequestException, OSError, ValueError, KeyError) as error:
                failed = error
                log.warning("the PACS failed at try %d of %d: %s", attempt + 1, TRIES, type(error).__name__)
                if not _may_pass(error):
                    break
                if attempt + 1 < TRIES:
                    time.sleep(self._pause_s * 2**attempt)
        raise PacsError(
            f"The PACS at {self.address} does not answer as it should ({_said(failed)}); try again later."
        ) from failed


def _with_timeout(request: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(*arguments: Any, **named: Any) -> Any:
        if named.get("timeout") is None:
            named["timeout"] = TIMEOUT_S
        return request(*arguments, **named)

    return bounded


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _may_pass(error: Exception) -> bool:
    """Whether asking again may help: no connection, a time-out, or the server is overloaded."""
    status = _status(error)
    return status is None or status >= 500 or status == 429


def _said(error: Exception) -> str:
    status = _status(error)
    return f"HTTP status {status}" if status is not None else "no connection"
