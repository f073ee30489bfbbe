"""OUTPUT: checked before the work, changed only at its end, and then all at once or not at all.

Hospitals upload every file that they find in OUTPUT, whatever the exit code. So results are copied beside
their place under hidden names, made durable, and renamed, run.json last; whatever goes wrong on the way is
undone.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cspine.errors import OutputError
from fracture_map import names

_HIDDEN: Final = ".fracture-map-"


@dataclass(frozen=True)
class EarlierResult:
    """The result that OUTPUT holds already.

    Attributes:
        study_uid: of its study; empty where even that could not be read.
        failed: whether it says that the study could not be analysed.
        report: its SR, which a new one names as its predecessor; None where it has none.
    """

    study_uid: str
    failed: bool
    report: Path | None


class Output:
    """The folder OUTPUT while one run holds it.

    Attributes:
        path: the folder.
        earlier: the result that was in it; None for a fresh folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier = _earlier_result(path)

    def require_study(self, study_uid: str) -> None:
        """Refuse to mix two studies.

        Raises:
            OutputError: OUTPUT holds the result of another study.
        """
        if self.earlier and self.earlier.study_uid not in ("", study_uid):
            raise OutputError(
                "The output folder holds the result of another study; name an empty folder for each study."
            )

    def may_hold_failure(self, study_uid: str) -> bool:
        """Whether the report of a failure may go into OUTPUT: never over a result that succeeded."""
        return self.earlier is None or (self.earlier.failed and self.earlier.study_uid in ("", study_uid))

    def publish(self, staged: Mapping[str, Path]) -> None:
        """Put the staged files in place, and take away what an earlier result had beside them.

        Args:
            staged: of `names.PUBLISHED`, name to file; run.json among them.

        Raises:
            OutputError: they could not all be put in place; OUTPUT is as it was.
        """
        token = _HIDDEN + secrets.token_hex(8)
        try:
            _remove_leftovers(self.path)
            for name, source in staged.items():
                _copy_durably(source, self.path / f"{token}-{name}.new")
            _swap(self.path, token, [name for name in names.PUBLISHED if name in staged])
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        finally:
            with suppress(OSError):
                _remove_leftovers(self.path)


@contextmanager
def opened_output(path: Path) -> Iterator[Output]:
    """Make OUTPUT if need be, check that it can be written, and keep other runs out of it.

    A folder that this made is taken away again if nothing came into it.

    Raises:
        OutputError: it cannot be made or written, is in use, or holds what is not to be replaced.
    """
    made = _make(path)
    try:
        _check_writable(path)
        with _locked(path):
            yield Output(path)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make(path: Path) -> list[Path]:
    """Make a folder with its parents; return those that were made, innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None
    return missing


def _check_writable(path: Path) -> None:
    probe = path / f"{_HIDDEN}{secrets.token_hex(8)}-probe"
    try:
        with probe.open("xb") as file:
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        with suppress(OSError):
            probe.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder itself, so that no lock file is left to be uploaded."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems cannot lock a folder; there, runs must be kept apart from outside.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutputError(
                    "Another run is writing into the output folder; wait for it or name another folder."
                ) from None
        yield
    finally:
        os.close(folder)


def _earlier_result(path: Path) -> EarlierResult | None:
    present = [name for name in names.PUBLISHED if (path / name).exists()]
    if not present:
        return None
    try:
        findings = json.loads((path / names.FINDINGS).read_bytes())
        uid, failed = str(findings["study_instance_uid"]), findings["outcome"] == "failed"
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(
            f"The output folder holds {', '.join(present)} but no readable findings.json, so it is not known "
            "whose they are; name an empty folder."
        ) from None
    report = path / names.REPORT
    return EarlierResult(uid, failed, report if report.is_file() else None)


def _remove_leftovers(path: Path) -> None:
    """Take away hidden files of this and of runs that were killed."""
    for left in path.glob(f"{_HIDDEN}*"):
        left.unlink(missing_ok=True)


def _copy_durably(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(1 << 20):
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())


def _swap(path: Path, token: str, new: list[str]) -> None:
    """Rename the copies into place; on any error put everything back."""
    old = [name for name in reversed(names.PUBLISHED) if (path / name).exists()]
    placed: list[str] = []
    kept: list[str] = []
    try:
        for name in old:
            (path / name).rename(path / f"{token}-{name}.old")
            kept.append(name)
        for name in new:
            (path / f"{token}-{name}.new").replace(path / name)
            placed.append(name)
        _sync_folder(path)
    except OSError:
        for name in reversed(placed):
            (path / name).unlink(missing_ok=True)
        for name in reversed(kept):
            (path / f"{token}-{name}.old").replace(path / name)
        raise


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = os.strerror(error.errno) if error.errno else "unknown reason"
    return OutputError(
        f"The output folder '{path}' cannot be written ({reason}); nothing was left in it. "
        "Name a folder that can be written and has room."
    )
