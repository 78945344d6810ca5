"""The memory of one contender, followed from reading to reading: how much it holds, how fast it takes more, what holds it back.

What is frozen, stopped or throttled does not grow, and that says nothing about what it would take: then the growth that it had
before stands for what it wants. Whether a limited group still wants it is seen, though: it grows, or stands still for memory. One
that does neither may have gone quiet by itself, and what it is granted is unknown. A group is read by its own counters, a process
by its resident pages and those of all that descends from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stead.cgroups.memory import V1_FILES, V2_FILES, GroupMemory, memory_in, parse_flat
from stead.cgroups.owners import STEAD
from stead.cgroups.tree import Groups
from stead.host.procfs import page_bytes, parse_stat
from stead.probes.proc_table import Task
from stead.probes.reading import Source
from stead.probes.stalls import Counter, parse_total
from stead.protocols import Host

SPAN_MS: Final = 2_000  # growth is the lesser of the newest interval's and of this span's: one jump is no trend
LIMITED: Final = "limited"
_AT_LIMIT: Final = 0.95
_STAT_MS: Final = 5_000
_MOVED: Final = 64  # a change of size by one part in so many
_GROWS: Final = 0.1  # of what it wants: that much shows that it wants it still
_STALLS: Final = 5.0  # percent: what the kernel slows for a limit stands still nearly all the time
_MOST_READ: Final = 4


class HeldMemory:
    """One contender's memory. Sizes in bytes, growth in bytes a second; None is unknown."""

    def __init__(self) -> None:
        self.size: int | None = None
        self.growth: float | None = None
        self.newest = 0.0  # what it took in the newest interval alone
        self.wanted = 0.0  # the growth that it had when nothing held it back
        self.held_back = ""  # by what, in words
        self.stalled: float | None = None  # percent of the time, of something in it, for memory
        self._seen: list[tuple[int, int]] = []  # (mono_ms, bytes) of the last span

    @property
    def granted(self) -> float | None:
        """Of the growth that it wants, the share that it gets: all while nothing holds it back. None: unknown."""
        if self.growth is None or (self.held_back == LIMITED and not self._asks()):
            return None
        return max(0.0, min(1.0, self.growth / self.wanted)) if self.held_back and self.wanted > 0 else 1.0

    def _asks(self) -> bool:
        """Is there a sign that a limited one wants more?"""
        return (self.growth or 0.0) > _GROWS * self.wanted or (self.stalled or 0.0) >= _STALLS

    def take(self, size: int | None, held_back: str, mono_ms: int, stalled: float | None = None) -> None:
        """Take in one reading. `stalled`: percent of the time that something in it stood still for memory; None: unknown."""
        self.stalled = stalled
        if size is None:
            self.size, self.growth, self._seen = None, None, []
            return
        before = [(at, held) for at, held in self._seen if at < mono_ms]
        self.growth, self.newest = _growth(before, size, mono_ms), max(0.0, _growth(before[-1:], size, mono_ms) or 0.0)
        if held_back:
            self.wanted = max(self.wanted, self.growth or 0.0)
        elif self.growth is not None:
            self.wanted = max(self.growth, 0.0)
        self.size, self.held_back = size, held_back
        self._seen = [*(one for one in before if mono_ms - one[0] <= SPAN_MS), (mono_ms, size)]


def _growth(before: Sequence[tuple[int, int]], size: int, mono_ms: int) -> float | None:
    """Bytes a second: the lesser of the last interval's and the whole span's. None after the first reading."""
    if not before:
        return None
    rates = [1000.0 * (size - held) / (mono_ms - at) for at, held in (before[0], before[-1])]
    return min(rates)


