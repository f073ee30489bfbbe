"""Images in a local folder: NIfTI files, and folders of DICOM files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cspine.dicom import read_ct
from cspine.errors import InputError, UsageError
from cspine_label.cases import CaseImage
from cspine_label.errors import ConflictError, UnknownNameError
from cspine_label.images import NIFTI, read_volume, suffix_of

RESERVED: Final = ("labels",)
"""Folders of the studies' folder that hold no images."""
_PREAMBLE: Final = 132
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class FolderImages:
    """The cases of one folder: each NIfTI file, and each folder that holds DICOM files.

    A case is called like its file or folder; where it lies deeper, the names of the folders come before,
    joined by "__".
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"There is no folder '{root}'; name a folder of NIfTI files or DICOM series.")
        self.root = root.resolve()
        self.name = self.root.name

    def cases(self) -> tuple[str, ...]:
        """Ids of all cases, by name."""
        return tuple(sorted(self._found()))

    def path(self, case_id: str) -> Path:
        """The file or folder of a case.

        Raises:
            UnknownNameError: there is no such case; ids are never read as paths.
        """
        path = self._found().get(case_id)
        if path is None:
            raise UnknownNameError(f"There is no case '{case_id}' in the datastore.")
        return path

    def read(self, case_id: str) -> CaseImage:
        """The image of a case."""
        path = self.path(case_id)
        if path.is_dir():
            series = read_ct(path)
            return CaseImage(case_id, series.volume, series)
        return CaseImage(case_id, read_volume(path), None)

    def info(self, case_id: str) -> Mapping[str, Any]:
        """Name and kind of the file."""
        path = self.path(case_id)
        return {"name": path.name, "kind": "dicom" if path.is_dir() else "nifti"}

    def add(self, case_id: str, file: Path) -> str:
        """Copy a NIfTI file into the folder, once it was read."""
        ending = suffix_of(file.name, NIFTI)
        if ending is None:
            raise InputError("Only NIfTI files can be added (.nii.gz or .nii).")
        stem = case_id[: -len(ending)] if case_id.lower().endswith(ending) else case_id
        if not _ID.fullmatch(stem):
            raise InputError("The id of an image holds letters, digits, '.', '_' and '-' only.")
        if stem in self._found():
            raise ConflictError(f"There is a case '{stem}' already; choose another id.")
        read_volume(file)
        part = self.root / f".part-{stem}{ending}"
        shutil.copyfile(file, part)
        part.replace(self.root / f"{stem}{ending}")
        return stem

    def _found(self) -> dict[str, Path]:
        return dict(self._walk())

    def _walk(self) -> Iterator[tuple[str, Path]]:
        for folder, folders, files in os.walk(self.root):
            here = Path(folder)
            folders[:] = sorted(n for n in folders if not n.startswith(".") and not self._reserved(here, n))
            parts = here.relative_to(self.root).parts
            for name in sorted(files):
                ending = suffix_of(name, NIFTI)
                if ending and not name.startswith("."):
                    yield "__".join((*parts, name[: -len(ending)])), here / name
            if any(_is_dicom(here / name) for name in sorted(files)[:8]):
                yield "__".join(parts) or self.root.name, here

    def _reserved(self, folder: Path, name: str) -> bool:
        return folder == self.root and name in RESERVED


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE)[128:] == b"DICM"
    except OSError:
        return False
