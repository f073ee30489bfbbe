"""A watcher that is killed, anywhere and any number of times, leaves every study with one current result."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from fracture_map.supervise import StopFlag
from fracture_map.watch.analysis import Analysis
from fracture_map.watch.claims import Claims
from fracture_map.watch.database import Database, sqlite_url
from fracture_map.watch.intake import Intake
from fracture_map.watch.outbox import Outbox
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.pulse import Pulse
from fracture_map.watch.spool import Spool
from fracture_map.watch.states import ClaimLostError
from fracture_map.watch.worker import Worker

pytestmark = pytest.mark.service("orthanc")
STUDIES, KILLS = 20, 50


@pytest.mark.timeout(600)
def test_fifty_kills_over_twenty_studies_leave_each_with_exactly_one_current_result(
    site, start_process, with_settings
):
    wanted = with_settings(site.options(workers=2), lease_s=1.0)
    studies = [site.make_study(seed, slices=2) for seed in range(100, 100 + STUDIES)]
    chance = random.Random(5)
    for number in range(KILLS):
        # A new study now and then, so that kills hit studies at every stage to the end.
        for study in studies[number * STUDIES // KILLS : (number + 1) * STUDIES // KILLS]:
            site.orthanc.add(*study.files)
        process = start_process(wanted)
        time.sleep(chance.uniform(0.05, 1.0))
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


def make_worker(wanted, pacs: Pacs, queue: Database, wrap: Callable[[str, object], object]) -> Worker:
    timing = wanted.settings.timing
    claims, outbox = wrap("claims", Claims(queue, timing.lease_s)), wrap("outbox", Outbox(queue))
    pacs = wrap("pacs", pacs)
    spool = Spool(wanted.state / "spool", 0.0)
    analysis = Analysis(pacs, claims, outbox, spool, wanted.study, timing)
    return Worker("worker", claims, outbox, analysis, pacs, spool, timing, Pulse())


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
def test_death_before_or_after_any_step_leaves_one_result(site, with_settings, part, step, after):
    wanted = with_settings(site.options(), lease_s=0.2)
    study = site.make_study(200, slices=2)
    site.orthanc.add(*study.files)
    queue = Database(sqlite_url(wanted.state.parent / "queue.sqlite"))
    pacs = Pacs(wanted.dicomweb)
    seen = pacs.look(study.uid)
    assert seen is not None
    Intake(queue, 0.0).observe(seen, None, stable=True)

    dying = make_worker(
        wanted, pacs, queue, lambda name, it: Fragile(it, step, after=after) if name == part else it
    )
    with pytest.raises(KilledError):
        dying.turn()
    heir = make_worker(wanted, pacs, queue, lambda _, it: it)
    site.wait_until(lambda: [heir.turn(), Outbox(queue).current(1)][1])
    assert len(site.reports(study)) == len(site.segmentations(study)) == 1
    pacs.close()
    queue.engine.dispose()


def test_a_worker_that_lost_its_study_changes_nothing_any_more(site, with_settings):
    wanted = with_settings(site.options(), lease_s=0.2)
    study = site.make_study(201, slices=2)
    site.orthanc.add(*study.files)
    queue = Database(sqlite_url(wanted.state.parent / "queue.sqlite"))
    pacs = Pacs(wanted.dicomweb)
    seen = pacs.look(study.uid)
    assert seen is not None
    Intake(queue, 0.0).observe(seen, None, stable=True)
    slow = make_worker(wanted, pacs, queue, lambda _, it: it)
    lost = slow.claims.take()
    assert lost is not None
    taken = site.wait_until(slow.claims.take)
    assert taken.id == lost.id
    with pytest.raises(ClaimLostError):
        slow.analysis.run(lost, StopFlag())
    assert Outbox(queue).unsent(taken) == ()
    assert slow.analysis.run(taken, StopFlag())
    pacs.close()
    queue.engine.dispose()
