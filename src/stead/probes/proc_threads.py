"""How long a process's threads waited for a CPU. The process's own /proc/PID/schedstat is its main thread's alone.

A descriptor is kept for each thread, and the threads are listed again only when their number is not the number of those that
are known: one that ended can't be read any more, and is known no longer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from stead.probes.proc_table import Task, parse_schedstat
from stead.protocols import Host, KeptFile

_MOST_THREADS: Final = 1_000
_MOST_KEPT: Final = 500
_SCHEDSTAT_BYTES: Final = 96


class TooManyThreadsError(Exception):
    """More threads ran than are read in one interval: the sum is unknown."""


class _Thread:
    """One thread: its file, if there was a descriptor to spare, and how long it had run and waited in ns."""

    __slots__ = ("cpu_ns", "delay_ns", "file")

    def __init__(self, file: KeptFile | None) -> None:
        self.file = file
        self.cpu_ns = 0
        self.delay_ns = 0


class Threads:
    """Remembers what each thread of the multi-threaded processes had waited."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, _Thread]] = {}
        self._left = _MOST_THREADS
        self._kept = 0

    def waited(self, host: Host, task: Task, elapsed_ms: int) -> float | None:
        """Seconds that the threads of a process waited, per second. None when it isn't known yet, or not counted here."""
        return self.times(host, task, elapsed_ms)[1]

    def times(self, host: Host, task: Task, elapsed_ms: int) -> tuple[float | None, float | None]:
        """Seconds that the threads of a process ran, and waited, per second; as exact as schedstat. None as above."""
        if task.threads == 1:
            self._alone(task)
            return task.cores, task.waited_s
        met = task.pid not in self._known
        threads = self._threads(host, task)
        self._left -= len(threads)
        if self._left < 0:
            self._left = _MOST_THREADS
            raise TooManyThreadsError(f"more than {_MOST_THREADS} threads ran in one interval")
        ran_ns, waited_ns = self._read(host, task.pid, threads)
        if met or not elapsed_ms or not threads:
            return task.cores, task.waited_s  # its main thread's waiting, for this once
        return ran_ns / (elapsed_ms * 1e6), waited_ns / (elapsed_ms * 1e6)

    def _alone(self, task: Task) -> None:
        """One that has had more threads, as a server with one a request: what its main thread has so far is accounted for."""
        known = self._known.get(task.pid)
        main = known.get(str(task.pid)) if known else None
        if known is None or main is None:
            return
        main.cpu_ns, main.delay_ns = task.cpu_ns or main.cpu_ns, task.delay_ns or main.delay_ns
        for name in known.keys() - {str(task.pid)}:
            self._close(known.pop(name))

    def keep(self, pids: Collection[int]) -> None:
        """Forget processes that are gone, and begin a new interval."""
        self._left = _MOST_THREADS
        for pid in [pid for pid in self._known if pid not in pids]:
            self._forget(pid)

    def forget(self) -> None:
        """Forget all: nobody asks."""
        self.keep(())

    def _threads(self, host: Host, task: Task) -> dict[str, _Thread]:
        known = self._known.setdefault(task.pid, {})
        if len(known) == task.threads:
            return known
        try:
            names = host.list(f"/proc/{task.pid}/task")
        except OSError:
            names = []
        for name in known.keys() - set(names):
            self._close(known.pop(name))
        for name in names:
            if name not in known:
                known[name] = self._open(host, f"/proc/{task.pid}/task/{name}/schedstat")
        return known

    def _read(self, host: Host, pid: int, threads: dict[str, _Thread]) -> tuple[int, int]:
        """Read each thread; return the nanoseconds that they ran and waited since the time before."""
        ran_ns = waited_ns = 0
        for name, thread in list(threads.items()):
            try:
                file = thread.file
                data = file.read() if file else host.read(f"/proc/{pid}/task/{name}/schedstat", _SCHEDSTAT_BYTES)
                cpu_ns, delay_ns = parse_schedstat(data)
            except (OSError, ValueError):
                self._close(threads.pop(name))
                continue
            ran_ns += max(0, cpu_ns - thread.cpu_ns)
            waited_ns += max(0, delay_ns - thread.delay_ns)
            thread.cpu_ns, thread.delay_ns = cpu_ns, delay_ns
        return ran_ns, waited_ns

    def _open(self, host: Host, path: str) -> _Thread:
        if self._kept >= _MOST_KEPT:
            return _Thread(None)
        try:
            thread = _Thread(host.keep(path, _SCHEDSTAT_BYTES))
        except OSError:
            return _Thread(None)
        self._kept += 1
        return thread

    def _close(self, thread: _Thread) -> None:
        if thread.file is not None:
            thread.file.close()
            thread.file = None
            self._kept -= 1

    def _forget(self, pid: int) -> None:
        for thread in self._known.pop(pid).values():
            self._close(thread)
