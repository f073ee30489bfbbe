"""Many studies on a Ray cluster: an actor for each that runs at the same time.

Every node needs this software, and ROOT and OUT under the same paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from cspine.errors import CspineError
from fracture_map.batch.entries import Entry
from fracture_map.batch.one import Plan, analyse_one
from fracture_map.batch.rows import Row
from fracture_map.batch.warm import WarmAnalyst
from fracture_map.supervise import StopFlag

_POLL_S = 1.0


class Analyst:
    """The actor: a warm process and what it is told to do with it."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._analyst, self._stop = plan, WarmAnalyst(plan.command), StopFlag()

    def analyse(self, entry: Entry) -> Row:
        """One study."""
        return analyse_one(entry, self._plan, self._analyst, self._stop)


def run_on_ray(address: str, entries: Sequence[Entry], plan: Plan, stop: StopFlag) -> Iterator[Row]:
    """Analyse the studies; gives their rows as they end. What a worker that died had at hand is done again.

    Args:
        address: of the cluster; "local" for one on this machine that ends with the batch.
        entries: the studies.
        plan: how.
        stop: ends it early when set.

    Raises:
        TerminatedError: `stop` was set.
        CspineError: there is no such cluster, or it broke down.
    """
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="error")
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise CspineError(
            f"The Ray cluster cannot be reached ({type(error).__name__}); check --ray, and that it runs."
        ) from None
    try:
        yield from _rows(entries, plan, stop)
    except RayError as error:
        raise CspineError(
            f"The Ray cluster broke down ({type(error).__name__}); run again, what is finished stays."
        ) from None
    finally:
        ray.shutdown()


def _rows(entries: Sequence[Entry], plan: Plan, stop: StopFlag) -> Iterator[Row]:
    """Give every idle actor the next study, until all are done."""
    waiting = list(reversed(entries))
    actors = _actors(plan, len(entries))
    running: dict[Any, Any] = {}
    for actor in actors:
        running[actor.analyse.remote(waiting.pop())] = actor
    while running:
        stop.raise_if_set()
        ended, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
        for future in ended:
            actor = running.pop(future)
            if waiting:
                running[actor.analyse.remote(waiting.pop())] = actor
            yield ray.get(future)


def _actors(plan: Plan, studies: int) -> list[Any]:
    """As many as are wanted; they share the GPUs of the cluster where those may be used."""
    count = min(plan.workers, studies)
    gpus = 0.0 if plan.study.device == "cpu" else ray.cluster_resources().get("GPU", 0.0)
    kind = ray.remote(Analyst).options(
        max_restarts=-1, max_task_retries=-1, num_cpus=1, num_gpus=min(1.0, gpus / count)
    )
    return [kind.remote(plan) for _ in range(count)]
