"""Many studies on one machine: as many threads as studies at a time, each with a warm process of its own."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator, Sequence

from cspine.errors import TerminatedError
from fracture_map.batch.entries import Entry
from fracture_map.batch.one import Plan, analyse_one
from fracture_map.batch.rows import Row
from fracture_map.batch.warm import WarmAnalyst
from fracture_map.supervise import StopFlag

_POLL_S = 0.2


def run_on_machine(entries: Sequence[Entry], plan: Plan, stop: StopFlag) -> Iterator[Row]:
    """Analyse the studies; gives their rows as they end.

    Raises:
        TerminatedError: `stop` was set; the studies at hand leave nothing.
    """
    waiting: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    for entry in entries:
        waiting.put(entry)
    done: queue.SimpleQueue[Row | BaseException] = queue.SimpleQueue()
    flags = [StopFlag() for _ in range(min(plan.workers, len(entries)))]
    threads = [threading.Thread(target=_work, args=(waiting, plan, flag, done)) for flag in flags]
    for thread in threads:
        thread.start()
    try:
        for _ in entries:
            row = _next(done, stop)
            if isinstance(row, BaseException):
                raise row
            yield row
    finally:
        for flag in flags:
            flag.signal = signal.SIGTERM
        for thread in threads:
            thread.join()


def _next(done: queue.SimpleQueue[Row | BaseException], stop: StopFlag) -> Row | BaseException:
    while True:
        stop.raise_if_set()
        try:
            return done.get(timeout=_POLL_S)
        except queue.Empty:
            continue


def _work(
    waiting: queue.SimpleQueue[Entry],
    plan: Plan,
    flag: StopFlag,
    done: queue.SimpleQueue[Row | BaseException],
) -> None:
    """One after the other until there are no more; a defect ends the whole batch."""
    analyst = WarmAnalyst(plan.command)
    try:
        while flag.signal is None:
            done.put(analyse_one(waiting.get_nowait(), plan, analyst, flag))
    except (queue.Empty, TerminatedError):
        pass
    except BaseException as error:
        done.put(error)
    finally:
        analyst.close()
