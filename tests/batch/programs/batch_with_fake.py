"""`fracture-map batch` with the fake warm process: ROOT OUT."""

from __future__ import annotations

import sys
from pathlib import Path

from cspine.settings import models_dir
from fracture_map.batch.command import run_batch
from fracture_map.batch.entries import entries_of
from fracture_map.batch.one import Plan
from fracture_map.batch.pool import run_on_machine
from fracture_map.study import StudyOptions
from fracture_map.supervise import signals_noted

FAKE = (sys.executable, "-W", "ignore", str(Path(__file__).parent / "fake_warm.py"))
plan = Plan(StudyOptions(Path(), Path(), models_dir(), timeout_s=600.0), workers=2, command=FAKE)
with signals_noted() as stop:
    entries = entries_of(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.exit(run_batch(entries, plan, lambda todo, plan: run_on_machine(todo, plan, stop)))
