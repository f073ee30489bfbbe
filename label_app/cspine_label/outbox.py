"""Labels on their way to the PACS, kept on disk until it has them: nothing that was drawn is lost."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cspine.errors import CspineError
from cspine.whole_files import write_json
from cspine_label.errors import PacsError
from cspine_label.images import suffix_of

log = logging.getLogger(__name__)

RETRY_S: Final = 20.0
REQUEST: Final = "request.json"


@dataclass(frozen=True)
class Upload:
    """A label as a client sent it.

    Attributes:
        case_id: of the image.
        tag: "final" or "original".
        file: the label: .nii.gz, .nii, .nrrd, .bin or .dcm.
        who: the client or user.
        params: what came along: "label_info", "fractures", "model".
    """

    case_id: str
    tag: str
    file: Path
    who: str
    params: Mapping[str, Any]


class Outbox:
    """A folder with one folder for each upload; they are sent in the order in which they came."""

    def __init__(self, folder: Path, send: Callable[[Upload], Any]) -> None:
        self._folder, self._send = folder, send
        self._lock = threading.RLock()
        self._stop = threading.Event()

    def keep(self, upload: Upload) -> Path:
        """Keep an upload; older ones of the same case are set aside, for this one replaces them."""
        with self._lock:
            for entry in self.entries():
                if self._read(entry).case_id == upload.case_id:
                    self._move(entry, "superseded")
            entry = self._folder / f"{time.time_ns()}"
            part = self._folder / f".part-{entry.name}"
            part.mkdir(parents=True)
            name = f"label{suffix_of(upload.file.name) or upload.file.suffix}"
            shutil.copyfile(upload.file, part / name)
            write_json(part / REQUEST, {**asdict(upload), "file": name})
            part.rename(entry)
            return entry

    def send(self, entry: Path) -> Any:
        """Send one; it leaves the folder when it was sent, or was refused for good.

        Raises:
            PacsError: the PACS does not answer; the entry stays.
            CspineError: it is refused; the entry is gone.
        """
        with self._lock:
            try:
                result = self._send(self._read(entry))
            except PacsError:
                raise
            except CspineError:
                shutil.rmtree(entry)
                raise
            shutil.rmtree(entry)
            return result

    def send_all(self) -> int:
        """Send what waits, as far as the PACS answers; returns how many were sent.

        What is refused now, because nobody could check it when it came, is set aside with the reason.
        """
        sent = 0
        with self._lock:
            for entry in self.entries():
                try:
                    self._send(self._read(entry))
                except PacsError:
                    break
                except CspineError as error:
                    log.warning("a label that waited was refused: %s", error)
                    write_json(entry / "refused.json", {"refused": str(error)})
                    self._move(entry, "refused")
                    continue
                shutil.rmtree(entry)
                sent += 1
        return sent

    def entries(self) -> list[Path]:
        """What waits, oldest first."""
        return sorted(path for path in self._folder.glob("[0-9]*") if path.is_dir())

    def waiting(self) -> list[dict[str, Any]]:
        """What waits, and what was refused after waiting, for people to read."""
        found = []
        for entry in (*self.entries(), *sorted((self._folder / "refused").glob("*"))):
            upload = self._read(entry)
            refused = entry / "refused.json"
            reason = json.loads(refused.read_text())["refused"] if refused.exists() else None
            found.append(
                {"case": upload.case_id, "by": upload.who, "since": int(entry.name) / 1e9, "refused": reason}
            )
        return found

    def keep_sending(self) -> None:
        """Start a thread that sends what waits, until `close`."""
        threading.Thread(target=self._loop, name="outbox", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(RETRY_S):
            try:
                self.send_all()
            except Exception as error:
                # A defect must not end the thread: what waits would wait for ever.
                log.error("labels that wait could not be sent: %s", type(error).__name__)

    def _move(self, entry: Path, kind: str) -> None:
        (self._folder / kind).mkdir(exist_ok=True)
        entry.rename(self._folder / kind / entry.name)

    def _read(self, entry: Path) -> Upload:
        content = json.loads((entry / REQUEST).read_text("utf-8"))
        return Upload(**{**content, "file": entry / content["file"]})
