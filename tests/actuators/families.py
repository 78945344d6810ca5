"""A process that starts others on request, for tests of what becomes of its family."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from stead.actuators.priority import Priority, PriorityActuator
from stead.cgroups.own_groups import descendants
from stead.host import LocalHost
from stead.model.change import Step
from tests.actuators.children import child, target

FORKS = """
import os, signal, time
def waits():
    while True:
        time.sleep(600)
def fork(number, frame):
    if os.fork() == 0:
        waits()
def fork_apart(number, frame):
    if os.fork() == 0:
        os.setsid()
        waits()
signal.signal(signal.SIGUSR1, fork)
signal.signal(signal.SIGUSR2, fork_apart)
print(flush=True)
waits()
"""


class Family:
    """A process that starts another whenever it is told to: those it started may do the same."""

    def __init__(self, host: LocalHost, pid: int) -> None:
        self.host, self.pid, self.target = host, pid, target(host, pid)
        self.levers = PriorityActuator(host)
        self.children: dict[int, int | None] = {}  # with their starts, for they may outlive it

    def born(self, of: int = 0, apart: bool = False) -> int:
        """One more, of the process or of one of its own; `apart`: in a session of its own."""
        time.sleep(0.02)  # a clock tick of the kernel's later
        os.kill(of or self.pid, signal.SIGUSR2 if apart else signal.SIGUSR1)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for pid in descendants(self.host, self.pid):
                if pid not in self.children and (not apart or os.getsid(pid) == pid):
                    self.children[pid] = self.host.start_ticks(pid)
                    return pid
            time.sleep(0.01)
        raise AssertionError("nothing was started")

    async def seen(self, pid: int) -> Any:
        """The levers of one of them."""
        return await self.levers.read(self.host, target(self.host, pid))

    async def lower(self, want: Priority) -> Step:
        """As a run does it."""
        step = self.levers.plan(self.target, await self.levers.read(self.host, self.target), want)
        await self.levers.write(self.host, step.target, msgspec.convert(step.want, Priority))
        return step

    async def undo(self, step: Step) -> None:
        """As a run does it."""
        await self.levers.put_back(self.host, step.target, msgspec.convert(step.before, Priority))

    def refusing(self, stubborn: int) -> Callable[[int, int], None]:
        """The scheduler's `set_nice`, which refuses one of them."""
        setting = self.host.scheduler.set_nice

        def set_nice(pid: int, nice: int) -> None:
            if pid == stubborn:
                raise PermissionError(1, "not permitted")
            setting(pid, nice)

        return set_nice

    def end(self) -> None:
        """End everybody whom it has started."""
        for pid in descendants(self.host, self.pid):
            self.children.setdefault(pid, self.host.start_ticks(pid))
        for pid, ticks in self.children.items():
            if ticks is not None and self.host.start_ticks(pid) == ticks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def a_family() -> Iterator[Family]:
    """One, which is gone afterwards."""
    host = LocalHost()
    with child(FORKS) as pid:
        one = Family(host, pid)
        try:
            yield one
        finally:
            one.end()
