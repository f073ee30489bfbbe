"""The same study through Fracture Map's graph, again and again in one process.

A child of `bench_study.py`, for the warm runs: networks and DALI pipelines are loaded once, as in a service.
Prints one JSON line a run, ``{"seconds": ..., "stages": {...}, "levels": [...], "probabilities": {...}}``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from cspine.dicom import read_ct
from cspine.method import Method
from cspine.settings import models_dir
from cspine_operators.clock import StageClock
from cspine_operators.outbox import Outbox
from fracture_map.app import run_graph
from fracture_map.names import FINDINGS
from fracture_map.steps import steps_of


def run_once(method: Method, study: Path, out: Path) -> dict[str, Any]:
    """One study from files to files."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    clock = StageClock()
    begin = time.perf_counter()
    run_graph(steps_of(method, lambda: read_ct(study), None), Outbox(out), clock)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "stages": clock.seconds} | what_was_said(out / FINDINGS)


def what_was_said(path: Path) -> dict[str, Any]:
    """Levels and probabilities of a findings.json."""
    findings = json.loads(path.read_bytes())
    seen = [level for level in findings["levels"] if level["probability"] is not None]
    chances = {level["level"]: level["probability"] for level in seen}
    return {
        "levels": list(chances),
        "probabilities": chances | {"overall": findings["overall"]["probability"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=models_dir())
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    method = Method.load(options.models, "cpu")
    for _ in range(options.runs):
        sys.stdout.write(json.dumps(run_once(method, options.study, options.out)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
