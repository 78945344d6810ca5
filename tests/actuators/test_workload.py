from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stead.actuators.workload import Count, Workload, actuator
from stead.host import LocalHost
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.model.workload import WorkloadSpec
from stead.workloads.process import ProcessWorkloads
from tests.actuators.workloads import running, target


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessWorkloads]:
    one_only = "import os, time; assert os.environ['STEAD_WORKER'] == '0'; time.sleep(60)"
    specs = [
        WorkloadSpec("jobs", (sys.executable, "-c", "import time; time.sleep(60)"), max_workers=3, start_grace_s=0.1),
        WorkloadSpec("single", (sys.executable, "-c", one_only), max_workers=3, start_grace_s=1.0, backoff_s=0.1),
    ]
    async with running(specs, tmp_path) as made:
        yield made


async def test_the_count_is_set_and_put_back_exactly(driver: ProcessWorkloads) -> None:
    workload, host, jobs = Workload({"process": driver}), LocalHost(), target(driver, "jobs")
    before = await workload.read(host, jobs)
    assert before == Count(1)
    await workload.write(host, jobs, Count(3))
    assert workload.met(await workload.read(host, jobs), Count(3))
    assert driver.status("jobs").running == 3  # type: ignore[union-attr]
    await workload.write(host, jobs, before)
    assert await workload.read(host, jobs) == before
    assert driver.status("jobs").running == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(("asked", "planned"), [(2, 2), (9, 3), (0, 1)])
async def test_a_plan_keeps_within_the_workload_s_bounds(driver: ProcessWorkloads, asked: int, planned: int) -> None:
    step = actuator({"process": driver}).plan(target(driver, "jobs"), Count(1), Count(asked))
    assert (step.before, step.want, step.undo, step.repeat) == ({"count": 1}, {"count": planned}, "exact", True)


async def test_a_count_that_does_not_come_up_is_put_back_and_says_why(driver: ProcessWorkloads) -> None:
    workload, host, single = Workload({"process": driver}), LocalHost(), target(driver, "single")
    with pytest.raises(SteadError, match=r"did not come to 2 workers: worker 1: .*in a row"):
        await workload.write(host, single, Count(2))
    assert await workload.read(host, single) == Count(1)
    assert await driver.settle("single", 10) and driver.status("single").running == 1  # type: ignore[union-attr]


async def test_another_life_of_the_name_is_not_touched(driver: ProcessWorkloads) -> None:
    workload, host = Workload({"process": driver}), LocalHost()
    gone = Target("workload", "jobs", {"id": "earlier"})
    assert await workload.read(host, gone) is ABSENT
    with pytest.raises(SteadError):
        await workload.write(host, gone, Count(2))
    with pytest.raises(SteadError, match="can't be scaled"):
        await workload.write(host, target(driver, "jobs"), ABSENT)
    assert driver.status("jobs").wanted == 1  # type: ignore[union-attr]
