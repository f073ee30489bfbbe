"""The same batch on Ray."""

from __future__ import annotations

import pytest

from fracture_map.batch.entries import entries_of
from fracture_map.batch.pool import run_on_machine
from fracture_map.supervise import StopFlag

pytestmark = pytest.mark.service("ray")
VARYING = ("seconds", "device")


def comparable(rows) -> dict[str, dict[str, object]]:
    return {row["study"]: {key: row[key] for key in row if key not in VARYING} for row in rows}


@pytest.mark.timeout(3000)
def test_two_workers_on_ray_give_the_same_rows_though_one_of_them_is_killed(
    service, make_study, plan, tmp_path, monkeypatch
):
    try:
        from fracture_map.batch.on_ray import run_on_ray
    except ImportError:
        service("ray", None)
        raise
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else they wait for everything else on the machine
    root = tmp_path / "root"
    for number in range(6):
        make_study(root / str(number), number)
    alone = list(run_on_machine(entries_of(root, tmp_path / "alone"), plan(workers=1), StopFlag()))
    victim = root / "3" / "KILL_PARENT"
    victim.touch()
    together = list(run_on_ray("local", entries_of(root, tmp_path / "ray"), plan(workers=2), StopFlag()))
    assert not victim.exists()
    assert comparable(together) == comparable(alone)
    assert {row["exit_code"] for row in together} == {0}
