"""``cspine evaluate`` without a bundle: the whole method on cases with truth, metrics.json and report.pdf."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cspine import __version__
from cspine.errors import UsageError
from cspine.evaluation.cases import CaseSource
from cspine.evaluation.result import CaseResult
from cspine.findings import ModelVersion, OperatingPoint
from cspine.settings import PRODUCT
from cspine.whole_files import write_text, write_whole

if TYPE_CHECKING:
    from cspine.method import Method

log = logging.getLogger(__name__)

METRICS: Final = "metrics.json"
REPORT: Final = "report.pdf"
SCHEMA_VERSION: Final = "1.1"
POINTS: Final = ("rule_out", "balanced", "rule_in")
DISCLAIMER: Final = (
    "Research software, not a medical device. Numbers of synthetic images say nothing of patients."
)


@dataclass(frozen=True)
class Evaluation:
    """What is measured, on what, and where the results go.

    Attributes:
        models: folder of the bundles.
        data: "phantom:COUNT", or "rsna:FOLD" with the folder of a fold of `cspine rsna`.
        output: folder for results, metrics and report; an evaluation that was stopped goes on from there.
        cases: folder where cases are kept; None for one inside `output`.
        shifted_only: leave the default domain out.
        anatomy: folder of surface meshes for every second phantom.
        device: "auto", "cpu" or "cuda".
        command: as it was typed, for the report.
    """

    models: Path
    data: str
    output: Path
    cases: Path | None = None
    shifted_only: bool = False
    anatomy: Path | None = None
    device: str = "auto"
    command: str = "cspine evaluate"

    def sources(self) -> Sequence[CaseSource]:
        """The sets of cases that `data` stands for.

        Raises:
            UsageError: it is not understood.
        """
        from cspine.evaluation.phantom_cases import phantom_sets
        from cspine.evaluation.rsna_cases import rsna_set

        kind, _, rest = self.data.partition(":")
        if kind == "rsna":
            return (rsna_set(Path(rest)),)
        if kind != "phantom" or not rest.isdecimal() or int(rest) < 1:
            raise UsageError(
                f"The data '{self.data}' are not understood: write phantom:COUNT, as in phantom:40."
            )
        folder = self.cases or self.output / "cases"
        return phantom_sets(int(rest), folder, shifted_only=self.shifted_only, anatomy=self.anatomy)


def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Measure the whole method; writes metrics.json and report.pdf into the output folder.

    Returns:
        What metrics.json holds.

    Raises:
        UsageError: data that are not understood, or an output folder that holds another evaluation.
        ModelError: the models cannot be loaded.
        OutputError: something cannot be written.
    """
    from cspine.evaluation.runner import claim, run_set
    from cspine.method import Method

    sources = evaluation.sources()
    method = Method.load(evaluation.models, evaluation.device)
    points = {name: method.classifier.operating_point(name) for name in POINTS}
    claim(evaluation.output, method.models, points)
    folder = evaluation.output / "results"
    found = [(source, run_set(method, points, source, folder / source.name)) for source in sources]
    measured = replace(evaluation, device=method.device)
    metrics = build_metrics(measured, found, method.models, points, default=_default(method, points))
    write_metrics(metrics, evaluation.output)
    return metrics


def _default(method: Method, points: Mapping[str, OperatingPoint]) -> str:
    """Name of the point that the product uses."""
    return next((name for name, point in points.items() if point == method.operating_point), "balanced")


def build_metrics(
    evaluation: Evaluation,
    found: Sequence[tuple[CaseSource, Sequence[CaseResult]]],
    models: Sequence[ModelVersion],
    points: Mapping[str, OperatingPoint],
    *,
    default: str,
) -> dict[str, Any]:
    """What metrics.json holds (docs/reference/evaluation.md)."""
    from cspine.evaluation.summary import settings, summarise
    from cspine.evaluation.targets import check_targets

    sets = []
    for source, results in found:
        measured = summarise(results, default)
        entry = {"name": source.name, "description": source.description, "synthetic": source.synthetic}
        sets.append({**entry, "targets": check_targets(measured), **measured})
    return {
        "schema_version": SCHEMA_VERSION,
        "software": f"{PRODUCT} {__version__}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": evaluation.command,
        "disclaimer": DISCLAIMER,
        "device": evaluation.device,
        "models": [asdict(model) for model in models],
        "operating_points": {name: asdict(point) for name, point in points.items()},
        "default_operating_point": default,
        "intervals": settings(),
        "sets": sets,
    }


def metrics_schema() -> dict[str, Any]:
    """The JSON Schema of metrics.json."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("metrics.schema.json").read_text("utf-8"))
    return found


def write_metrics(metrics: Mapping[str, Any], output: Path) -> None:
    """Write metrics.json and report.pdf.

    Raises:
        OutputError: a file cannot be written.
    """
    from cspine.evaluation.report import draw_report

    write_text(json.dumps(metrics, indent=1, allow_nan=False), output / METRICS)
    report = draw_report(metrics)
    write_whole(output / REPORT, lambda file: file.write(report))


def summary_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The targets of every set, one line each, for the terminal."""
    lines = []
    for entry in metrics["sets"]:
        counts = entry["cases"]
        lines.append(f"{entry['name']}: {counts['asked']} cases, {counts['failed']} failed")
        for target in entry["targets"]:
            measured = "-" if target["measured"] is None else f"{target['measured']:.3f}"
            lines.append(f"  {target['verdict']:<13} {measured:>7}  {target['name']} ({target['required']})")
    return lines
