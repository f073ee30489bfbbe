"""``fracture-map demo``: a synthetic study, made here, through the whole application."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from cspine.errors import CspineError, OutputError

SEED: Final = 8
"""Of the neck, chosen because its fractures are wide and the networks find them: no measure of anything."""
PATIENT_ID: Final = "PHANTOM-DEMO"


@dataclass(frozen=True)
class DemoStudy:
    """A synthetic study and its truth.

    Attributes:
        folder: of the DICOM files.
        fractures: level and kind.
    """

    folder: Path
    fractures: tuple[tuple[str, str], ...]


def made_study(output: Path, *, debug: bool = False) -> DemoStudy:
    """Make the study of the demo in OUTPUT/study; one that an earlier demo left there is made anew.

    Raises:
        OutputError: it cannot be written, or holds files that no demo made.
        CspineError: the phantom could not be made.
    """
    folder = output / "study"
    try:
        if folder.exists():
            _require_own(folder)
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be written ({error.strerror}); name another one."
        ) from None
    command = (sys.executable, "-W", "ignore", "-m", "fracture_map.phantom_study", str(folder), str(SEED))
    with _told("Making a synthetic neck"):
        made = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=None if debug else subprocess.DEVNULL, check=False
        )
    if made.returncode != 0:
        raise CspineError(
            f"The synthetic study could not be made (exit code {made.returncode}); check that '{folder}' has "
            "150 MB of room, or run again with FRACTURE_MAP_DEBUG=1."
        )
    truth = json.loads(made.stdout.splitlines()[-1])
    return DemoStudy(folder, tuple((fracture["level"], fracture["kind"]) for fracture in truth))


def _require_own(folder: Path) -> None:
    """Refuse to replace anything but the phantom of an earlier demo."""
    import pydicom

    for path in folder.iterdir() if folder.is_dir() else [folder]:
        try:
            patient = str(pydicom.dcmread(path, specific_tags=["PatientID"]).get("PatientID", ""))
        except (OSError, pydicom.errors.InvalidDicomError):
            patient = ""
        if patient != PATIENT_ID:
            raise OutputError(
                f"'{folder}' holds files that no demo made, so it is not replaced; name another OUTPUT."
            )


def print_truth(study: DemoStudy, to: TextIO) -> None:
    """Say what the phantom really has, and that it is one."""
    broken = ", ".join(f"{level} ({kind.replace('_', ' ')})" for level, kind in study.fractures)
    to.write("\nThis neck is synthetic, and chosen because its fractures are wide and found. ")
    to.write(f"Truly fractured: {broken or 'nothing'}.\n")
    to.write(f"The study it was read from: {study.folder}\n")


def _told(what: str) -> AbstractContextManager[object]:
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)
