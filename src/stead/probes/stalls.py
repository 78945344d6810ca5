"""How long groups of processes stood still or were held back: pressure of groups of version 2, and time throttled by a quota.

Shares of the time since about two seconds ago, from the kernel's totals: a tick's own difference would jump, because the
kernel settles them each two seconds, and its ten-second average would tell too late. Descriptors are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from stead.cgroups.memory import V1_FILES, V2_FILES
from stead.cgroups.tree import Groups
from stead.model.observe import Now
from stead.probes.reading import Source
from stead.protocols import Host

SPAN_MS: Final = 1_900
_THROTTLED: Final = {"throttled_usec": 1e6, "throttled_time": 1e9}  # version 2, version 1: units a second


def parse_total(text: str, kind: str = "some") -> int:
    """The total of a pressure file's line, in µs. ValueError when there is no such line."""
    for line in text.splitlines():
        if line.startswith(f"{kind} "):
            return int(line.rpartition("total=")[2])
    raise ValueError(f"no line for {kind}")


def parse_throttled(text: str) -> float:
    """Seconds that a group stood still for its quota, of its cpu.stat; 0 where none is counted."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in _THROTTLED:
            return int(value) / _THROTTLED[name]
    return 0.0


class Counter:
    """One counter in a kept file: how fast it rose over the last two seconds."""

    __slots__ = ("points", "source")

    def __init__(self, path: str) -> None:
        self.source = Source(path)
        self.points: deque[tuple[int, float]] = deque()

    def rate(self, value: float, mono_ms: int) -> float | None:
        """Units a second. None at the first reading, and when the counter went back."""
        if self.points and value < self.points[-1][1]:
            self.points.clear()
        while len(self.points) > 1 and self.points[1][0] <= mono_ms - SPAN_MS:
            self.points.popleft()
        before = self.points[0] if self.points else None
        self.points.append((mono_ms, value))
        if before is None or mono_ms <= before[0]:
            return None
        return (value - before[1]) * 1000.0 / (mono_ms - before[0])


class Stalls:
    """Keeps the files of the groups that are asked about."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._asked: set[str] = set()

    def pressure(self, host: Host, groups: Groups, path: str, resource: str, now: Now) -> float | None:
        """Percent of the time that something in a group stood still for want of a resource. None: not known, or not told here."""
        folder = groups.unified(path)
        if folder is None:
            return None
        counter = self._counter(f"{folder}/{resource}.pressure")
        try:
            rate = counter.rate(parse_total(counter.source.text(host)) / 1e6, now.mono_ms)
        except (OSError, ValueError):
            return None
        return None if rate is None else min(100.0, 100.0 * rate)

    def throttled(self, host: Host, groups: Groups, path: str, now: Now) -> float:
        """Seconds a second, over all CPUs, that a group stood still for its quota; 0 where it has none."""
        folder = groups.folder(path, "cpu")
        if folder is None:
            return 0.0
        counter = self._counter(f"{folder}/cpu.stat")
        try:
            return counter.rate(parse_throttled(counter.source.text(host)), now.mono_ms) or 0.0
        except (OSError, ValueError):
            return 0.0

    def idle(self, host: Host, groups: Groups, path: str) -> bool:
        """Does a group run only when nobody else wants to? Then nobody waits for it."""
        folder = groups.folder(path, "cpu")
        if folder is None:
            return False
        try:
            return self._counter(f"{folder}/cpu.idle").source.text(host).strip() == "1"
        except OSError:
            return False

    def held_bytes(self, host: Host, groups: Groups, path: str) -> int | None:
        """Memory that a group holds; None where it is not counted, or the group is gone."""
        folder = groups.folder(path, "memory")
        if folder is None:
            return None
        name = (V1_FILES if groups.kind("memory") == "v1" else V2_FILES)[0]
        try:
            return int(self._counter(f"{folder}/{name}").source.text(host))
        except (OSError, ValueError):
            return None

    def settle(self) -> None:
        """End of a tick: let go of the files that nobody asked for in it."""
        for name in self._counters.keys() - self._asked:
            self._counters.pop(name).source.close()
        self._asked.clear()

    def close(self) -> None:
        """Let every descriptor go."""
        self._asked.clear()
        self.settle()

    def worst(self, host: Host, groups: Groups, paths: Collection[str], resource: str, now: Now) -> float | None:
        """The worst pressure of some groups; None when none of them tells."""
        told = [self.pressure(host, groups, path, resource, now) for path in sorted(paths)]
        return max((one for one in told if one is not None), default=None)

    def _counter(self, name: str) -> Counter:
        self._asked.add(name)
        found = self._counters.get(name)
        if found is None:
            found = self._counters[name] = Counter(name)
        return found
