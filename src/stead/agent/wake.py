"""What wakes the tick before its time: memory pressure, and events of control groups that a probe asks to be called for.

The kernel tells by POLLPRI on a descriptor: of /proc/pressure/memory, once a trigger has been written to it (kernel psi.rst),
and of memory.events of a group, until that is read again. All of them hang on one epoll, and that on the loop: nothing is asked
in between. Without CAP_SYS_RESOURCE only windows of whole 2 s are to be had, so the shortest that the kernel takes is tried
first. A group that is held at its limit rings without end: of ticks before their time there are a few at once, and then one in
every few seconds, so that what is told lasts no longer than what it costs.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Sequence
from typing import Final

from stead.protocols import Alarmed, Probe

TRIGGERS: Final = (b"some 50000 500000\0", b"some 100000 1000000\0", b"some 150000 2000000\0")  # microseconds of each window
APART_S: Final = 0.2  # the least time between two ticks
EARLY_MOST: Final = 10.0  # ticks before their time in a row
EARLY_AGAIN: Final = 0.25  # of one is earned again by each tick in its time
_PRESSURE: Final = "/proc/pressure/"
_MOST: Final = 64


class Wake:
    """Waits for the next tick, or for what calls for one earlier. Where no probe asks for anything it only waits."""

    def __init__(self, probes: Sequence[Probe], hasten: Callable[[str], None]) -> None:
        self._probes = [probe for probe in probes if isinstance(probe, Alarmed)]
        self._hasten = hasten
        self._open: dict[str, int] = {}  # path → descriptor; -1: the kernel can't tell about this one
        self._epoll: select.epoll | None = None
        self._rung: asyncio.Future[None] | None = None
        self._rang = False
        self._early = EARLY_MOST

    def follow(self) -> None:
        """Listen to what the probes ask for now, and to nothing else."""
        wanted = list(dict.fromkeys(path for probe in self._probes for path in probe.alarms()))[:_MOST]
        if wanted == list(self._open):
            return
        for path in [path for path in self._open if path not in wanted]:
            self._forget(path)
        self._open = {path: self._open[path] if path in self._open else self._listen(path) for path in wanted}
        if not wanted:
            self.close()

    async def before(self, due_s: float) -> bool:
        """Wait until that time of the loop's clock. True: something called before it, and the probes that asked are due now."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._epoll is not None and not self._rang and due_s - began > APART_S:
            self._rung = loop.create_future()
            try:
                async with asyncio.timeout_at(due_s):
                    await self._rung
            except TimeoutError:
                return self._in_time()
            finally:
                self._rung = None
        called, self._rang = self._rang and self._early >= 1, False
        soonest = min(due_s, began + APART_S)
        await asyncio.sleep((soonest if called else due_s) - loop.time())
        if not called or soonest == due_s:
            return self._in_time()
        self._early -= 1
        for probe in self._probes:
            self._hasten(probe.name)
        return True

    def _in_time(self) -> bool:
        """It is time for the ordinary tick, called or not."""
        self._early = min(EARLY_MOST, self._early + EARLY_AGAIN)
        return False

    def listens(self) -> tuple[str, ...]:
        """The files that it really listens to."""
        return tuple(path for path, descriptor in self._open.items() if descriptor >= 0)

    def close(self) -> None:
        """Let every descriptor go."""
        for path in list(self._open):
            self._forget(path)
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _listen(self, path: str) -> int:
        if not hasattr(select, "epoll"):
            return -1
        descriptor = _armed(path) if path.startswith(_PRESSURE) else _opened(path, os.O_RDONLY)
        if descriptor < 0:
            return -1
        try:
            os.pread(descriptor, 4096, 0)  # what was before is no event
            self._opened_epoll().register(descriptor, select.EPOLLPRI | select.EPOLLERR)
        except OSError:  # a file that can't be polled
            os.close(descriptor)
            return -1
        return descriptor

    def _opened_epoll(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ring)
        return self._epoll

    def _forget(self, path: str) -> None:
        descriptor = self._open.pop(path)
        if descriptor >= 0:
            if self._epoll is not None:
                self._epoll.unregister(descriptor)
            os.close(descriptor)

    def _ring(self) -> None:
        """Something happened. A group's file is read so that it can tell again; one that is gone is not listened to any more.

        A pressure trigger tells once, and the loop's own look at our epoll may have been that once: so nothing to be seen here
        means that it was pressure.
        """
        assert self._epoll is not None
        paths = {descriptor: path for path, descriptor in self._open.items()}
        for descriptor, _ in self._epoll.poll(0):
            path = paths.get(descriptor, "")
            try:
                if not path.startswith(_PRESSURE):
                    os.pread(descriptor, 4096, 0)
            except OSError:
                self._epoll.unregister(descriptor)
                os.close(descriptor)
                self._open[path] = -1
        self._rang = True
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)


def _armed(path: str) -> int:
    """A descriptor with the shortest trigger that the kernel takes; -1: it takes none."""
    for trigger in TRIGGERS:
        descriptor = _opened(path, os.O_RDWR | os.O_NONBLOCK)
        if descriptor < 0:
            return -1
        try:
            os.write(descriptor, trigger)
            return descriptor
        except OSError:
            os.close(descriptor)
    return -1


def _opened(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return -1
