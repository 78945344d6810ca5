"""The workload driver that runs process groups of stead's own. See `pool` for what one workload does.

`tick` is called once a second and never waits. While something moves (a restart, a start, a stop) a task converges more
often, so that a rolling restart takes as long as its workers do. Health checks run beside it, each with its own timeout.
When the agent stops or is killed the workers run on; the next agent adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from stead.model.errors import SteadError
from stead.model.observe import Now
from stead.model.workload import Health, WorkloadSpec, WorkloadStatus
from stead.protocols import Clock, Host, Note
from stead.workloads import children, health
from stead.workloads.adoption import open_pool, open_removed
from stead.workloads.pool import KILL_MS, Pool, unnoted
from stead.workloads.records import WorkloadFiles
from stead.workloads.slot import HURRY_S, Slot


class ProcessWorkloads:
    """All workloads of this host. Opening it adopts what still runs; raises SteadError where the state can't be written."""

    kind = "process"

    def __init__(self, specs: Sequence[WorkloadSpec], state_dir: str | Path, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._files = WorkloadFiles(state_dir)
        now = clock.now()
        self._pools = {spec.name: open_pool(spec, self._files, host, now) for spec in specs}
        gone = [open_removed(name, self._files, host, now) for name in self._files.recorded() if name not in self._pools]
        self._removed = [pool for pool in gone if pool is not None]
        self._checks: set[asyncio.Task[None]] = set()
        self._hurry: asyncio.Task[None] | None = None

    def names(self) -> Sequence[str]:
        """The defined workloads."""
        return tuple(self._pools)

    def status(self, name: str) -> WorkloadStatus | None:
        """One workload as it is; None when there is none of that name."""
        pool = self._pools.get(name)
        return pool.status() if pool else None

    def owns(self, pid: int) -> bool:
        """Was this process started by a workload? By its ancestors and sessions, and by the mark that workers are given."""
        leaders = {slot.child.pid for pool in self._all() for slot in pool.slots.values() if slot.child is not None}
        return not leaders.isdisjoint(children.lineage(self._host, pid)) or "STEAD_WORKLOAD_ID" in children.variables(
            self._host, pid
        )

    async def set_workers(self, name: str, count: int, note: Note | None = None) -> None:
        """Want this many workers from now on, durably. Raises SteadError outside the workload's bounds.

        `note` is told each operation on this workload's workers from now on.
        """
        pool = self._pool(name)
        low, high = pool.spec.min_workers, pool.spec.max_workers
        if not low <= count <= high:
            raise SteadError(f"{name} can't have {count} workers", f"workload:{name}", f"{low} to {high} are allowed")
        pool.note = note or unnoted
        if pool.wanted != count:
            pool.note(f"workers wanted of {name}: {pool.wanted} → {count}")
            pool.wanted = count
            await self._moved(pool)

    async def restart(self, name: str, generation: int, note: Note | None = None) -> None:
        """Bring all workers to this generation, one at a time, unless they are. Raises SteadError for an older one.

        `note` is told each operation on this workload's workers from now on.
        """
        pool = self._pool(name)
        if generation < pool.generation:
            raise SteadError(
                f"{name} is at generation {pool.generation} and can't go back to {generation}",
                f"workload:{name}",
                "a restart can't be un-restarted: ask for a higher generation",
            )
        pool.note = note or unnoted
        if generation > pool.generation:
            pool.note(f"generation of {name}: {pool.generation} → {generation}")
            pool.generation = generation
            pool.restarts += 1
            await self._moved(pool)
        elif pool.reached != generation:
            pool.note(f"generation {generation} of {name} was tried again")
            pool.try_again()
            await self._moved(pool)

    async def tick(self, now: Now) -> None:
        """Converge every workload by the steps that can be taken now, and read its workers' reports."""
        self._converge(now)
        for pool in self._pools.values():
            pool.observe(now)
        self._hasten()

    async def settle(self, name: str, timeout_s: float) -> bool:
        """Wait until a workload is as wanted; False when that did not come in time, or will not by itself."""
        pool = self._pool(name)
        deadline_ms = self._clock.now().mono_ms + int(timeout_s * 1000)
        while True:
            now = self._clock.now()
            self._converge(now)
            if pool.settled:
                return True
            if pool.stuck or now.mono_ms >= deadline_ms:
                return False
            await asyncio.sleep(HURRY_S / 2)

    async def stop_all(self) -> bool:
        """Stop every worker: SIGTERM, the grace, SIGKILL. How many are wanted is remembered. False: some are still there."""
        pools = self._all()
        grace_s = max((pool.spec.stop_grace_s for pool in pools), default=0.0)
        deadline_ms = self._clock.now().mono_ms + int(grace_s * 1000) + KILL_MS
        for pool in pools:
            pool.closing = True
        while True:
            now = self._clock.now()
            self._converge(now)
            if all(pool.settled for pool in pools) or now.mono_ms >= deadline_ms:
                return all(pool.settled for pool in pools)
            await asyncio.sleep(HURRY_S / 4)

    async def close(self) -> None:
        """End what this object runs. The workers run on, and are adopted by the next one."""
        tasks = [*self._checks, *([self._hurry] if self._hurry else [])]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for pool in self._all():
            pool.let_go()

    def _all(self) -> list[Pool]:
        return [*self._pools.values(), *self._removed]

    def _pool(self, name: str) -> Pool:
        try:
            return self._pools[name]
        except KeyError:
            raise SteadError(
                f"there is no workload {name!r}", "workloads", f"defined are: {', '.join(self._pools) or 'none'}"
            ) from None

    async def _moved(self, pool: Pool) -> None:
        """What is wanted changed: durable before anything follows from it."""
        pool.save()
        await asyncio.to_thread(self._files.sync, pool.spec.name)
        self._converge(self._clock.now())
        self._hasten()

    def _converge(self, now: Now) -> None:
        for pool in self._all():
            try:
                pool.converge(now)
                pool.reason = ""
            except OSError as error:  # a full disk: nothing is started that could not be found again
                pool.reason = f"its record can't be written: {error.strerror or error}"
            self._check_health(pool, now)
        for pool in [pool for pool in self._removed if pool.settled]:
            self._removed.remove(pool)
            self._files.forget(pool.spec.name)

    def _check_health(self, pool: Pool, now: Now) -> None:
        if pool.spec.health is None or pool.closing or pool.removed:
            return
        for slot in pool.slots.values():
            if slot.check_due(pool.spec.health, now):
                slot.asking, slot.asked_mono_ms = True, now.mono_ms
                task = asyncio.ensure_future(self._ask(pool, slot, pool.spec.health))
                self._checks.add(task)
                task.add_done_callback(self._checks.discard)

    async def _ask(self, pool: Pool, slot: Slot, how: Health) -> None:
        spawn = slot.spawn
        problem = await health.check(how, self._host, pool.port(slot), slot.index)
        slot.answered(how, spawn, problem)

    def _hasten(self) -> None:
        idle = self._hurry is None or self._hurry.done()
        if idle and any(pool.moving for pool in self._all()):
            self._hurry = asyncio.ensure_future(self._hurry_on())

    async def _hurry_on(self) -> None:
        """Converge often while something moves."""
        while any(pool.moving for pool in self._all()):
            await asyncio.sleep(HURRY_S)
            self._converge(self._clock.now())
