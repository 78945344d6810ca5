"""The table of all Linux processes, kept up to date at a cost that depends on who ran, not on who is there.

A descriptor of /proc/PID/schedstat is kept for every process. If its bytes are those of the pass before, a single-threaded
process did not run, and nothing else of it is read. New processes are looked for when the last pid that the kernel handed out
moved: under the few ids since, or, where they are many, by listing /proc. A full pass each minute closes what holes remain
(memory taken from a sleeper, a pid counter that came round).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from stead.model.observe import Now
from stead.protocols import Host, KeptFile

FULL_PASS_MS: Final = 60_000
_SCHEDSTAT_BYTES: Final = 96  # three numbers
_STAT_BYTES: Final = 1024
_SPARE_DESCRIPTORS: Final = 768  # left for threads, sockets, databases and the other probes
_MOST_DESCRIPTORS: Final = 32_768
_STATUS_BYTES: Final = 512
_FEW: Final = 8  # one id in so many processes: beyond that /proc is listed sooner than they are tried
_TRIED_AGAIN: Final = 16
_LARGEST: Final = 40  # candidates for the top ten by memory between two full passes


class Task:
    """One process as it was last seen. Times in nanoseconds of CPU and of waiting for one; `*_before` of the pass before."""

    __slots__ = (
        *("pid", "start_ticks", "name", "state", "threads", "rss_pages", "cores", "waited_s", "io_bytes_per_s"),
        *("schedstat", "stat", "io", "last", "stat_last", "cpu_ns", "delay_ns", "io_bytes", "io_denied"),
        *("command", "uid", "descriptors", "details_ms", "io_at"),
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.schedstat: KeptFile | None = None
        self.stat: KeptFile | None = None
        self.io: KeptFile | None = None
        self.last = b""
        self.stat_last = b""
        self.name, self.state = "", "?"
        self.start_ticks = 0
        self.threads = 1
        self.rss_pages = 0
        self.cpu_ns: int | None = None
        self.delay_ns: int | None = None
        self.cores: float | None = None  # None: not known yet
        self.waited_s: float | None = None  # seconds its main thread waited for a CPU, per second
        self.io_bytes: int | None = None
        self.io_bytes_per_s: float | None = None
        self.io_denied = False
        self.io_at: Now | None = None  # the tick that its bytes were read in
        self.command = ""
        self.uid = -1
        self.descriptors: int | None = None
        self.details_ms: int | None = None  # when command, uid and descriptors were read

    @property
    def subject(self) -> str:
        """The process as a sample's subject."""
        return f"process:{self.pid}@{self.start_ticks}"

    def close(self) -> int:
        """Let its descriptors go; return how many there were."""
        kept = [file for file in (self.schedstat, self.stat, self.io) if file is not None]
        for file in kept:
            file.close()
        self.schedstat = self.stat = self.io = None
        return len(kept)


def parse_process_stat(data: bytes) -> tuple[str, str, int, int, int, int]:
    """Parse /proc/PID/stat: name, state, utime + stime in ticks, threads, start time in ticks, resident pages."""
    head, _, rest = data.rpartition(b")")
    fields = rest.split(None, 22)
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    ticks = int(fields[11]) + int(fields[12])
    return name, fields[0].decode(), ticks, int(fields[17]), int(fields[19]), int(fields[21])


def parse_schedstat(data: bytes) -> tuple[int, int]:
    """Parse /proc/PID/schedstat: nanoseconds on a CPU, and waiting for one."""
    on_cpu, waited = data.split(None, 2)[:2]
    return int(on_cpu), int(waited)


def parse_io(data: bytes) -> int:
    """Parse /proc/PID/io: bytes that went to and came from disks."""
    fields = data.split()
    return int(fields[9]) + int(fields[11])


