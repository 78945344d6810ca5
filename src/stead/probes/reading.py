"""What every probe shares: kept files, rates of counters, and the rule that what can't be read is unknown and says why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Final

from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.protocols import Host, KeptFile

FIRST: Final = "first reading"
RESET: Final = "counter reset"
_UNREADABLE: Final = (OSError, ImportError, ValueError, IndexError, KeyError)


def unknown(metrics: Iterable[MetricSpec], reason: str, subject: str = "host") -> Reading:
    """Make the reading of a source that isn't there: every metric unknown, for one reason."""
    return Reading(samples=tuple(Sample(metric.id, subject, None, reason) for metric in metrics))


class Source:
    """One file that is read at each interval, by a descriptor that stays open."""

    __slots__ = ("_file", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: KeptFile | None = None

    def text(self, host: Host) -> str:
        """Read it all. Raises OSError; the next call opens it again."""
        if self._file is None:
            self._file = host.keep(self.path)
        try:
            return self._file.read().decode("utf-8", "replace")
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let the descriptor go."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Rates:
    """Remembers counters and turns them into rates. A first reading, and a counter that went back, have none."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def delta(self, key: str, value: float, mono_ms: int) -> tuple[float | None, int, str]:
        """Return how far a counter moved, in how many milliseconds; or None, and why."""
        last = self._last.get(key)
        if last is not None and mono_ms <= last[1]:
            return None, 0, "no time passed"
        self._last[key] = (value, mono_ms)
        if last is None:
            return None, 0, FIRST
        if value < last[0]:
            return None, 0, RESET
        return value - last[0], mono_ms - last[1], ""

    def sample(self, metric: str, subject: str, value: float, mono_ms: int, scale: float = 1.0) -> Sample:
        """Sample a counter's rate: units a second, times `scale`."""
        moved, elapsed_ms, reason = self.delta(f"{metric} {subject}", value, mono_ms)
        return Sample(metric, subject, None if moved is None else moved * 1000.0 / elapsed_ms * scale, reason)

    def keep(self, subjects: Collection[str]) -> None:
        """Forget the counters of things that are no longer there."""
        gone = [key for key in self._last if key.partition(" ")[2] not in subjects]
        for key in gone:
            del self._last[key]


class SystemProbe(ABC):
    """A probe with one reading on Linux and one through psutil elsewhere. What can't be read becomes unknown."""

    name: str = ""
    interval_s: float = 1.0
    timeout_s: float = 1.0
    blocking: bool = False
    metrics: tuple[MetricSpec, ...] = ()

    def read(self, host: Host, now: Now) -> Reading:
        """Read once. Never raises for a missing or unreadable source."""
        try:
            return self.read_linux(host, now) if host.system == "linux" else self.read_psutil(host, now)
        except _UNREADABLE as failure:
            return unknown(self.metrics, why(failure))
        except Exception as failure:
            if host.system == "linux" or not isinstance(failure, host.psutil.Error):
                raise
            return unknown(self.metrics, why(failure))

    @abstractmethod
    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc and /sys."""

    @abstractmethod
    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read what psutil has on this system."""


def why(failure: Exception) -> str:
    """Say in a few words why something could not be read."""
    if isinstance(failure, FileNotFoundError):
        return f"not on this system: {failure.filename}" if failure.filename else "not on this system"
    if isinstance(failure, OSError) and failure.strerror:
        return f"{failure.strerror}: {failure.filename}" if failure.filename else failure.strerror
    if isinstance(failure, ImportError):
        return "psutil is not installed"
    return f"unreadable ({type(failure).__name__}: {failure})"
