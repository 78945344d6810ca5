"""How long a process's threads waited for a CPU. The process's own /proc/PID/schedstat is its main thread's alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from stead.probes.proc_table import Task, parse_schedstat
from stead.protocols import Host

_MOST_THREADS: Final = 1_000


class TooManyThreadsError(Exception):
    """More threads ran than are read in one interval: the sum is unknown."""


class Threads:
    """Remembers what each thread of the multi-threaded processes had waited."""

    def __init__(self) -> None:
        self._before: dict[int, dict[str, int]] = {}
        self._left = _MOST_THREADS

    def waited(self, host: Host, task: Task, elapsed_ms: int) -> float | None:
        """Seconds that the threads of a process waited, per second. None when it isn't known yet, or not counted here."""
        if task.threads == 1:
            return task.waited_s
        delays = self._read(host, task.pid)
        before = self._before.get(task.pid)
        self._before[task.pid] = delays
        if before is None or not elapsed_ms or not delays:
            return task.waited_s  # its main thread's, for this once
        return sum(max(0, delay - before.get(tid, 0)) for tid, delay in delays.items()) / (elapsed_ms * 1e6)

    def keep(self, pids: Collection[int]) -> None:
        """Forget processes that are gone, and begin a new interval."""
        self._left = _MOST_THREADS
        for pid in [pid for pid in self._before if pid not in pids]:
            del self._before[pid]

    def forget(self) -> None:
        """Forget all: nobody asks."""
        self._before.clear()

    def _read(self, host: Host, pid: int) -> dict[str, int]:
        delays: dict[str, int] = {}
        try:
            names = host.list(f"/proc/{pid}/task")
        except OSError:
            return delays
        self._left -= len(names)
        if self._left < 0:
            self._left = _MOST_THREADS
            raise TooManyThreadsError(f"more than {_MOST_THREADS} threads ran, and this kernel has no /proc/schedstat")
        for tid in names:
            try:
                delays[tid] = parse_schedstat(host.read(f"/proc/{pid}/task/{tid}/schedstat", 96))[1]
            except (OSError, ValueError):
                continue
        return delays
