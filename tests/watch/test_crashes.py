"""A watcher that is killed, anywhere and any number of times, leaves every study with one current result."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fracture_map.supervise import StopFlag
from fracture_map.watch.analysis import Analysis
from fracture_map.watch.claims import Claims
from fracture_map.watch.database import Database, sqlite_url
from fracture_map.watch.intake import Intake
from fracture_map.watch.outbox import Outbox
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.pulse import Pulse
from fracture_map.watch.service import WatchOptions
from fracture_map.watch.spool import Spool
from fracture_map.watch.states import ClaimLostError
from fracture_map.watch.worker import Worker

pytestmark = pytest.mark.service("orthanc")
STUDIES, KILLS = 20, 50


@pytest.mark.timeout(3000)
def test_fifty_kills_over_twenty_studies_leave_each_with_exactly_one_current_result(
    site, start_process, with_settings
):
    wanted = with_settings(site.options(workers=2), lease_s=1.0)
    studies = [site.make_study(seed, slices=2) for seed in range(100, 100 + STUDIES)]
    chance, spool = random.Random(5), wanted.state / "spool"
    for number in range(KILLS):
        # A new study now and then, so that kills hit studies at every stage to the end.
        for study in studies[number * STUDIES // KILLS : (number + 1) * STUDIES // KILLS]:
            site.orthanc.add(*study.files)
        before = set(spool.glob("*"))
        process = start_process(wanted)
        if number % 2:  # so that on a slow machine, too, half of the kills meet one that is at work
            site.wait_until(lambda before=before: set(spool.glob("*")) - before)
        time.sleep(chance.uniform(0.0, 0.8))
        process.kill()
        process.join()
    process = start_process(wanted)
    site.wait_until(lambda: [*site.states(wanted).values()] == ["done"] * STUDIES)
    process.kill()
    process.join()
    for study in studies:
        assert len(site.reports(study)) == len(site.segmentations(study)) == 1


class KilledError(BaseException):
    """Stands for the end of the process: nothing after it runs, no transaction is ended in good order."""


class Fragile:
    """Does what another object does, but dies before or after the call of that name."""

    def __init__(self, inner: object, name: str, *, after: bool) -> None:
        self._inner, self._name, self._after = inner, name, after

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name != self._name:
            return found

        def die(*given: object, **named: object) -> None:
            if self._after:
                found(*given, **named)
            raise KilledError

        return die


@dataclass(frozen=True)
class Queued:
    """A study in the PACS and, ready, in the queue; workers that are driven step by step."""

    study: object
    wanted: WatchOptions
    pacs: Pacs
    queue: Database

    def worker(self, wrap: Callable[[str, object], object] = lambda _, it: it) -> Worker:
        timing = self.wanted.settings.timing
        claims = wrap("claims", Claims(self.queue, timing.lease_s))
        outbox, pacs = wrap("outbox", Outbox(self.queue)), wrap("pacs", self.pacs)
        spool = Spool(self.wanted.state / "spool", 0.0)
        analysis = Analysis(pacs, claims, outbox, spool, self.wanted.study, timing)
        return Worker("worker", claims, outbox, analysis, pacs, spool, timing, Pulse())


@pytest.fixture
def queued(site, with_settings):
    study = site.make_study(200, slices=2)
    site.orthanc.add(*study.files)
    wanted = with_settings(site.options(), lease_s=0.2)
    queue = Database(sqlite_url(wanted.state.parent / "queue.sqlite"))
    pacs = Pacs(wanted.dicomweb)
    seen = pacs.look(study.uid)
    assert seen is not None
    Intake(queue, 0.0).observe(seen, None, stable=True)
    yield Queued(study, wanted, pacs, queue)
    pacs.close()
    queue.engine.dispose()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("part", "step"),
    [
        ("claims", "take"),
        ("pacs", "look"),
        ("pacs", "fetch"),
        ("outbox", "record"),
        ("outbox", "unsent"),
        ("pacs", "holds"),
        ("pacs", "store"),
        ("outbox", "sent"),
    ],
)
def test_death_before_or_after_any_step_leaves_one_result(site, queued, part, step, after):
    dying = queued.worker(lambda name, it: Fragile(it, step, after=after) if name == part else it)
    with pytest.raises(KilledError):
        dying.turn()
    heir = queued.worker()
    site.wait_until(lambda: [heir.turn(), Outbox(queued.queue).current(1)][1])
    assert len(site.reports(queued.study)) == len(site.segmentations(queued.study)) == 1


def test_a_worker_that_lost_its_study_changes_nothing_any_more(site, queued):
    slow = queued.worker()
    lost = slow.claims.take()
    assert lost is not None
    taken = site.wait_until(slow.claims.take)
    assert taken.id == lost.id
    with pytest.raises(ClaimLostError):
        slow.analysis.run(lost, StopFlag())
    assert Outbox(queued.queue).unsent(taken) == ()
    assert slow.analysis.run(taken, StopFlag())
