"""Which studies a folder holds, and which of them have their result already."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cspine.errors import UsageError
from fracture_map import names
from fracture_map.study import ANSWERS


@dataclass(frozen=True)
class Entry:
    """One study of a batch: where it is, and the folder of its result."""

    source: Path
    target: Path

    @property
    def name(self) -> str:
        """As the tables call it."""
        return self.target.name

    @property
    def is_finished(self) -> bool:
        """Whether its folder holds a complete result that another attempt would not change."""
        try:
            account = json.loads((self.target / names.RUN).read_bytes())
            return account["exit_code"] in ANSWERS
        except (OSError, ValueError, KeyError, TypeError):
            return False


def entries_of(root: Path, out: Path) -> list[Entry]:
    """Every folder and every zip file directly in ROOT, by name; each is taken for one study.

    Raises:
        UsageError: ROOT is no folder or holds no study, or OUT lies in it.
    """
    source, target = root.resolve(), out.resolve()
    if target == source or source in target.parents:
        raise UsageError("OUT must not be ROOT or lie inside it; name another folder.")
    try:
        found = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"ROOT cannot be read ({error.strerror}); name a folder of studies.") from None
    studies = [path for path in found if path.is_dir() or path.suffix.lower() == ".zip"]
    if not studies:
        raise UsageError("ROOT holds neither folders nor zip files; name a folder of studies.")
    return [Entry(path, out / path.name) for path in studies]
