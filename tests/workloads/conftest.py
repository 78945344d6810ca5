from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from stead.host import LocalHost, SystemClock
from stead.model.workload import WorkloadSpec
from stead.workloads.process import ProcessWorkloads

SLEEPER = str(Path(__file__).with_name("sleeper.py"))


def sleeper(name: str = "web", mode: str = "", **options: object) -> WorkloadSpec:
    defaults: dict[str, object] = {"workers": 2, "start_grace_s": 0.1, "stop_grace_s": 0.5, "backoff_s": 0.2}
    return WorkloadSpec(name=name, argv=(sys.executable, SLEEPER, mode), **(defaults | options))  # type: ignore[arg-type]


@pytest.fixture
def host() -> LocalHost:
    return LocalHost()


@pytest.fixture
async def supervise(tmp_path: Path, host: LocalHost) -> AsyncIterator[Callable[..., ProcessWorkloads]]:
    """Make drivers on one state directory; at the end the last one stops every worker."""
    made: list[ProcessWorkloads] = []

    def make(*specs: WorkloadSpec) -> ProcessWorkloads:
        made.append(ProcessWorkloads(specs, tmp_path, host, SystemClock()))
        return made[-1]

    yield make
    for driver in made[:-1]:
        await driver.close()
    if made:
        await made[-1].stop_all()
        await made[-1].close()


async def until(condition: Callable[[], bool], driver: ProcessWorkloads, timeout_s: float = 15.0) -> None:
    """Tick until it is so."""
    for _ in range(int(timeout_s / 0.03)):
        await driver.tick(SystemClock().now())
        if condition():
            return
        await asyncio.sleep(0.03)
    raise AssertionError("it never came to be so")


def pids(driver: ProcessWorkloads, name: str = "web") -> list[int]:
    status = driver.status(name)
    assert status is not None
    return [worker.pid for worker in status.workers if worker.pid]


def runs(pid: int) -> bool:
    """Is it there, and no zombie?"""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def children_of(pid: int, driver: ProcessWorkloads) -> list[int]:
    """The children of a worker, once it has started them."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    await until(lambda: bool(path.read_text().split()), driver)
    return [int(word) for word in path.read_text().split()]
