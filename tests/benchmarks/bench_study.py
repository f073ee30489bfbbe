"""Time a neck study from files to results: Fracture Map beside the SDK's stock operators.

Both get the same synthetic study and the same three networks, in fresh processes, one after the other, on an
otherwise idle machine. docs/explanation/benchmark.md says what each column includes. ::

    python tests/benchmarks/bench_study.py --slices 400 --rows 512 --repeat 3 --out runs/bench
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "monai-deploy-app-sdk",
    "holoscan-cu13",
    "torch",
    "monai",
    "nvidia-dali-cuda130",
    "numpy",
    "highdicom",
)
TITLES = {
    "fracture_map": "Fracture Map",
    "stock": "SDK + MONAI, as shipped",
    "tuned": "SDK + MONAI, tuned",
}
SHIPPED_BYTES_PER_VOXEL = 130
"""Measured: bringing ten channels of probabilities back to the images' grid costs this, beside 1.2 GiB."""
console = Console()


@dataclass(frozen=True)
class Timed:
    """A process that ended.

    Attributes:
        seconds: from its start to its end.
        peak_mb: largest resident memory of it or of any process that it started and waited for.
        lines: JSON objects that it printed.
    """

    seconds: float
    peak_mb: float
    lines: Sequence[dict[str, Any]]


@dataclass
class Contender:
    """What was measured of one way to do it; lists in the order of the runs."""

    cold_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)
    cold_stages_s: list[dict[str, float]] = field(default_factory=list)
    warm_stages_s: list[dict[str, float]] = field(default_factory=list)
    cold_peak_mb: list[float] = field(default_factory=list)
    warm_peak_mb: list[float] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    probabilities: dict[str, float] = field(default_factory=dict)