class Table:
    """All processes. `update` makes a pass; then `ran` holds those that ran in the interval, and `tasks` all."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.ran: list[Task] = []
        self.met: list[Task] = []  # first seen in this pass, and their figures not known yet
        self.passes = 0  # made so far
        self.elapsed_ms = 0  # between the last two passes; 0 after the first
        self._active: list[Task] = []  # those whose figures must go back to zero when they stop running
        self._largest: list[Task] = []
        self._last_pid = -1
        self._unmet: list[
            int
        ] = []  # the newest ids of the last pass that were nobody's: a process may be about to appear under one
        self._now: Now | None = None  # the tick of the last pass
        self._at_ms: int | None = None
        self._full_ms: int | None = None
        self._kept = 0
        self._limit: int | None = None
        self._tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

    def update(self, host: Host, now: Now, last_pid: int) -> None:
        """Make a pass, unless this tick has made it already. Raises OSError when /proc can't be listed."""
        if self._now is now:
            return  # two probes share the table: the second finds it as the first left it
        self._now = now
        if self._limit is None:
            self._limit = descriptor_limit()
        full = self._full_ms is None or now.mono_ms - self._full_ms >= FULL_PASS_MS
        self.elapsed_ms = 0 if self._at_ms is None else max(0, now.mono_ms - self._at_ms)
        for task in self._active:
            task.cores, task.waited_s, task.io_bytes_per_s = 0.0, 0.0, 0.0
        self.ran, self.met, self.passes = [], [], self.passes + 1
        gone = self._look(host, full)
        for task in gone:
            self._drop(task)
        self._meet_new(host, now, last_pid, full)
        self._last_pid = last_pid
        self._at_ms = now.mono_ms
        self._active = self.ran + self.met
        if full:
            self._full_ms = now.mono_ms
            self._largest = heapq.nlargest(_LARGEST, self.tasks.values(), key=attrgetter("rss_pages"))

    def largest(self, count: int) -> list[Task]:
        """Choose the processes with most resident memory. Only who runs can grow, so the candidates are few."""
        alive = {task.pid: task for task in self._largest if self.tasks.get(task.pid) is task}
        if len(alive) < count < len(self.tasks):
            self._largest = heapq.nlargest(_LARGEST, self.tasks.values(), key=attrgetter("rss_pages"))
            alive = {task.pid: task for task in self._largest}
        alive.update((task.pid, task) for task in self.ran)
        return heapq.nlargest(count, alive.values(), key=attrgetter("rss_pages"))

    def close(self) -> None:
        """Let every descriptor go."""
        for task in list(self.tasks.values()):
            self._drop(task)

    def _look(self, host: Host, full: bool) -> list[Task]:
        """Read each known process as far as needed; return those that are gone. The hot loop: it reads one file for a sleeper."""
        gone = []
        for task in self.tasks.values():
            try:
                if task.schedstat is not None:
                    data = task.schedstat.read()
                    if data == task.last and task.threads == 1 and not full and task.last:
                        continue
                else:
                    data = self._schedstat_unkept(host, task)
                if not self._measure(host, task, data):
                    gone.append(task)
            except (OSError, ValueError, IndexError):
                gone.append(task)
        return gone

    def _schedstat_unkept(self, host: Host, task: Task) -> bytes:
        """Read it by path: descriptors ran out, or the kernel has no such file (then every stat is read)."""
        try:
            return host.read(f"/proc/{task.pid}/schedstat", _SCHEDSTAT_BYTES)
        except FileNotFoundError:
            return b""

    def _measure(self, host: Host, task: Task, data: bytes) -> bool:
        """Take in what changed; False when the pid is another process by now."""
        stat = self._stat(host, task, keep=data != task.last or task.threads > 1)
        if stat == task.stat_last and data == task.last:
            return True
        name, state, ticks, threads, start_ticks, rss_pages = parse_process_stat(stat)
        if start_ticks != task.start_ticks:
            return False
        ran = data != task.last or stat != task.stat_last
        if name != task.name:
            task.details_ms = None  # it became another program
        task.name, task.state, task.rss_pages = name, state, rss_pages
        cpu_ns, delay_ns = self._times(data, ticks, threads)
        if self.elapsed_ms and ran:
            if (task.threads == 1) == (threads == 1):
                task.cores = _rate(task.cpu_ns, cpu_ns, self.elapsed_ms)
            else:  # the only thread's own clock at one end, ticks of all threads at the other: both ends have the ticks
                before = parse_process_stat(task.stat_last)[2]
                task.cores = _rate(before * self._tick_ns, ticks * self._tick_ns, self.elapsed_ms)
            task.waited_s = _rate(task.delay_ns, delay_ns, self.elapsed_ms)
        task.cpu_ns, task.delay_ns, task.threads = cpu_ns, delay_ns, threads
        task.last, task.stat_last = data, stat
        if ran:
            self.ran.append(task)
        return True

    def _times(self, schedstat: bytes, ticks: int, threads: int) -> tuple[int, int | None]:
        """CPU and run delay in ns. schedstat is exact and of the main thread only, so with more of them the ticks count."""
        if not schedstat:
            return ticks * self._tick_ns, None
        on_cpu_ns, delay_ns = parse_schedstat(schedstat)
        return (on_cpu_ns if threads == 1 else ticks * self._tick_ns), delay_ns

    def _stat(self, host: Host, task: Task, keep: bool) -> bytes:
        """Read its stat, by a descriptor that is kept once it ran: most processes never run again."""
        if task.stat is None:
            if not keep or self._kept >= (self._limit or 0):
                return host.read(f"/proc/{task.pid}/stat", _STAT_BYTES)
            task.stat = host.keep(f"/proc/{task.pid}/stat", _STAT_BYTES)
            self._kept += 1
        return task.stat.read()

    def read_io(self, host: Host, task: Task) -> None:
        """Read how many bytes a process that ran moved to and from disks, once a tick. Unknown where we may not see it."""
        if task.io_denied or (self._now is not None and task.io_at is self._now):
            return
        task.io_at = self._now
        try:
            if task.io is not None:
                data = task.io.read()
            elif task.io_bytes is None or self._kept >= (self._limit or 0):
                data = host.read(f"/proc/{task.pid}/io", _STAT_BYTES)
            else:
                task.io = host.keep(f"/proc/{task.pid}/io", _STAT_BYTES)
                self._kept += 1
                data = task.io.read()
            moved = parse_io(data)
        except (OSError, ValueError, IndexError) as failure:
            task.io_denied = isinstance(failure, PermissionError | FileNotFoundError)
            task.io_bytes = task.io_bytes_per_s = None
            return
        known = task.io_bytes is not None and self.elapsed_ms > 0
        task.io_bytes_per_s = max(0, moved - (task.io_bytes or 0)) * 1000.0 / self.elapsed_ms if known else None
        task.io_bytes = moved

    def _meet_new(self, host: Host, now: Now, last_pid: int, full: bool) -> None:
        """Find new processes: by trying the few ids that were handed out since the last pass, or by listing /proc."""
        handed_out = range(self._last_pid + 1, last_pid + 1)
        if full or last_pid < self._last_pid or len(handed_out) > len(self.tasks) // _FEW:
            self._list(host, now)
        else:
            for pid in (*self._unmet, *handed_out):
                if pid not in self.tasks and _is_process(host, pid):
                    self._add(host, pid, now)
        self._unmet = [pid for pid in handed_out[-_TRIED_AGAIN:] if pid not in self.tasks]

    def _list(self, host: Host, now: Now) -> None:
        """Find new processes, and drop those that are no longer listed."""
        pids = {int(name) for name in host.list("/proc") if name.isdigit()}
        for pid in self.tasks.keys() - pids:
            self._drop(self.tasks[pid])
        for pid in pids - self.tasks.keys():
            self._add(host, pid, now)

    def _add(self, host: Host, pid: int, now: Now) -> None:
        task = self._meet(host, pid)
        if task is not None:
            self.tasks[pid] = task
            self._account_birth(task, now)

    def _meet(self, host: Host, pid: int) -> Task | None:
        """Read a process for the first time; None when it is gone already."""
        task = Task(pid)
        try:
            if self._kept < (self._limit or 0):
                task.schedstat = _keep(host, f"/proc/{pid}/schedstat")
                self._kept += task.schedstat is not None
            task.stat_last = host.read(f"/proc/{pid}/stat", _STAT_BYTES)
            task.last = task.schedstat.read() if task.schedstat else self._schedstat_unkept(host, task)
            task.name, task.state, ticks, task.threads, task.start_ticks, task.rss_pages = parse_process_stat(task.stat_last)
            task.cpu_ns, task.delay_ns = self._times(task.last, ticks, task.threads)
        except (OSError, ValueError, IndexError):
            self._kept -= task.close()
            return None
        return task

    def _account_birth(self, task: Task, now: Now) -> None:
        """Give a process that began after the pass before its figures at once: all its CPU time is this interval's."""
        born_ms = task.start_ticks * self._tick_ns // 1_000_000
        if self._at_ms is None or born_ms + 20 < self._at_ms or not self.elapsed_ms:
            self.met.append(task)
            return
        task.cores = _rate(0, task.cpu_ns, self.elapsed_ms)
        task.waited_s = _rate(0, task.delay_ns, self.elapsed_ms)
        self.ran.append(task)

    def _drop(self, task: Task) -> None:
        self._kept -= task.close()
        if self.tasks.get(task.pid) is task:
            del self.tasks[task.pid]


