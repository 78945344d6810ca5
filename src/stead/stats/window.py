"""One metric of one subject over a span of time: the counts behind a snapshot, and snapshots merged to longer ones.

Windows of five minutes (a setting) become `MetricsSnapshot`s; hours and days are merges of those. Counts, extremes,
time in bands and sketches add exactly; the average is weighted by count.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import fsum, inf

from stead.model.observe import Band, MetricsSnapshot
from stead.stats.sketch import Sketch


class Window:
    """What one window has gathered so far."""

    __slots__ = ("seconds", "sketch", "total", "unknown", "violations")

    def __init__(self) -> None:
        self.sketch = Sketch()
        self.total = 0.0
        self.unknown = 0
        self.violations = 0
        self.seconds: dict[Band, float] = {"good": 0.0, "warning": 0.0, "critical": 0.0, "unknown": 0.0}

    @property
    def empty(self) -> bool:
        """Nothing came in, not even an unknown value."""
        return not self.sketch.count and not self.unknown

    def take(self, values: Sequence[float]) -> None:
        """Count finite values."""
        self.sketch.extend(values)
        self.total += total_of(values)

    def snapshot(self, metric: str, subject: str, start_ms: int, end_ms: int) -> MetricsSnapshot:
        """The window as a value."""
        return _snapshot(metric, subject, (start_ms, end_ms), self)


class Ring:
    """The newest values of a series at full rate, for means over a stretch of time. At most `keep_ms` long."""

    __slots__ = ("_at", "_keep_ms", "_values")

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._at = array("d")
        self._values = array("d")

    def add(self, mono_ms: int, value: float) -> None:
        """Keep a value. What is too old goes in batches, so that adding stays cheap."""
        at = self._at
        at.append(mono_ms)
        self._values.append(value)
        if len(at) % 64 == 0 and at[0] < mono_ms - self._keep_ms:
            old = sum(1 for one in at if one < mono_ms - self._keep_ms)
            del at[:old], self._values[:old]

    def between(self, from_mono_ms: float, to_mono_ms: float) -> list[float]:
        """The values with from ≤ time ≤ to, oldest first."""
        first, last = bisect_left(self._at, from_mono_ms), bisect_right(self._at, to_mono_ms)
        return self._values[first:last].tolist()

    def points(self, from_mono_ms: float, to_mono_ms: float) -> list[tuple[float, float]]:
        """The same with their times: (monotonic ms, value)."""
        first, last = bisect_left(self._at, from_mono_ms), bisect_right(self._at, to_mono_ms)
        return list(zip(self._at[first:last], self._values[first:last], strict=True))

    def mean(self, from_mono_ms: float, to_mono_ms: float) -> float | None:
        """The mean of the values with from ≤ time ≤ to; None when there are none."""
        chosen = self.between(from_mono_ms, to_mono_ms)
        return total_of(chosen) / len(chosen) if chosen else None


def total_of(values: Sequence[float]) -> float:
    """The exactly rounded sum; infinite where it is too large for a float."""
    try:
        return fsum(values)
    except OverflowError:
        return sum(values)


def merge(snapshots: Sequence[MetricsSnapshot], start_ms: int, end_ms: int) -> MetricsSnapshot:
    """Snapshots of one metric and subject as one over [start, end). Raises ValueError for an empty list or a broken sketch."""
    if not snapshots:
        raise ValueError("there is nothing to merge")
    window = Window()
    for one in snapshots:
        window.sketch.merge(Sketch.decode(one.sketch))
        window.unknown += one.unknown
        window.violations += one.violations
        window.seconds["good"] += one.good_s
        window.seconds["warning"] += one.warning_s
        window.seconds["critical"] += one.critical_s
        window.seconds["unknown"] += one.unknown_s
    window.total = total_of([one.avg * one.count for one in snapshots if one.avg is not None])
    return _snapshot(snapshots[0].metric_id, snapshots[0].subject, (start_ms, end_ms), window)


def _snapshot(metric: str, subject: str, span_ms: tuple[int, int], window: Window) -> MetricsSnapshot:
    sketch = window.sketch
    known = sketch.count > 0
    average = window.total / sketch.count if known else None
    if average is not None and not -inf < average < inf:
        average = None  # the sum of huge values overflowed: not known, rather than wrong
    return MetricsSnapshot(
        metric_id=metric,
        subject=subject,
        start_ms=span_ms[0],
        end_ms=span_ms[1],
        count=sketch.count,
        unknown=window.unknown,
        min=sketch.min if known else None,
        max=sketch.max if known else None,
        avg=min(max(average, sketch.min), sketch.max) if average is not None else None,
        p50=sketch.quantile(0.5),
        p95=sketch.quantile(0.95),
        p99=sketch.quantile(0.99),
        violations=window.violations,
        good_s=round(window.seconds["good"], 3),
        warning_s=round(window.seconds["warning"], 3),
        critical_s=round(window.seconds["critical"], 3),
        unknown_s=round(window.seconds["unknown"], 3),
        sketch=sketch.encode(),
    )
