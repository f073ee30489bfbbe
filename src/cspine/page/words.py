"""Findings in words: what the page says about levels, study and networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cspine.anatomy import CERVICAL, Vertebra
from cspine.findings import Decision, ModelVersion, OperatingPoint, StudyFindings, VertebraFinding
from cspine.page.planes import KeyPicture
from cspine.volume import Grid, Visibility

HOW_TO_READ = (
    "The software names the vertebrae: check the names.",
    "Outline thick: suspected; dashed: undetermined; thin: none.",
    "Bar striped: suspected; dotted: undetermined; plain: none.",
    "Upright stroke in a bar: the threshold.",
    "A box frames the whole vertebra, not the fracture.",
    "Undetermined or not in the image never means no fracture.",
    "Slices are counted from 1, in the order of their position.",
)
HOW_TO_READ_A_FAILURE = (
    "This page says neither that there is a fracture nor that there is none.",
    "Read the study without it.",
)

STATUS = {
    Decision.PRESENT: "Fracture suspected",
    Decision.UNDETERMINED: "Undetermined",
    Decision.ABSENT: "No fracture seen",
}


def status(finding: VertebraFinding) -> str:
    """What is said of a level, in two to four words."""
    if finding.visibility is Visibility.ABSENT:
        return "Not in the image"
    cut = finding.visibility is Visibility.PARTIAL
    return STATUS[finding.decision] + (", partly in the image" if cut else "")


def place(picture: KeyPicture) -> str:
    """Where a key slice is: which slice, counted from 1, and at which LPS z."""
    z = f"{picture.center_z_mm:.1f}".replace("-", "\N{MINUS SIGN}")
    return f"slice {picture.slice_index + 1} of {picture.slices}, z {z} mm"


def overall_status(findings: StudyFindings) -> str:
    """What is said of the spine as a whole, in a few words."""
    return f"The spine as a whole: {STATUS[findings.overall.decision].lower()}"


def probability(value: float | None) -> str:
    """A probability with two digits, never rounded to a certainty; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    if value < 0.005:
        return "<0.01"
    return ">0.99" if value > 0.995 else f"{value:.2f}"


def level_list(levels: Iterable[Vertebra]) -> str:
    """Name levels as people do: 'C1', 'C2 and C5', 'C1, C3\N{EN DASH}C5 and C7'."""
    chosen = sorted(levels)
    runs: list[list[Vertebra]] = []
    for level in chosen:
        if runs and level == runs[-1][-1] + 1:
            runs[-1].append(level)
        else:
            runs.append([level])
    names: list[str] = []
    for run in runs:
        names += [f"{run[0]}\N{EN DASH}{run[-1]}"] if len(run) > 2 else [str(level) for level in run]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "none"


def verdict(findings: StudyFindings) -> str:
    """The page's headline."""
    if findings.failure is not None:
        return "This study could not be analysed."
    present = [f.level for f in findings.levels if f.decision is Decision.PRESENT]
    if present:
        where = "all seven levels" if len(present) == len(CERVICAL) else level_list(present)
        return f"Fracture suspected at {where}."
    if findings.overall.decision is Decision.PRESENT:
        return "Fracture suspected; the level is not certain."
    if findings.overall.decision is Decision.ABSENT:
        return "No fracture seen from C1 to C7."
    seen = [f.level for f in findings.levels if f.decision is Decision.ABSENT]
    return "Undetermined." + (f" No fracture seen at {level_list(seen)}." if seen else "")


def second_sentence(findings: StudyFindings) -> str:
    """What stands under the headline of an analysed study: the levels that were not assessed completely."""
    missing = [f.level for f in findings.levels if f.visibility is Visibility.ABSENT]
    cut = [
        f.level
        for f in findings.levels
        if f.visibility is Visibility.PARTIAL and f.decision is not Decision.UNDETERMINED
    ]
    open_levels = [
        f.level
        for f in findings.levels
        if f.decision is Decision.UNDETERMINED and f.visibility is not Visibility.ABSENT
    ]
    parts = []
    if open_levels:
        parts.append(f"{level_list(open_levels)} {_is(open_levels)} undetermined.")
    if cut:
        parts.append(f"{level_list(cut)} {_is(cut)} only partly in the image.")
    if missing:
        parts.append(f"{level_list(missing)} {_is(missing)} not in the image.")
    return " ".join(parts) or "All seven levels were seen completely and assessed."


def picture_heading(findings: StudyFindings) -> str:
    """What stands above the large picture."""
    seen = any(f.center_lps_mm is not None for f in findings.levels)
    return "Along the spine" if seen else "The middle of the images"


def key_heading(findings: StudyFindings) -> str:
    """What stands above the key slices."""
    calm = findings.overall.decision is Decision.ABSENT
    return "The highest probabilities" if calm else "Where to look first"


def reasons(findings: StudyFindings) -> list[str]:
    """Why levels are undetermined: one sentence each, levels that share a reason together."""
    levels_by_reason: dict[str, list[Vertebra]] = {}
    for finding in findings.levels:
        if finding.reason is not None and finding.visibility is not Visibility.ABSENT:
            levels_by_reason.setdefault(finding.reason, []).append(finding.level)
    return [_named(reason, levels) for reason, levels in levels_by_reason.items()]


def facts(
    grid: Grid | None, models: Sequence[ModelVersion], at: OperatingPoint | None
) -> list[tuple[str, str]]:
    """What the result rests on, as (name, value); holds nothing about the patient."""
    rows = []
    if grid is not None:
        voxels = " \N{MULTIPLICATION SIGN} ".join(str(n) for n in reversed(grid.shape))
        spacing = " \N{MULTIPLICATION SIGN} ".join(f"{mm:.2f}" for mm in reversed(grid.spacing_mm))
        rows.append(("Images", f"{voxels} voxels of {spacing} mm"))
    if models:
        rows.append(("Networks", ", ".join(f"{_short(m.name)} {m.version} ({m.sha256[:8]})" for m in models)))
    if at is not None:
        rows.append(("Threshold", f"{at.level:.2f} for a level, {at.overall:.2f} for the spine as a whole"))
    return rows


def most_suspicious(findings: StudyFindings, count: int) -> list[VertebraFinding]:
    """The levels to look at first: those called present, then the rest, each by falling probability."""
    seen = [f for f in findings.levels if f.key_slice is not None and f.box_lps_mm is not None]
    seen.sort(key=lambda f: (f.decision is not Decision.PRESENT, -(f.probability or 0.0), f.level))
    return seen[:count]


def _short(name: str) -> str:
    return name.removeprefix("cspine_ct_").replace("_", " ")


def _is(levels: Sequence[Vertebra]) -> str:
    return "is" if len(levels) == 1 else "are"


def _named(reason: str, levels: Sequence[Vertebra]) -> str:
    if len(levels) == 1 and str(levels[0]) in reason:
        return reason
    return f"{level_list(levels)}: {reason}"
