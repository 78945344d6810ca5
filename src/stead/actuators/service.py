"""The generation of a workload's workers. Wanting a higher one is a graceful restart: one worker at a time, N-1 keep working.

The state that is read is the newest generation that all workers were healthy in: a restart that came to a halt at a
worker that would not start reads as not done, and the workers that it did not reach keep running.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.protocols import Host, WorkloadDriver
from stead.workloads.lookup import find

READ_WAIT_S: Final = 4.0
SPARE_S: Final = 2.0
WHY_NONE: Final = "a restart can't be un-restarted: what the stopped workers held in memory is gone"


class Generation(msgspec.Struct, frozen=True):
    """Which start of the workers this is; it rises with each restart."""

    generation: int


class Service:
    """protocols.Actuator for a workload's generation. The target is `workload:<name>` with its id."""

    name = "service"
    state = Generation

    def __init__(self, drivers: Mapping[str, WorkloadDriver]) -> None:
        self._drivers = drivers

    async def read(self, host: Host, target: Target) -> Generation | Absent:
        """The generation reached. A restart under way (by an agent that was killed) is waited for, and if it lasts, unknown."""
        found = find(self._drivers, target)
        if found is None:
            return ABSENT
        driver, status = found
        if status.reached < status.generation:
            await driver.settle(target.name, READ_WAIT_S)
            status = driver.status(target.name) or status
            if status.reached < status.generation and not status.reason:
                raise SteadError(f"a restart of {target.name} is under way", str(target), "wait until it is done")
        return Generation(status.reached)

    def plan(self, target: Target, now: Generation | Absent, want: Generation | Absent) -> Step:
        """A restart of all workers, never repeated by recovery, that nothing can take back."""
        found = find(self._drivers, target)
        status = found[1] if found else None
        duration_s = (status.wanted * status.replace_s if status else 0.0) + SPARE_S
        return Step(self.name, target, _record(now), _record(want), "none", WHY_NONE, duration_s=duration_s, repeat=False)

    def met(self, now: Generation | Absent, want: Generation | Absent) -> bool:
        """All workers have been healthy in that very generation."""
        return now == want

    async def write(self, host: Host, target: Target, want: Generation | Absent) -> None:
        """Restart, and wait until every worker is healthy. Raises SteadError when that does not come about."""
        found = find(self._drivers, target)
        if found is None or isinstance(want, Absent):
            raise SteadError(
                f"{target} can't be restarted", str(target), "a workload is removed by its definition, not by a change"
            )
        driver, status = found
        await driver.restart(target.name, want.generation, host.note)
        if not await driver.settle(target.name, status.wanted * status.replace_s):
            after = driver.status(target.name)
            why = (after and after.reason) or "its workers did not become healthy in time"
            raise SteadError(
                f"the restart of {target.name} came to a halt: {why}",
                str(target),
                "the workers that it did not reach still run; see the workload's logs",
                code="service.halted",
            )


def _record(state: Generation | Absent) -> Record | None:
    return None if isinstance(state, Absent) else {"generation": state.generation}


def actuator(drivers: Mapping[str, WorkloadDriver]) -> Service:
    """Make the actuator on these drivers."""
    return Service(drivers)
