"""``fracture-map batch``: its arguments, and from the first study to the tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspine.errors import OutputError
from fracture_map.arguments import add_analysis_options, add_workers, study_options
from fracture_map.extras import extra_needed

if TYPE_CHECKING:
    from fracture_map.batch.entries import Entry
    from fracture_map.batch.one import Plan
    from fracture_map.batch.rows import Row
    from fracture_map.supervise import StopFlag

_CORES_A_STUDY = 4


def add_batch(commands: Any) -> None:
    """Add the subcommand.

    Args:
        commands: the subparsers of the command.
    """
    parser = commands.add_parser("batch", help="analyse many studies")
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder with a folder or zip file a study")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for a folder of results a study")
    add_workers(parser, default=max(1, (os.cpu_count() or 1) // _CORES_A_STUDY))
    parser.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster; 'local' starts one here")
    add_analysis_options(parser)
    parser.set_defaults(work=_batch)


def _batch(options: argparse.Namespace) -> int:
    from fracture_map.batch.entries import entries_of
    from fracture_map.batch.one import Plan
    from fracture_map.supervise import signals_noted

    with extra_needed("batch"):
        import pyarrow  # noqa: F401  (so that hours of work do not end without a table)
    run = _runner(options.ray)
    # Networks that each take every core hinder each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.workers)))
    entries = entries_of(options.root, options.out)
    plan = Plan(study_options(options), options.workers)
    with signals_noted() as stop:
        return run_batch(entries, plan, lambda todo, plan: run(todo, plan, stop))


def run_batch(
    entries: Sequence[Entry], plan: Plan, run: Callable[[Sequence[Entry], Plan], Iterator[Row]]
) -> int:
    """Analyse what has no result yet, and write the tables of all; also when it ends early.

    Returns:
        0 where every study has an answer, 1 where some should be tried again.
    """
    from fracture_map.batch.rows import row_of
    from fracture_map.batch.summary import print_summary
    from fracture_map.batch.tables import write_tables
    from fracture_map.study import ANSWERS

    out = entries[0].target.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"OUT cannot be made ({error.strerror}); name another folder.") from None
    rows = {entry.name: row_of(entry.name, entry.target) for entry in entries if entry.is_finished}
    todo = [entry for entry in entries if entry.name not in rows]
    try:
        with _progress_shown(len(entries), len(rows)) as advance:
            for row in run(todo, plan) if todo else ():
                rows[str(row["study"])] = row
                advance(row)
    finally:
        table = [rows[name] for name in sorted(rows)]
        write_tables(table, out)
    print_summary(table, sys.stdout)
    return 0 if all(row["exit_code"] in ANSWERS for row in table) else 1


def _runner(ray: str | None) -> Callable[[Sequence[Entry], Plan, StopFlag], Iterator[Row]]:
    if ray is None:
        from fracture_map.batch.pool import run_on_machine

        return run_on_machine
    with extra_needed("ray"):
        from fracture_map.batch.on_ray import run_on_ray
    return lambda entries, plan, stop: run_on_ray(ray, entries, plan, stop)


@contextmanager
def _progress_shown(total: int, finished: int) -> Iterator[Callable[[Row], None]]:
    """How many are done, how many failed and how long it will take, where a person watches."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[failed]} not analysed"),
    )
    failed = 0
    with Progress(*columns, console=Console(stderr=True)) as bar:
        # Only what is done now tells how long the rest takes.
        task = bar.add_task("Studies", total=total - finished, failed=failed)

        def advance(row: Row) -> None:
            nonlocal failed
            failed += bool(row["exit_code"])
            bar.update(task, advance=1, failed=failed)

        yield advance
