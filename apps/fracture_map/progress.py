"""Progress by stage on standard error, where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fracture_map.messages import Message, StageMessage
from fracture_map.names import STAGES


@contextmanager
def progress_shown(wanted: bool) -> Iterator[Callable[[Message], None]]:
    """Show a line of progress while the block runs; gives the function that takes the messages.

    Args:
        wanted: show nothing where this is False or standard error is no terminal.
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(STAGES["start"], total=len(STAGES))

        def show(message: Message) -> None:
            if not isinstance(message, StageMessage):
                return
            if message.seconds is None:
                bar.update(task, description=STAGES.get(message.name, message.name))
            else:
                bar.advance(task)

        yield show