def _keep(host: Host, path: str) -> KeptFile | None:
    try:
        return host.keep(path, _SCHEDSTAT_BYTES)
    except OSError:
        return None


def _is_process(host: Host, pid: int) -> bool:
    """Is it one, and no thread of one? Those have ids from the same counter, and can be read by them."""
    try:
        return f"\nTgid:\t{pid}\n".encode() in host.read(f"/proc/{pid}/status", _STATUS_BYTES)
    except OSError:
        return False


def _rate(before: int | None, after: int | None, elapsed_ms: int) -> float | None:
    """Nanoseconds per millisecond, as seconds per second; None when either is unknown. A step back is the kernel's rounding."""
    if before is None or after is None:
        return None
    return max(0, after - before) / (elapsed_ms * 1e6)


def most(tasks: Iterable[Task], count: int, field: str) -> list[Task]:
    """Choose the tasks with most of something; those of which it is unknown, or nothing, don't count."""
    return heapq.nlargest(count, (task for task in tasks if getattr(task, field)), key=attrgetter(field))


def descriptor_limit() -> int:
    """Raise the soft limit of open files as far as it may and need be, and return how many are free for processes."""
    try:
        import resource
    except ImportError:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass
    free = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(0, min(free, _MOST_DESCRIPTORS) - _SPARE_DESCRIPTORS)
