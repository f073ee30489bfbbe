"""Numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from fracture_map.watch.database import Database, studies
from fracture_map.watch.pulse import Pulse
from fracture_map.watch.settings import Worklist
from fracture_map.watch.states import WORK, State
from fracture_map.watch.worklist import open_studies

_SECONDS: Final = (2, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """The numbers of one watcher.

    Args:
        database: of the queue.
        pulse: of the threads.
        worklist: its settings.
    """

    def __init__(self, database: Database, pulse: Pulse, worklist: Worklist) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Queue(database, pulse, worklist))
        self._analyses = Counter(
            "fracture_map_analyses", "Analyses that ended", ["exit_code"], registry=self._registry
        )
        self._seconds = Histogram(
            "fracture_map_analysis_seconds",
            "From the claim of a study to its recorded result",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._pacs_errors = Counter(
            "fracture_map_pacs_errors", "Answers of the PACS that were none", registry=self._registry
        )

    def analysed(self, exit_code: int, seconds: float) -> None:
        """Count an analysis."""
        self._analyses.labels(str(exit_code)).inc()
        self._seconds.observe(seconds)

    def pacs_failed(self) -> None:
        """Count an error of the PACS."""
        self._pacs_errors.inc()

    def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Queue(Collector):
    """What the database says, at the moment when it is asked."""

    def __init__(self, database: Database, pulse: Pulse, worklist: Worklist) -> None:
        self._database, self._pulse, self._worklist = database, pulse, worklist

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # so that registering asks nothing

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = self._database.clock.now()
        with self._database.reading() as connection:
            rows = connection.execute(
                select(studies.c.state, func.count().label("number")).group_by(studies.c.state)
            )
            counts = {row.state: row.number for row in rows}
            oldest = connection.execute(
                select(func.min(studies.c.changed_at)).where(studies.c.state.in_(WORK))
            ).scalar()
        states = GaugeMetricFamily("fracture_map_studies", "Studies by state", labels=["state"])
        for state in State:
            states.add_metric([state], counts.get(state, 0))
        yield states
        waiting = 0.0 if oldest is None else max(0.0, now - oldest)
        yield GaugeMetricFamily(
            "fracture_map_oldest_waiting_seconds", "Since the oldest unfinished study last changed", waiting
        )
        listed = open_studies(self._database, self._worklist)
        yield GaugeMetricFamily(
            "fracture_map_worklist_open", "Results that no reader has closed", len(listed)
        )
        overdue = sum(study.overdue for study in listed)
        yield GaugeMetricFamily("fracture_map_worklist_overdue", "Of these, past the cap", overdue)
        troubled = len(self._pulse.troubles())
        yield GaugeMetricFamily("fracture_map_troubles", "Things that /healthz names as troubled", troubled)
