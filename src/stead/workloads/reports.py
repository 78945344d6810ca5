"""What workers say of themselves: one JSON file each, read every tick and joined into one report of the workload.

Counters go on over restarts (a worker that restarted counts from zero again, and what it counted before stays counted).
A report that is missing, broken or older than `STALE_MS` says nothing, and nothing is never zero.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

STALE_MS = 10_000
LIMIT_BYTES = 256 * 1024


class _Figures(msgspec.Struct, frozen=True):
    """What one worker says, and all of them together."""

    requests_total: int | None = None
    errors_total: int | None = None
    busy: float | None = None
    capacity: float | None = None
    queue_depth: float | None = None
    oldest_job_s: float | None = None
    arrival_per_s: float | None = None
    service_s: float | None = None


class Report(_Figures, frozen=True):
    """One worker's file. Every key is optional."""

    latency_ms: tuple[float, ...] | None = None


class Joined(_Figures, frozen=True):
    """The reports of all workers as one. The queue is shared: its largest report counts, busy and capacity add up."""

    latency_p95_ms: float | None = None


def read_report(path: Path, unix_ms: int) -> Report | None:
    """One worker's report, or None when there is none, it can't be read as one, or it is stale."""
    try:
        with path.open("rb") as file:
            age_ms = unix_ms - os.fstat(file.fileno()).st_mtime_ns // 1_000_000
            if age_ms > STALE_MS:
                return None
            return msgspec.json.decode(file.read(LIMIT_BYTES), type=Report)
    except (OSError, msgspec.DecodeError):
        return None


class Tally:
    """Joins reports over time. `update` once a tick; counters then rise only."""

    def __init__(self) -> None:
        self.joined = Joined()
        self._last: dict[tuple[str, str], int] = {}  # (spawn, counter) → its last value
        self._totals: dict[str, int] = {}

    def update(self, reports: Mapping[str, Report | None]) -> None:
        """Take in the newest reports of all present workers, by their spawn mark (None: it says nothing now)."""
        present = {spawn: report for spawn, report in reports.items() if report is not None}
        for spawn, report in present.items():
            for counter in ("requests_total", "errors_total"):
                self._count(spawn, counter, getattr(report, counter))
        self._last = {key: value for key, value in self._last.items() if key[0] in reports}
        self.joined = self._join(list(present.values()))

    def _count(self, spawn: str, counter: str, value: int | None) -> None:
        if value is None or value < 0:
            return
        last = self._last.get((spawn, counter), 0)
        self._totals[counter] = self._totals.get(counter, 0) + (value - last if value >= last else value)
        self._last[spawn, counter] = value

    def _join(self, reports: list[Report]) -> Joined:
        latencies = [value for report in reports for value in report.latency_ms or ()]
        return Joined(
            requests_total=self._totals.get("requests_total") if _any(reports, "requests_total") else None,
            errors_total=self._totals.get("errors_total") if _any(reports, "errors_total") else None,
            busy=_fold(sum, reports, "busy"),
            capacity=_fold(sum, reports, "capacity"),
            queue_depth=_fold(max, reports, "queue_depth"),
            oldest_job_s=_fold(max, reports, "oldest_job_s"),
            arrival_per_s=_fold(max, reports, "arrival_per_s"),
            service_s=_fold(_mean, reports, "service_s"),
            latency_p95_ms=p95(latencies),
        )


def p95(values: Iterable[float]) -> float | None:
    """The nearest-rank 95th percentile; None of nothing."""
    ordered = sorted(value for value in values if math.isfinite(value))
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


def _any(reports: list[Report], name: str) -> bool:
    return any(getattr(report, name) is not None for report in reports)


def _fold(function: Callable[[list[float]], float], reports: list[Report], name: str) -> float | None:
    values = [value for report in reports if (value := getattr(report, name)) is not None]
    return function(values) if values else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
