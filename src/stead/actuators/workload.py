"""How many workers a workload has. Exactly reversible: the former count is set again.

A count that its workers don't live up to (they crash, they never become healthy) is put back at once and is a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.model.workload import WorkloadStatus
from stead.protocols import Host, WorkloadDriver
from stead.workloads.lookup import find

SPARE_S: Final = 2.0


class Count(msgspec.Struct, frozen=True):
    """Workers wanted."""

    count: int


class Workload:
    """protocols.Actuator for a workload's count of workers. The target is `workload:<name>` with its id."""

    name = "workload"
    state = Count

    def __init__(self, drivers: Mapping[str, WorkloadDriver]) -> None:
        self._drivers = drivers

    async def read(self, host: Host, target: Target) -> Count | Absent:
        """The count that the driver keeps to."""
        found = find(self._drivers, target)
        return ABSENT if found is None else Count(found[1].wanted)

    def plan(self, target: Target, now: Count | Absent, want: Count | Absent) -> Step:
        """The wanted count, kept within the workload's own bounds."""
        found = find(self._drivers, target)
        duration_s = SPARE_S
        if found is not None and not isinstance(want, Absent):
            status = found[1]
            want = Count(min(max(want.count, status.min_workers), status.max_workers))
            duration_s += 2 * status.replace_s
        return Step(self.name, target, _record(now), _record(want), "exact", duration_s=duration_s)

    def met(self, now: Count | Absent, want: Count | Absent) -> bool:
        """That count is what the driver keeps to. (`write` saw to it that as many came up.)"""
        return now == want

    async def write(self, host: Host, target: Target, want: Count | Absent) -> None:
        """Set the count and wait until that many run. Raises SteadError, with the old count restored, when they don't."""
        found = find(self._drivers, target)
        if found is None or isinstance(want, Absent):
            raise SteadError(f"{target} can't be scaled", str(target), "a workload is removed by its definition, not by a change")
        driver, before = found
        await driver.set_workers(target.name, want.count, host.note)
        if await driver.settle(target.name, before.replace_s) or _as_many(driver.status(target.name), want.count):
            return
        after = driver.status(target.name)
        why = (after and after.reason) or "they did not start or stop in time"
        await driver.set_workers(target.name, before.wanted, host.note)
        raise SteadError(
            f"{target.name} did not come to {want.count} workers: {why}",
            str(target),
            f"it is back at {before.wanted}; see the workload's logs",
            code="workload.not-reached",
        )


def _as_many(status: WorkloadStatus | None, count: int) -> bool:
    """Do that many run? Whether an old one is healthy is another finding's matter."""
    return status is not None and status.wanted == count == status.running == len(status.workers)


def _record(state: Count | Absent) -> Record | None:
    return None if isinstance(state, Absent) else {"count": state.count}


def actuator(drivers: Mapping[str, WorkloadDriver]) -> Workload:
    """Make the actuator on these drivers."""
    return Workload(drivers)
