"""Which weights are in use: the released bundles, or a candidate that somebody promoted.

The released bundles are only ever read. A candidate is a folder of its own with all three bundles, one of
which was trained, and the evaluation that compares that one with what was in use then::

    candidates/20261121-151200/bundles/cspine_ct_segmentation/...
    candidates/20261121-151200/evaluation.json
    active.json                                         {"candidate": "20261121-151200"}
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cspine.errors import InputError
from cspine.models.bundle import METADATA, read_json
from cspine.settings import BUNDLES
from cspine.whole_files import write_json
from cspine_label.errors import ConflictError, UnknownNameError

RELEASED: Final = "released"
_ID: Final = re.compile(r"\d{8}-\d{6}(-\d+)?")


@dataclass(frozen=True)
class Candidate:
    """Weights that a training made.

    Attributes:
        name: when it was started.
        model: the bundle that was trained.
        evaluation: of `evaluation.json`.
    """

    name: str
    model: str
    evaluation: dict[str, Any]

    @property
    def better(self) -> bool:
        """Whether it does at least as well on the validation set as what it started from: "mean" of both."""
        return bool(self.evaluation["candidate"]["mean"] >= self.evaluation["reference"]["mean"])


class Shelf:
    """The bundles of a server."""

    def __init__(self, released: Path, workspace: Path) -> None:
        self.released = released.resolve()
        self._folder = workspace / "candidates"
        self._active = workspace / "active.json"

    @property
    def active(self) -> str:
        """Name of the candidate in use, or "released"."""
        if not self._active.exists():
            return RELEASED
        try:
            name = str(json.loads(self._active.read_text("utf-8"))["candidate"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"'{self._active}' cannot be read; remove it to use the released weights."
            ) from error
        if name != RELEASED and not self.root(name).is_dir():
            raise InputError(
                f"The candidate in '{self._active}' is gone; remove the file to use the released weights."
            )
        return name

    def root(self, name: str) -> Path:
        """Folder of the three bundles of a candidate, or of the released ones."""
        if name == RELEASED:
            return self.released
        if not _ID.fullmatch(name):
            raise UnknownNameError(f"There is no candidate '{name}'.")
        return self._folder / name / "bundles"

    def candidates(self) -> list[Candidate]:
        """All that were evaluated, oldest first."""
        found = []
        for file in sorted(self._folder.glob("*/evaluation.json")):
            content = json.loads(file.read_text("utf-8"))
            found.append(Candidate(file.parent.name, str(content["model"]), content))
        return found

    def promote(self, name: str, *, even_if_worse: bool = False) -> None:
        """Put the network of a candidate, or all released ones again, into use.

        Networks that the candidate's training did not touch stay as they are in use.

        Raises:
            UnknownNameError: there is no such candidate.
            ConflictError: it is worse than what it competes with, and that was not allowed.
        """
        if name != RELEASED:
            candidate = next((c for c in self.candidates() if c.name == name), None)
            if candidate is None:
                raise UnknownNameError(f"There is no candidate '{name}' that was evaluated.")
            if not candidate.better and not even_if_worse:
                raise ConflictError(
                    f"The candidate '{name}' does worse on the validation set than the weights that it "
                    "started from; set even_if_worse to promote it all the same."
                )
            self._complete(candidate)
        write_json(self._active, {"candidate": name})

    def new_candidate(self, name: str) -> Path:
        """Make the folder of a candidate, with a copy of the bundles in use."""
        folder, suffix = self._folder / name, 1
        while folder.exists():
            suffix += 1
            folder = self._folder / f"{name}-{suffix}"
        for bundle in BUNDLES:
            shutil.copytree(self.root(self.active) / bundle, folder / "bundles" / bundle)
        return folder

    def _complete(self, candidate: Candidate) -> None:
        """Give a candidate, for what it did not train, the bundles in use; they may be other ones by now."""
        source, target = self.root(self.active), self.root(candidate.name)
        for bundle in BUNDLES:
            if bundle == candidate.model or source == target:
                continue
            part = target / f".part-{bundle}"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(source / bundle, part)
            shutil.rmtree(target / bundle)
            part.rename(target / bundle)

    def drop(self, name: str) -> None:
        """Remove a candidate whose training did not end well."""
        if _ID.fullmatch(name) and name != self.active:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def drop_unfinished(self) -> list[str]:
        """Remove candidates without evaluation, left by a server that was killed."""
        left = [f.name for f in self._folder.glob("*") if f.is_dir() and not (f / "evaluation.json").exists()]
        for name in left:
            self.drop(name)
        return left


def give_version(bundle: Path, name: str) -> None:
    """Give a candidate's bundle a version of its own: that of the weights it started from, and its name."""
    metadata = read_json(bundle, METADATA)
    metadata["version"] = f"{str(metadata['version']).split('+')[0]}+{name}"
    write_json(bundle / METADATA, metadata)
