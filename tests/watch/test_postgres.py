"""Several watchers that share one queue in PostgreSQL."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.service("orthanc"), pytest.mark.service("postgresql")]
STUDIES = 8


@pytest.mark.timeout(3000)
def test_two_watchers_share_one_queue_and_one_that_dies_is_replaced_by_the_other(
    site, postgres, start_process, with_settings, tmp_path
):
    options = [
        with_settings(site.options("slow", database=postgres, state=tmp_path / name), lease_s=1.0)
        for name in ("one", "two")
    ]
    studies = [site.make_study(seed, slices=2) for seed in range(300, 300 + STUDIES)]
    one, _ = (start_process(wanted) for wanted in options)
    for study in studies:
        site.orthanc.add(*study.files)
    site.wait_until(lambda: "done" in site.states(options[0]).values())
    one.kill()
    one.join()
    site.wait_until(lambda: [*site.states(options[0]).values()] == ["done"] * STUDIES)
    for study in studies:
        assert len(site.reports(study)) == len(site.segmentations(study)) == 1
