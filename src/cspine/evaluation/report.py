"""The report of an evaluation: what metrics.json holds, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cspine.evaluation.anchors import ANCHORS
from cspine.evaluation.boxes import MIN_AREA_MM2, MIN_FOUND_MM2
from cspine.evaluation.flow import Cell, Column, Flow
from cspine.evaluation.plots import (
    draw_confusion,
    draw_dice,
    draw_froc,
    draw_reliability,
    draw_roc,
    short,
    spread,
)
from cspine.evaluation.report_tables import put_operating_points, put_subgroups
from cspine.page import style
from cspine.page.sheet import MARGIN_MM, RIGHT_MM, Frame, Ink, fixed_style

PASS: Final = Ink(style.BODY.size, style.NOT_SEEN.on_paper, "bold")
FAIL: Final = Ink(style.BODY.size, style.SUSPECTED.on_paper, "bold")
OPEN: Final = Ink(style.BODY.size, style.OPEN.on_paper, "bold")
VERDICTS: Final = {"pass": PASS, "fail": FAIL, "too few cases": OPEN}
_PLOT_MM: Final = (78.0, 60.0)
_WIDTH_MM: Final = RIGHT_MM - MARGIN_MM

Sets = Sequence[Mapping[str, Any]]


def draw_report(metrics: Mapping[str, Any]) -> bytes:
    """The report as PDF; the same metrics always give the same bytes.

    Args:
        metrics: what metrics.json holds.
    """
    with fixed_style():
        return lay_out(metrics).pdf()


def lay_out(metrics: Mapping[str, Any]) -> Flow:
    """All pages of the report."""
    with fixed_style():
        flow = Flow("Fracture Map: evaluation of the whole method", metrics["disclaimer"])
        flow.new_page()
        _head(flow, metrics)
        _targets(flow, metrics["sets"])
        _numbers(flow, metrics["sets"])
        _anchors(flow, metrics["sets"])
        _curves(flow, metrics["sets"])
        _confusions(flow, metrics["sets"])
        for entry in metrics["sets"]:
            put_operating_points(flow, entry)
        for entry in metrics["sets"]:
            put_subgroups(flow, entry, metrics["default_operating_point"])
        _failures(flow, metrics["sets"])
        _how(flow)
        return flow


def _head(flow: Flow, metrics: Mapping[str, Any]) -> None:
    flow.paragraph(f"{metrics['date']}, {metrics['software']}, on {metrics['device']}:  {metrics['command']}")
    for model in metrics["models"]:
        flow.paragraph(
            f"{model['name']} {model['version']}, weights SHA-256 {model['sha256'][:16]}", style.SMALL
        )
    for entry in metrics["sets"]:
        counts = entry["cases"]
        flow.paragraph(
            f"{entry['name']}: {counts['asked']} cases, {counts['failed']} failed, {counts['with_fracture']} "
            f"with a fracture, {counts['full_view']} with all seven vertebrae in full view; "
            f"{counts['levels']} levels count, {counts['fractured_levels']} of them fractured. "
            f"{entry['description']}"
        )


def _targets(flow: Flow, sets: Sets) -> None:
    flow.heading("Targets")
    width = (_WIDTH_MM - 70 - 22) / len(sets)
    columns = [Column("", 70), Column("required", 22), *(Column(entry["name"], width) for entry in sets)]
    rows: list[list[str | Cell]] = []
    for place, line in enumerate(sets[0]["targets"]):
        cells = [_verdict(entry["targets"][place]) for entry in sets]
        rows.append([line["name"], line["required"], *cells])
    flow.table(columns, rows)


def _verdict(line: Mapping[str, Any]) -> Cell:
    if line["measured"] is None:
        return Cell("not measured", OPEN)
    value = spread({"value": line["measured"], "low": line["low"], "high": line["high"]})
    return Cell(f"{line['verdict'].upper()}  {value}", VERDICTS[line["verdict"]])


def _numbers(flow: Flow, sets: Sets) -> None:
    flow.heading("Numbers")
    width = (_WIDTH_MM - 84) / len(sets)
    columns = [Column("", 84), *(Column(entry["name"], width) for entry in sets)]
    flow.table(columns, [[name, *(find(entry) for entry in sets)] for name, find in _LINES])


def _anchors(flow: Flow, sets: Sets) -> None:
    flow.heading("Published results, all of them on patients")
    flow.paragraph(
        "They say what is possible on CT of patients. "
        + ("The numbers above are of synthetic images and cannot be compared with them."
           if all(entry["synthetic"] for entry in sets)
           else "Where a set above is synthetic, its numbers cannot be compared with them.")
    )  # fmt: skip
    columns = [
        Column("about", 18),
        Column("source", 46),
        Column("data", 50),
        Column("result", _WIDTH_MM - 114),
    ]
    flow.table(columns, [[a.about, a.source, a.data, a.result] for a in ANCHORS])


def _curves(flow: Flow, sets: Sets) -> None:
    flow.new_page()
    flow.heading("Curves, with 95 % intervals over patients")
    width, height = _PLOT_MM
    top = flow.y + 6.0
    frames = [
        Frame(MARGIN_MM + 8.0 + (width + 16.0) * (k % 2), top + (height + 20.0) * (k // 2), width, height)
        for k in range(6)
    ]
    draw_roc(flow.axes(frames[0]), sets, "level")
    draw_roc(flow.axes(frames[1]), sets, "study")
    draw_reliability(flow.axes(frames[2]), sets, "level")
    draw_reliability(flow.axes(frames[3]), sets, "study")
    draw_froc(flow.axes(frames[4]), sets)
    draw_dice(flow.axes(frames[5]), sets)
    flow.y = frames[5].y + height + 14.0


def _confusions(flow: Flow, sets: Sets) -> None:
    drawn = [entry for entry in sets if entry["masks"] is not None]
    if not drawn:
        return
    width, height = 74.0, 62.0
    for start in range(0, len(drawn), 2):
        flow.heading("Which vertebra lies where", height + 30)
        for k, entry in enumerate(drawn[start : start + 2]):
            frame = Frame(MARGIN_MM + 14.0 + (width + 18.0) * k, flow.y + 6.0, width, height)
            draw_confusion(flow.axes(frame), entry)
        flow.y += height + 20.0


def _failures(flow: Flow, sets: Sets) -> None:
    flow.heading("Failures")
    rows = [
        [entry["name"], failure["case"], failure["sentence"]]
        for entry in sets
        for failure in entry["failures"]
    ]
    if not rows:
        flow.paragraph("No case failed.")
        return
    flow.paragraph(
        "A failed case stays in every count, with nothing found, unless its truth could not be read."
    )
    flow.table([Column("set", 32), Column("case", 46), Column("what happened", _WIDTH_MM - 78)], rows)


def _how(flow: Flow) -> None:
    flow.heading("How it was measured", 50)
    for line in HOW:
        flow.paragraph(line)


def _estimate(*path: str) -> Any:
    def find(entry: Mapping[str, Any]) -> str:
        found: Any = entry
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            return spread(found)
        return short(found) if found is not None else "not measured"

    return find


def _seconds(entry: Mapping[str, Any]) -> str:
    found = entry["seconds"].get("whole")
    return "not measured" if found is None else f"{found['median']:.1f}, {found['p95']:.1f}"


_LINES: Final = (
    ("Surface Dice at 1 mm", _estimate("masks", "surface_dice_1mm")),
    ("Id-rate (nearest true centre is its own, within 20 mm)", _estimate("masks", "id_rate")),
    ("Error of the centre, mm", _estimate("masks", "centroid_error_mm")),
    ("Studies with a level one off", _estimate("masks", "off_by_one")),
    ("RSNA 2022's weighted log loss", _estimate("fractures", "rsna_loss")),
    ("Log loss of saying these cases' prevalence of each", _estimate("fractures", "rsna_loss_of_prevalence")),
    (
        "Log loss of saying RSNA 2022's prevalence of each",
        _estimate("fractures", "rsna_loss_of_rsna_prevalence"),
    ),
    ("Key slice passes through the fracture", _estimate("boxes", "key_slice_shows_fracture")),
    ("Sound levels without a confounder flagged", _estimate("confounders", "flagged_without")),
    ("Seconds per case, median and 95th percentile", _seconds),
)

HOW: Final = (
    "Each case goes through the whole method: localization, segmentation, crops, classification, "
    "calibration, decisions. Levels count where the scan shows the vertebra as a whole. Without a "
    "probability a level or study ranks lowest in ROC curves, and RSNA 2022's prevalence stands for it in "
    "the log loss.",
    "Intervals: percentile bootstrap over patients, 1000 samples, so that levels of one patient stay "
    "together; Wilson's, by the number of patients, for shares of 0 and 1.",
    "Levels: what was given a level's name lies on the true vertebra that most of its voxels cover, or on "
    "none where less than a third of them cover any. All seven levels are right where each is identified "
    "and lies on its own vertebra.",
    "Boxes: the tight box of each vertebra in each axial image, from masks: true ones of at least "
    f"{MIN_AREA_MM2:g} mm2, found ones of at least {MIN_FOUND_MM2:g} mm2; COCO's "
    "average precision, IoU .50 and .50 to .95, classes C1 to C7. Found boxes rank by the margin of the "
    "level's name, their area and their overlap with the level's boxes in the images above and below.",
    "FROC: each scored level marks its own box; a mark hits a fracture of its level whose centre lies in it.",
)
