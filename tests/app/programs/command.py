"""The command `fracture-map` with the fake analysing process: BEHAVIOUR STUDY_UID ARGUMENTS..."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from fracture_map import cli, study

FAKE = Path(__file__).parent / "fake_analysis.py"
real_run = study.run_study


def run_with_fake(options, *others):
    command = (sys.executable, "-W", "ignore", str(FAKE), *sys.argv[1:3])
    return real_run(replace(options, command=command), *others)


study.run_study = run_with_fake
sys.exit(cli.main(sys.argv[3:]))
