"""Real workloads for tests of what sets them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stead.host import LocalHost, SystemClock
from stead.model.change import Target
from stead.model.workload import WorkloadSpec
from stead.workloads.process import ProcessWorkloads


@contextlib.asynccontextmanager
async def running(specs: Sequence[WorkloadSpec], folder: Path) -> AsyncIterator[ProcessWorkloads]:
    """These workloads, all of them up; they are stopped afterwards."""
    made = ProcessWorkloads(specs, folder, LocalHost(), SystemClock())
    for name in made.names():
        assert await made.settle(name, 20)
    yield made
    await made.stop_all()
    await made.close()


def target(driver: ProcessWorkloads, name: str) -> Target:
    """A workload as a target."""
    status = driver.status(name)
    assert status is not None
    return Target("workload", name, {"id": status.id})
