"""The file of settings (TOML): which studies, when, how often, how much."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from cspine.errors import UsageError
from fracture_map.watch.rules import Rules


@dataclass(frozen=True)
class Timing:
    """Seconds, of the monotonic clock.

    Attributes:
        poll_s: between two looks at what is new in the PACS.
        sweep_s: between two looks at all studies that are young enough.
        quiet_s: without a change before a study is taken as complete.
        incomplete_after_s: without a change before images that form no volume are reported as they are.
        lease_s: after which a worker that gives no sign of life loses its study.
        retry_s: before the second attempt; each further one waits twice as long.
        retry_max_s: but never longer than this.
        max_attempts: before a study is given up.
    """

    poll_s: float = 10.0
    sweep_s: float = 600.0
    quiet_s: float = 60.0
    incomplete_after_s: float = 900.0
    lease_s: float = 60.0
    retry_s: float = 30.0
    retry_max_s: float = 3600.0
    max_attempts: int = 8

    def backoff_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row (1 or more)."""
        return min(self.retry_s * 2.0 ** min(failures - 1, 30), self.retry_max_s)


@dataclass(frozen=True)
class Worklist:
    """The order in which open results are read.

    Attributes:
        cap_s: a result that has waited longer than this comes before all that have not.
        keep_s: a result that nobody closed leaves the list after this, and its report the queue.
    """

    cap_s: float = 3600.0
    keep_s: float = 7 * 86400.0


@dataclass(frozen=True)
class Spool:
    """The folder for images while they are analysed.

    Attributes:
        min_free_gb: with less room no study is fetched.
    """

    min_free_gb: float = 5.0


@dataclass(frozen=True)
class Settings:
    """All of the file; every part may be left out."""

    studies: Rules = field(default_factory=Rules)
    timing: Timing = field(default_factory=Timing)
    worklist: Worklist = field(default_factory=Worklist)
    spool: Spool = field(default_factory=Spool)


_Part = TypeVar("_Part", Rules, Timing, Worklist, Spool)


def read_settings(path: Path | None) -> Settings:
    """Read the file; without one, the defaults.

    Raises:
        UsageError: it cannot be read, or holds a key or a value that is not known.
    """
    if path is None:
        return Settings()
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings '{path}' cannot be read ({type(error).__name__}).") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The settings '{path}' are no TOML: {error}.") from None
    parts = [item.name for item in fields(Settings)]
    if unknown := content.keys() - set(parts):
        raise UsageError(f"The settings have no part '{min(unknown)}'; there are {', '.join(parts)}.")
    return Settings(
        studies=_part(Rules, "studies", content),
        timing=_part(Timing, "timing", content),
        worklist=_part(Worklist, "worklist", content),
        spool=_part(Spool, "spool", content),
    )


def _part(kind: type[_Part], name: str, content: Mapping[str, Any]) -> _Part:
    given = content.get(name, {})
    known = {item.name: item.type for item in fields(kind)}
    if not isinstance(given, dict) or (unknown := given.keys() - known.keys()):
        what = min(unknown) if isinstance(given, dict) else given
        raise UsageError(f"The part [{name}] of the settings has no '{what}'; it has {', '.join(known)}.")
    return kind(**{key: _checked(f"{name}.{key}", str(known[key]), given[key]) for key in given})


def _checked(key: str, kind: str, given: object) -> Any:
    if kind.startswith("tuple"):
        if isinstance(given, list) and all(isinstance(item, str) and _is_pattern(item) for item in given):
            return tuple(given)
        raise UsageError(f"The setting {key} is no list of texts that are regular expressions.")
    if isinstance(given, bool) or not isinstance(given, (int, float)) or given < 0:
        raise UsageError(f"The setting {key} is no number that is 0 or more.")
    if kind.startswith("int") and not isinstance(given, int):
        raise UsageError(f"The setting {key} is no whole number.")
    return given


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
