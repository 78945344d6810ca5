from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stead.actuators.service import Generation, Service, actuator
from stead.host import LocalHost
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.model.workload import WorkloadSpec
from stead.workloads.process import ProcessWorkloads
from tests.actuators.workloads import running, target

GOOD = "import time; time.sleep(60)"


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessWorkloads]:
    bad = "import os, time; assert os.environ['STEAD_GENERATION'] != '2', 'bad generation'; time.sleep(60)"
    specs = [
        WorkloadSpec("web", (sys.executable, "-c", GOOD), workers=2, start_grace_s=0.1, stop_grace_s=1.0),
        WorkloadSpec("frail", (sys.executable, "-c", bad), workers=2, start_grace_s=1.0, stop_grace_s=1.0, backoff_s=0.1),
    ]
    async with running(specs, tmp_path) as made:
        yield made


async def test_a_restart_is_a_higher_generation_of_every_worker(driver: ProcessWorkloads) -> None:
    service, host, web = Service({"process": driver}), LocalHost(), target(driver, "web")
    assert await service.read(host, web) == Generation(1)
    old = {worker.pid for worker in driver.status("web").workers}  # type: ignore[union-attr]
    await service.write(host, web, Generation(2))
    assert service.met(await service.read(host, web), Generation(2))
    workers = driver.status("web").workers  # type: ignore[union-attr]
    assert {worker.generation for worker in workers} == {2} and not old & {worker.pid for worker in workers}
    assert {worker.state for worker in workers} == {"healthy"}


async def test_its_plan_says_that_nothing_undoes_it_and_that_it_is_never_repeated(driver: ProcessWorkloads) -> None:
    step = actuator({"process": driver}).plan(target(driver, "web"), Generation(1), Generation(2))
    assert (step.undo, step.repeat, step.diff) == ("none", False, {"generation": (1, 2)})
    assert "un-restarted" in step.undo_reason and step.duration_s > 2 * 1.0


async def test_a_restart_that_halts_reads_as_not_done_and_can_be_wanted_again(driver: ProcessWorkloads) -> None:
    service, host, frail = Service({"process": driver}), LocalHost(), target(driver, "frail")
    with pytest.raises(SteadError, match=r"came to a halt: .*in a row"):
        await service.write(host, frail, Generation(2))
    assert await service.read(host, frail) == Generation(1)
    assert driver.status("frail").running == 1  # type: ignore[union-attr]  # the other one works on
    with pytest.raises(SteadError, match="came to a halt"):
        await service.write(host, frail, Generation(2))
    await service.write(host, frail, Generation(3))
    assert await service.read(host, frail) == Generation(3)


async def test_a_reader_waits_for_a_restart_under_way(driver: ProcessWorkloads) -> None:
    service, host, web = Service({"process": driver}), LocalHost(), target(driver, "web")
    await driver.restart("web", 2)
    assert driver.status("web").reached == 1  # type: ignore[union-attr]
    assert await asyncio.wait_for(service.read(host, web), 20) == Generation(2)


async def test_another_life_of_the_name_is_not_touched(driver: ProcessWorkloads) -> None:
    service, host = Service({"process": driver}), LocalHost()
    for gone in (Target("workload", "web", {"id": "earlier"}), Target("workload", "mail"), Target("process", "web")):
        assert await service.read(host, gone) is ABSENT
        with pytest.raises(SteadError):
            await service.write(host, gone, Generation(2))
    assert driver.status("web").generation == 1  # type: ignore[union-attr]
    assert not service.met(ABSENT, Generation(2))