def run_process(command: Sequence[str]) -> Timed:
    """Run a command in a fresh process; its own messages go nowhere unless it fails."""
    environment = {**os.environ, "HOLOSCAN_LOG_LEVEL": "ERROR"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.stderr.write(err.read().decode(errors="replace"))
            raise SystemExit(f"{' '.join(command[1:4])} ended with exit code {process.returncode}.")
        lines = [json.loads(line) for line in out.read().splitlines() if line.startswith(b'{"')]
    return Timed(seconds, usage.ru_maxrss / 1024, lines)


@dataclass(frozen=True)
class Bench:
    """One benchmark: the study, where to put results, how often."""

    options: argparse.Namespace
    study: Path
    scratch: Path

    def measure(self, name: str) -> Contender:
        """Cold runs, each a process of its own; then the runs after the first of one process."""
        found = Contender()
        for number in range(self.options.repeat):
            console.print(f"{TITLES[name]}: cold run {number + 1} of {self.options.repeat}")
            self._cold(name, found)
        console.print(f"{TITLES[name]}: {self.options.repeat} warm runs")
        self._warm(name, found)
        return found

    def _cold(self, name: str, found: Contender) -> None:
        out = self.scratch / f"{name}-cold"
        shutil.rmtree(out, ignore_errors=True)
        if name == "fracture_map":
            done = run_process(self._command(out))
            found.cold_stages_s.append(json.loads((out / "run.json").read_bytes())["seconds"])
        else:
            done = run_process(self._child("stock_study.py", out, 1, name))
            found.cold_stages_s.append(done.lines[0]["stages"])
        found.cold_s.append(done.seconds)
        found.cold_peak_mb.append(done.peak_mb)

    def _warm(self, name: str, found: Contender) -> None:
        script = "fracture_map_study.py" if name == "fracture_map" else "stock_study.py"
        done = run_process(self._child(script, self.scratch / f"{name}-warm", self.options.repeat + 1, name))
        found.warm_s = [line["seconds"] for line in done.lines[1:]]
        found.warm_stages_s = [line["stages"] for line in done.lines[1:]]
        found.warm_peak_mb = [done.peak_mb]
        found.levels, found.probabilities = done.lines[-1]["levels"], done.lines[-1]["probabilities"]

    def _command(self, out: Path) -> list[str]:
        command = [sys.executable, "-m", "fracture_map", "run", str(self.study), str(out), "--device", "cpu"]
        return [*command, "--models", str(self.options.models)]

    def _child(self, script: str, out: Path, runs: int, name: str) -> list[str]:
        command = [sys.executable, str(HERE / script), "--study", str(self.study), "--out", str(out)]
        command += ["--models", str(self.options.models), "--runs", str(runs)]
        return command + {"stock": ["--way", "shipped"], "tuned": ["--way", "tuned"]}.get(name, [])


def prepare_study(options: argparse.Namespace) -> Path:
    """Write the synthetic study, or take the one that is there; then read it once, so that it is cached."""
    study: Path = options.out / f"study-{options.rows}x{options.rows}x{options.slices}"
    if not study.is_dir():
        console.print(f"Writing a synthetic study of {options.rows} x {options.rows} x {options.slices}")
        half_done = study.with_suffix(".part")
        shutil.rmtree(half_done, ignore_errors=True)
        size = ["--slices", str(options.slices), "--rows", str(options.rows)]
        run_process([sys.executable, str(HERE / "phantom_study.py"), str(half_done), *size])
        half_done.rename(study)
    for path in study.iterdir():
        path.read_bytes()
    return study


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    threads = run_process(
        [sys.executable, "-c", "import torch; print('{\"n\":', torch.get_num_threads(), '}')"]
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "torch_threads": threads.lines[0]["n"],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def too_large(name: str, options: argparse.Namespace) -> str | None:
    """Why a way cannot be measured here; None where it can."""
    if name != "stock":
        return None
    needed = options.slices * options.rows**2 * SHIPPED_BYTES_PER_VOXEL / 2**30 + 1.2
    free = psutil.virtual_memory().available / 2**30
    return f"It needs about {needed:.0f} GiB of memory; {free:.0f} are free." if free < needed else None


def median(values: Sequence[float]) -> float:
    """The middle of the values, 0 where there are none."""
    return statistics.median(values) if values else 0.0


def median_stages(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median seconds of each stage."""
    return {name: median([run[name] for run in runs if name in run]) for name in (runs[0] if runs else {})}


def summary_table(contenders: dict[str, Contender]) -> Table:
    """Cold, warm and memory, and how they compare."""
    table = Table(title="From files to results, seconds (median, range)")
    table.add_column("")
    for column in ("cold", "warm", "peak memory", "levels found", "cold: times ours", "warm: times ours"):
        table.add_column(column, justify="right")
    ours = contenders["fracture_map"]
    for name, one in contenders.items():
        table.add_row(
            TITLES[name],
            _spread(one.cold_s),
            _spread(one.warm_s),
            f"{max([*one.cold_peak_mb, *one.warm_peak_mb]) / 1024:.2f} GiB",
            str(len(one.levels)),
            f"{median(one.cold_s) / median(ours.cold_s):.1f}",
            f"{median(one.warm_s) / median(ours.warm_s):.1f}",
        )
    return table


def stage_table(contenders: dict[str, Contender]) -> Table:
    """Seconds by stage; stages may run beside each other, so they need not add up."""
    table = Table(title="Stage by stage, median seconds")
    for column in ("", "stage", "cold", "warm"):
        table.add_column(column, justify="right" if column in ("cold", "warm") else "left")
    for name, one in contenders.items():
        cold, warm = median_stages(one.cold_stages_s), median_stages(one.warm_stages_s)
        for stage in cold | warm:
            cells = (f"{times[stage]:.2f}" if stage in times else "" for times in (cold, warm))
            table.add_row(TITLES[name], stage, *cells)
        table.add_section()
    return table


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else ""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    from cspine.settings import models_dir

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--rows", type=int, default=512, help="rows, and as many columns")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--models", type=Path, default=models_dir())
    parser.add_argument("--only", choices=TITLES, nargs="+", default=list(TITLES), help="measure only these")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write bench.json."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    study = prepare_study(options)
    size = f"{options.rows} x {options.rows} x {options.slices}"
    asked = f"--slices {options.slices} --rows {options.rows} --repeat {options.repeat}"
    about = {
        "what": "seconds from DICOM files to published results",
        "data": f"synthetic neck (cspine.phantom), {size}, uncompressed",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python tests/benchmarks/bench_study.py {asked}",
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(dir=options.out) as scratch:
        bench = Bench(options, study, Path(scratch))
        skipped = {name: reason for name in options.only if (reason := too_large(name, options))}
        for name, reason in skipped.items():
            console.print(f"{TITLES[name]}: left out. {reason}")
        contenders = {name: bench.measure(name) for name in options.only if name not in skipped}
    document = {
        **about,
        "skipped": skipped,
        "results": {name: asdict(one) for name, one in contenders.items()},
    }
    (options.out / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    wide = Console(width=max(console.width, 120))
    wide.print(stage_table(contenders))
    if "fracture_map" in contenders:
        wide.print(summary_table(contenders))
    console.print(f"{about['data']}; {about['machine']['cpu']}, {about['machine']['cores']} cores")
    console.print(f"All numbers: {options.out / 'bench.json'}")


if __name__ == "__main__":
    main()
