"""The queue alone: what is seen becomes states, claims and leases."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from fracture_map.watch import database as database_module
from fracture_map.watch.claims import Claims
from fracture_map.watch.database import Database, QueueClock, sqlite_url
from fracture_map.watch.intake import Intake
from fracture_map.watch.outbox import NewResult, Outbox, ResultObject
from fracture_map.watch.seen import SeriesSeen, StudySeen
from fracture_map.watch.settings import Worklist
from fracture_map.watch.states import ClaimLostError, State
from fracture_map.watch.worklist import close, dead_letters, open_studies

SEEN = StudySeen("1.2.3", "20260101", "CT neck", 10, (SeriesSeen("1.2.3.4", "CT", 10),))
OURS = SeriesSeen("1.2.9", "SR", 1, "AI cervical spine fractures (research use only)")


def result(probability: float | None = 0.25, exit_code: int = 0) -> NewResult:
    objects = (ResultObject("2.1", "2.1.1", b"SEG"), ResultObject("2.2", "2.2.1", b"SR"))
    return NewResult(exit_code, None, "complete_no_findings", probability, objects)


class Queue:
    def __init__(self, database: Database, lease_s: float = 60.0) -> None:
        self.database, self.claims = database, Claims(database, lease_s)
        self.outbox = Outbox(database)

    def see(self, seen: StudySeen = SEEN, *, stable: bool = True, quiet_s: float = 60.0) -> None:
        Intake(self.database, quiet_s).observe(seen, None, stable=stable)

    def finish(self, seen: StudySeen = SEEN, **given) -> int:
        self.see(seen)
        claim = self.claims.take()
        assert claim is not None
        assert self.outbox.record(claim, result(**given))
        self.outbox.sent(claim)
        return claim.id


@pytest.fixture
def queue(database) -> Queue:
    return Queue(database)


def changed(seen: StudySeen = SEEN) -> StudySeen:
    return replace(seen, instances=11, series=(replace(seen.series[0], instances=11),))


def test_a_study_is_worked_on_only_when_it_was_quiet_for_long_enough(queue):
    queue.see(stable=False)
    assert queue.claims.take() is None
    queue.see(stable=False)
    assert queue.claims.take() is None
    queue.see(stable=False, quiet_s=0.0)
    assert queue.claims.take().state is State.READY


def test_no_study_is_claimed_twice_by_workers_at_the_same_time(queue):
    uids = [str(number) for number in range(30)]
    for uid in uids:
        queue.see(replace(SEEN, uid=uid))

    def claim_all() -> list[str]:
        return [claim.study_uid for claim in iter(queue.claims.take, None)]

    with ThreadPoolExecutor(4) as pool:
        claimed = [pool.submit(claim_all) for _ in range(4)]
    assert sorted(uid for part in claimed for uid in part.result()) == sorted(uids)


def test_a_lease_that_ran_out_gives_the_study_to_another_and_the_first_can_write_nothing(database):
    queue = Queue(database, lease_s=0.0)
    queue.see()
    lost, taken = queue.claims.take(), queue.claims.take()
    assert lost.id == taken.id
    for late in (
        lambda: queue.claims.renew(lost),
        lambda: queue.outbox.record(lost, result()),
        lambda: queue.claims.retry(lost, "late", 0.0),
        lambda: queue.claims.bury(lost, "late"),
    ):
        with pytest.raises(ClaimLostError):
            late()
    assert queue.outbox.record(taken, result())


def test_a_result_is_dropped_when_the_study_changed_while_it_was_made(queue):
    queue.see()
    claim = queue.claims.take()
    queue.see(changed())
    assert not queue.outbox.record(claim, result())
    assert queue.claims.take() is None
    queue.see(changed(), quiet_s=0.0, stable=False)
    assert queue.claims.take().content == changed().content


def test_our_own_result_in_the_study_is_no_change(queue):
    queue.finish()
    queue.see(replace(SEEN, instances=12, series=(*SEEN.series, OURS)))
    assert queue.claims.take() is None


def test_a_study_that_changes_while_its_result_is_sent_is_analysed_again_afterwards(queue):
    queue.see()
    claim = queue.claims.take()
    assert queue.outbox.record(claim, result())
    queue.see(changed())
    queue.outbox.sent(claim)
    queue.see(changed(), quiet_s=0.0, stable=False)
    again = queue.claims.take()
    assert again.content == changed().content
    assert queue.outbox.current(again.id).report == b"SR"


def test_a_dead_letter_with_an_unsent_result_sends_that_first_when_the_study_changes(queue):
    queue.see()
    claim = queue.claims.take()
    assert queue.outbox.record(claim, result())
    queue.claims.bury(claim, "The PACS did not take a result.")
    (letter,) = dead_letters(queue.database)
    assert letter["reason"] == "The PACS did not take a result."
    queue.see(changed())
    assert queue.claims.take().state is State.STORING


def test_a_person_can_have_a_dead_letter_tried_again(queue):
    queue.see()
    claim = queue.claims.take()
    queue.claims.bury(claim, "No reason.")
    assert queue.claims.take() is None
    assert queue.claims.revive(claim.id)
    assert not queue.claims.revive(claim.id)
    assert queue.claims.take().state is State.READY


def test_results_are_sent_before_anything_new_is_begun(queue):
    queue.see(replace(SEEN, uid="1"))
    queue.see(replace(SEEN, uid="2"))
    first = queue.claims.take()
    assert queue.outbox.record(first, result())
    queue.claims.give_back(first, None)
    assert queue.claims.take().state is State.STORING


def test_the_bytes_of_a_result_leave_the_queue_once_the_pacs_has_them(queue):
    queue.finish()
    with queue.database.reading() as connection:
        held = connection.execute(database_module.objects.select()).all()
    assert [row.data for row in held] == [None, None]


def test_the_database_itself_allows_one_current_result_of_a_study_only(queue):
    study = queue.finish()
    one = {"study_id": study, "content": "", "exit_code": 0, "outcome": "", "report": b""}
    with pytest.raises(IntegrityError), queue.database.transaction() as connection:
        connection.execute(database_module.results.insert().values(state="current", **one))


def test_an_old_report_leaves_the_queue_for_it_is_in_the_pacs(queue):
    study = queue.finish()
    queue.outbox.forget_reports(3600.0)
    assert queue.outbox.current(study).report == b"SR"
    queue.outbox.forget_reports(-1.0)
    assert queue.outbox.current(study) is None


def test_the_time_of_the_queue_goes_on_where_it_stood_and_never_back(tmp_path, monkeypatch):
    first = Database(sqlite_url(tmp_path / "q.sqlite"))
    second = QueueClock(first.engine)
    start = first.clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the wall clock jumps; nobody looks at it
    beginning = time.monotonic()
    monkeypatch.setattr(database_module.time, "monotonic", lambda: beginning + 500.0)
    first.clock.sync()
    monkeypatch.undo()
    second.sync()
    assert second.now() >= start + 499.0
    monkeypatch.setattr(database_module.time, "monotonic", lambda: 0.0)  # the machine was started anew
    restarted = QueueClock(first.engine)
    assert restarted.now() >= start + 499.0
    first.engine.dispose()


def test_the_worklist_has_the_likeliest_first_and_nobody_waits_longer_than_the_cap(queue, monkeypatch):
    order = {0.1: "1", 0.9: "2", None: "3", 0.6: "4"}
    for probability, uid in order.items():
        queue.finish(replace(SEEN, uid=uid), probability=probability)
    calm = Worklist(cap_s=3600.0)
    assert [study.probability for study in open_studies(queue.database, calm)] == [0.9, 0.6, None, 0.1]
    late = Worklist(cap_s=0.0)
    assert [study.study_uid for study in open_studies(queue.database, late)] == ["1", "2", "3", "4"]
    assert all(study.overdue for study in open_studies(queue.database, late))


def test_a_study_that_a_reader_closed_leaves_the_worklist_until_it_has_a_new_result(queue):
    study = queue.finish()
    assert close(queue.database, study)
    assert not close(queue.database, study)
    assert open_studies(queue.database, Worklist()) == []
    queue.finish(changed())
    assert [open_study.id for open_study in open_studies(queue.database, Worklist())] == [study]


def test_a_new_result_of_an_open_study_has_waited_as_long_as_the_old_one(queue):
    queue.finish()
    (before,) = open_studies(queue.database, Worklist())
    queue.finish(changed())
    (after,) = open_studies(queue.database, Worklist())
    assert after.waiting_s >= before.waiting_s
