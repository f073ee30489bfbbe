"""One study of a batch: the same wherever it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cspine.errors import TerminatedError
from fracture_map.batch.entries import Entry
from fracture_map.batch.rows import Row, failed_row, row_of
from fracture_map.batch.warm import WARM_CHILD, WarmAnalyst
from fracture_map.study import StudyOptions, run_study
from fracture_map.supervise import StopFlag


@dataclass(frozen=True)
class Plan:
    """How a batch is run.

    Attributes:
        study: options of every study; input and output are filled in.
        workers: how many studies at the same time.
        command: the analysing process.
    """

    study: StudyOptions
    workers: int
    command: tuple[str, ...] = WARM_CHILD


def analyse_one(entry: Entry, plan: Plan, analyst: WarmAnalyst, stop: StopFlag) -> Row:
    """Analyse a study; whatever is wrong with it is in its row.

    Raises:
        TerminatedError: `stop` was set.
    """
    options = replace(plan.study, input=entry.source, output=entry.target)
    result = run_study(options, stop, analyse=analyst)
    if isinstance(result.error, TerminatedError):
        raise result.error
    if result.error is not None and not result.files:
        return failed_row(entry.name, result.error, result.seconds)
    return row_of(entry.name, entry.target)