class GroupFiles:
    """The files of one group that are read each time, by descriptors that stay open.

    memory.stat is long, and a sum over all CPUs for the kernel: it is read again when the size has moved, or after some seconds.
    """

    def __init__(self, groups: Groups, path: str) -> None:
        self.path = path
        self.size: int | None = None  # bytes that it holds; None when the group is gone
        self.limit: int | None = None  # bytes that it is held to (memory.high; of version 1 its limit); None: nothing holds it
        self.held_back = ""  # what keeps it from growing now, in words: a limit that it does not reach keeps nothing
        self._v1 = groups.kind("memory") == "v1"
        folder, unified = groups.folder(path, "memory") or "", groups.unified(path)
        names = V1_FILES if self._v1 else V2_FILES
        self._current, self._stat = Source(f"{folder}/{names[0]}"), Source(f"{folder}/{names[1]}")
        self._hold = Source(f"{folder}/{'memory.limit_in_bytes' if self._v1 else 'memory.high'}")
        freezer = groups.folder(path, "freezer")
        self._frozen = Source(f"{freezer}/{'freezer.state' if groups.kind('freezer') == 'v1' else 'cgroup.freeze'}")
        self._pressed = Counter(f"{unified}/memory.pressure") if unified else None
        self._last: tuple[int, int] | None = None
        self.all_stalled: float | None = None  # percent of the time since the reading before (PSI full); None: unknown
        self.some_stalled: float | None = None  # of the last two seconds (PSI some)
        self._fields: dict[bytes, int] = {}
        self._told: tuple[int, int] | None = None  # when memory.stat was read, and the size then

    def look(self, host: Host, mono_ms: int) -> None:
        """Read them, each once."""
        self._look_at_stalls(host, mono_ms)
        size, limit = _text(self._current, host), _text(self._hold, host)
        self.size = int(size) if size.isdigit() else None
        self.limit = int(limit) if limit.isdigit() and int(limit) < 1 << 60 else None
        at_limit = self.limit is not None and self.size is not None and self.size >= _AT_LIMIT * self.limit
        frozen = _text(self._frozen, host) in ("1", "FROZEN", "FREEZING")
        self.held_back = "frozen" if frozen else LIMITED if at_limit else ""
        if self.size is None or (self._told is not None and not self._is_due(*self._told, self.size, mono_ms)):
            return
        try:
            self._fields, self._told = parse_flat(self._stat.text(host).encode()), (mono_ms, self.size)
        except OSError:
            self._told = None

    def _is_due(self, at_ms: int, held: int, size: int, mono_ms: int) -> bool:
        return mono_ms - at_ms >= _STAT_MS or abs(size - held) * _MOVED > held

    def memory(self) -> GroupMemory | None:
        """What it holds, in parts. None when the group is gone."""
        return memory_in(self.size, self._fields) if self.size is not None and self._told else None

    def idle_bytes(self, swap_free: int) -> int | None:
        """Bytes on the kernel's inactive lists that could go: what has not been touched of late. None: unknown."""
        fields = self._fields if self._told else {}
        file = fields.get(b"total_inactive_file", fields.get(b"inactive_file"))
        anonymous = fields.get(b"total_inactive_anon", fields.get(b"inactive_anon", 0))
        return None if file is None else file + min(anonymous, swap_free)

    def _look_at_stalls(self, host: Host, mono_ms: int) -> None:
        """Read how long it stood still for memory."""
        last, self.all_stalled, self.some_stalled = self._last, None, None
        if self._pressed is None:
            return
        try:
            text = self._pressed.source.text(host)
            some_us, full_us = (parse_total(text, kind) for kind in ("some", "full"))
        except (OSError, ValueError):
            self._last = None
            return
        rate = self._pressed.rate(some_us / 1e6, mono_ms)
        self.some_stalled = None if rate is None else min(100.0, 100.0 * rate)
        self._last = (mono_ms, full_us)
        if last is not None and mono_ms > last[0]:
            self.all_stalled = min(100.0, (full_us - last[1]) / (10.0 * (mono_ms - last[0])))

    def close(self) -> None:
        """Let every descriptor go."""
        for source in (self._current, self._stat, self._hold, self._frozen, *([self._pressed.source] if self._pressed else [])):
            source.close()


def resident_bytes(host: Host, tasks: Sequence[Task], fresh: bool) -> tuple[int | None, bool]:
    """What processes hold together, and whether all are stopped. None when all are gone.

    The table of processes counts whoever ran, where it is `fresh`; else the largest are read. It does not look at one that did
    not run, and so misses that one was stopped: of the largest that is asked each time.
    """
    page, total, alive = page_bytes(), 0, False
    asked = _MOST_READ if not fresh or not any(task.cores for task in tasks) else 1
    stopped = True
    for place, task in enumerate(sorted(tasks, key=lambda task: -task.rss_pages)):
        pages, state = task.rss_pages, task.state
        if place < asked:
            try:
                stat = parse_stat(task.stat.read() if task.stat else host.read(f"/proc/{task.pid}/stat", 1024))
            except (OSError, ValueError, IndexError):
                continue
            if stat.start_ticks != task.start_ticks:
                continue
            pages, state = stat.rss_pages, stat.state
            stopped = stopped and state in "Tt"
        if state in "ZX":
            continue
        total, alive = total + pages * page, True
    return (total, stopped) if alive else (None, False)


def is_frozen(host: Host, groups: Groups, path: str) -> bool:
    """Is this one of stead's own groups, and frozen?"""
    if not path.startswith(f"{STEAD}/"):
        return False
    folder, v1 = groups.folder(path, "freezer"), groups.kind("freezer") == "v1"
    try:
        return host.read(f"{folder}/{'freezer.state' if v1 else 'cgroup.freeze'}", 16).strip() not in (b"THAWED", b"0")
    except OSError:
        return False


def _text(source: Source, host: Host) -> str:
    try:
        return source.text(host).strip()
    except OSError:
        return ""
