"""Every registered actuator against the conformance suite, on real targets."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest

from stead.actuators import autonomy, files, kernel, limit, placement, priority, process, resident, service, workload
from stead.actuators.autonomy_file import AutonomyFile
from stead.host import LocalHost, SystemClock
from stead.model.change import Target
from stead.model.policy import Autonomy
from stead.model.workload import WorkloadSpec
from stead.testing.actuators import CHECKS, Case
from stead.workloads.process import ProcessWorkloads
from tests.actuators.children import THREADS, child, target
from tests.actuators.ksm import ksm_as_found
from tests.actuators.test_resident import group_with_cache
from tests.cgroups.groups import group, placed, put, real_groups, sleeper
from tests.files.kit import Place

SLEEPER = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


@contextlib.asynccontextmanager
async def priority_case(tmp_path: Path) -> AsyncIterator[Case]:
    host = LocalHost()
    states = [priority.Priority(nice=5, ionice_class="idle"), priority.Priority(policy="batch")]
    cpus = sorted(os.sched_getaffinity(0))
    states += [priority.Priority(cpus=str(cpus[0]))] if len(cpus) > 1 else []
    states += [priority.Priority(ionice_class="best_effort", ionice_level=7), priority.Priority(policy="idle", nice=19)]
    with child(THREADS) as pid:
        mine = target(host, pid)
        if host.scheduler.autogroup(pid) is not None:
            states.append(priority.Priority(autogroup_nice=19))
        successor = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
        absent = msgspec.structs.replace(mine, identity={**mine.identity, "boot_id": "another"})
        yield Case(priority.actuator(host), host, mine, tuple(states), absent, successor)


@contextlib.asynccontextmanager
async def autonomy_case(tmp_path: Path) -> AsyncIterator[Case]:
    kept = AutonomyFile(tmp_path, tmp_path / "pause", Autonomy("act", {"host": 1}))
    state = autonomy.AutonomyState
    states = (state("observe", 0, True, True), state("advise", 2), state(locked=True), state(paused=True))
    yield Case(autonomy.actuator(kept), LocalHost(), Target("autonomy", "host"), states, Target("process", "1"))


@contextlib.asynccontextmanager
async def workload_of(tmp_path: Path) -> AsyncIterator[tuple[ProcessWorkloads, Target, Target, Target]]:
    spec = WorkloadSpec("web", SLEEPER, workers=1, max_workers=3, start_grace_s=0.3, stop_grace_s=0.3)
    host, clock = LocalHost(), SystemClock()
    driver = ProcessWorkloads([spec], tmp_path, host, clock)
    try:
        await driver.tick(clock.now())
        await driver.settle("web", 10.0)
        status = driver.status("web")
        assert status is not None
        mine = Target("workload", "web", {"id": status.id})
        yield driver, mine, Target("workload", "none", {"id": status.id}), Target("workload", "web", {"id": "another"})
    finally:
        await driver.stop_all()
        await driver.close()


@contextlib.asynccontextmanager
async def workload_case(tmp_path: Path) -> AsyncIterator[Case]:
    async with workload_of(tmp_path) as (driver, mine, absent, successor):
        states = (workload.Count(2), workload.Count(3))
        yield Case(workload.actuator({"process": driver}), LocalHost(), mine, states, absent, successor)


@contextlib.asynccontextmanager
async def service_case(tmp_path: Path) -> AsyncIterator[Case]:
    async with workload_of(tmp_path) as (driver, mine, absent, successor):
        actuator = service.actuator({"process": driver})
        now = await actuator.read(LocalHost(), mine)
        states = (service.Generation(now.generation + 1), service.Generation(now.generation + 2))
        yield Case(actuator, LocalHost(), mine, states, absent, successor)


@contextlib.asynccontextmanager
async def placement_case(tmp_path: Path) -> AsyncIterator[Case]:
    host, groups = real_groups()
    with placed(groups) as pid:
        states = (
            placement.Placement(group="best-effort"),
            placement.Placement(group="best-effort", cpu_max_percent=40.0),
            placement.Placement(group="best-effort", cpu_max_percent=25.0, frozen=True),
        )
        mine = target(host, pid)
        successor = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
        absent = msgspec.structs.replace(mine, identity={**mine.identity, "boot_id": "another"})
        yield Case(placement.actuator(host), host, mine, states, absent, successor)


@contextlib.asynccontextmanager
async def limit_case(tmp_path: Path) -> AsyncIterator[Case]:
    host, groups = real_groups()
    with sleeper() as pid, group(groups) as path:
        put(groups, path, pid)
        mine = groups.target(path)
        assert mine is not None
        states = (
            limit.Limit(cpu_weight=20, cpu_max_percent=50.0),
            limit.Limit(cpu_idle=True),
            limit.Limit(memory_max_bytes=256 << 20, memory_low_bytes=1 << 20),
            limit.Limit(pids_max=64, io_max=["* wbps=1048576"]),
            limit.Limit(frozen=True),
        )
        successor = msgspec.structs.replace(mine, identity={**mine.identity, "id": "cpu.1"})
        absent = msgspec.structs.replace(mine, name=f"{path}-none")
        yield Case(limit.actuator(host), host, mine, states, absent, successor)


@contextlib.asynccontextmanager
async def kernel_case(tmp_path: Path) -> AsyncIterator[Case]:
    host = LocalHost()
    mine = Target("kernel", "ksm", {"boot_id": host.boot_id})
    another = Target("kernel", "ksm", {"boot_id": "another"})
    state = kernel.Knobs
    states = (
        state(run=1, advisor_mode="scan-time", advisor_max_cpu=11),
        state(advisor_mode="none", pages_to_scan=123),
        state(sleep_millisecs=33, smart_scan=False),
    )
    with ksm_as_found():
        yield Case(kernel.actuator(host), host, mine, states, another, another)


@contextlib.asynccontextmanager
async def process_case(tmp_path: Path) -> AsyncIterator[Case]:
    host = LocalHost()
    with child(THREADS) as pid:
        mine = target(host, pid)
        successor = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
        absent = msgspec.structs.replace(mine, identity={**mine.identity, "boot_id": "another"})
        yield Case(process.actuator(LocalHost()), host, mine, (process.Process(stopped=True),), absent, successor)


@contextlib.asynccontextmanager
async def resident_case(tmp_path: Path) -> AsyncIterator[Case]:
    host, groups = real_groups()
    with group_with_cache(tmp_path) as path:
        mine = groups.target(path)
        assert mine is not None
        successor = msgspec.structs.replace(mine, identity={**mine.identity, "id": "memory.1"})
        absent = msgspec.structs.replace(mine, name=f"{path}-none")
        yield Case(
            resident.actuator(host), host, mine, (resident.Resident(24 << 20),), absent, successor, ("size_bytes", "floor_bytes")
        )


@contextlib.asynccontextmanager
async def files_case(tmp_path: Path) -> AsyncIterator[Case]:
    place = Place(tmp_path)
    mine = place.target(place.file("/var/log/app.log.1"))
    absent = msgspec.structs.replace(mine, name="/var/log/none.log.1")
    successor = msgspec.structs.replace(mine, identity={**mine.identity, "mtime_ns": "1"})
    yield Case(files.actuator(place.cleaner), place.host, mine, (files.Files("quarantine"),), absent, successor)


CASES = {
    "files": files_case,
    "process": process_case,
    "resident": resident_case,
    "kernel": kernel_case,
    "priority": priority_case,
    "autonomy": autonomy_case,
    "workload": workload_case,
    "service": service_case,
    "limit": limit_case,
    "placement": placement_case,
}


def test_every_registered_actuator_is_here() -> None:
    assert {point.name for point in entry_points(group="stead.actuators")} == set(CASES)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
async def test_conforms(name: str, check: Callable[[Case], Awaitable[None]], tmp_path: Path) -> None:
    async with CASES[name](tmp_path) as case:
        await check(case)
