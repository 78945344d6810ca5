"""One metric of one subject in memory: the values of its present evaluation interval, its window, and its band."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import inf
from typing import Final

from stead.model.catalog import Aggregation, MetricCatalogEntry
from stead.model.find import Observation
from stead.model.messages import MetricView
from stead.model.observe import Band, MetricSpec, MetricsSnapshot, Now, Sample
from stead.stats.bands import SEVERITY, band_of
from stead.stats.sketch import Sketch
from stead.stats.window import Ring, Window, total_of

PROCESS: Final = "process:"
GONE: Final = "gone"  # the reason of the last observation of a subject that is no longer reported by a source that lives
NO_DATA: Final = "no data"  # the reason when the source itself fell silent
BATCH: Final = 32  # values that a window is given at once
SAME_TICK_MS: Final = 1000  # intervals up to this are evaluated in the tick of their sample
PLAIN_INTERVAL_MS: Final = 30_000  # of metrics that are not catalogued
LEAST_PATIENCE_MS: Final = 5_000
FIRST_PATIENCE_MS: Final = 75_000  # until two samples have told how far apart they come: a slow probe reads each 30 s


class Track:
    """One series. Plain slots: there may be thousands."""

    __slots__ = (
        *("metric", "subject", "entry", "unit", "interval_ms", "due_ms", "last", "at_ms", "seen_ms", "spacing_ms"),
        *(
            "values",
            "unknown",
            "_aside",
            "kept",
            "stored",
            "ring",
            "window",
            "band",
            "_known",
            "_taken",
            "_ends_ms",
            "_unknown_taken",
            "_until_ms",
        ),
    )

    def __init__(self, sample: Sample, entry: MetricCatalogEntry | None, unit: str, now: Now) -> None:
        plain = entry is None
        process = sample.subject.startswith(PROCESS)
        self.metric, self.subject, self.entry, self.unit = sample.metric, sample.subject, entry, unit
        self.interval_ms = PLAIN_INTERVAL_MS if entry is None else max(int(entry.recommended_interval_seconds * 1000), 1)
        self._ends_ms = now.mono_ms - SAME_TICK_MS  # the first sample stands for the tick before it
        self.due_ms = now.mono_ms
        self.schedule(now.mono_ms)
        self.last = sample
        self.at_ms, self.seen_ms, self.spacing_ms = now.unix_ms, now.mono_ms, 0
        self.values: array[float] = array("d")
        self._aside: array[float] = array("d")  # of intervals that ended, on their way to the window
        self.unknown = 0
        self.kept = self.stored = not (plain and process)  # a process's plain metrics are shown, not summarised
        self.ring: Ring | None = None
        self.window = Window()
        self.band: Band = "unknown"
        self._known: Band = "unknown"  # the last band from a value: hysteresis outlasts a gap
        self._taken = 0  # how many of `values` the window has
        self._unknown_taken = 0
        self._until_ms = now.mono_ms  # time in bands is accounted up to here

    @property
    def patience_ms(self) -> float:
        """How long without a sample before the subject counts as vanished: over two intervals, of evaluation or of its probe."""
        untold = not self.spacing_ms and not self.subject.startswith(PROCESS)
        return max(2 * self.interval_ms, 2.5 * self.spacing_ms, FIRST_PATIENCE_MS if untold else LEAST_PATIENCE_MS)

    def stale(self, mono_ms: int) -> bool:
        """Has it vanished?"""
        return mono_ms - self.seen_ms > self.patience_ms

    def silent(self, mono_ms: int) -> bool:
        """Has it missed its turn? Then it is not shown, though it is dropped only once its patience is over."""
        first = LEAST_PATIENCE_MS if self.subject.startswith(PROCESS) else self.patience_ms
        return mono_ms - self.seen_ms > max(2.5 * self.spacing_ms or first, LEAST_PATIENCE_MS)

    def remember(self, keep_ms: int) -> None:
        """Keep its values at full rate from now on."""
        self.kept = True
        self.ring = self.ring or Ring(keep_ms)

    def schedule(self, mono_ms: int) -> None:
        """Set the next evaluation, half a tick early: a tick that comes a little soon must not leave it to the one after."""
        if self.interval_ms <= SAME_TICK_MS:
            return
        self._ends_ms += self.interval_ms
        if not 0 < self._ends_ms - mono_ms <= self.interval_ms + SAME_TICK_MS:
            self._ends_ms = mono_ms + self.interval_ms
        self.due_ms = self._ends_ms - SAME_TICK_MS // 2

    def evaluate(self, now: Now) -> Observation | None:
        """End the interval. None where the metric is not catalogued (its window is fed all the same)."""
        entry, count = self.entry, len(self.values)
        self._feed()
        if entry is None:
            self._enter("good" if count else "unknown", now.mono_ms)
            self._clear()
            return None
        value, reason = None, self.last.reason
        if count >= max(entry.min_samples, 1):
            value = aggregate(self.values, entry.aggregation)
        elif count:
            reason = f"{count} of the {entry.min_samples} samples that it takes"
        self._enter(band_of(value, entry, self._known), now.mono_ms)
        if value is not None:
            self._known = self.band
        self._clear()
        return Observation(self.metric, self.subject, value, self.band, now.unix_ms, reason)

    def ended(self, now: Now, reason: str) -> Observation:
        """The last observation, of a subject that vanished."""
        self._feed()
        breach = self.entry is not None and reason != GONE and band_of(None, self.entry) == "critical"
        self._enter("critical" if breach else "unknown", now.mono_ms)
        self._clear()
        return Observation(self.metric, self.subject, None, self.band, now.unix_ms, reason)

    def close(self, start_ms: int, end_ms: int, mono_ms: int) -> MetricsSnapshot | None:
        """End the window: its snapshot, or None when nothing came in. Time since the last evaluation goes to its band."""
        self._feed()
        self._fill()
        self._account(self.band, mono_ms)
        window, self.window = self.window, Window()
        if window.empty or not self.stored:
            return None
        return window.snapshot(self.metric, self.subject, start_ms, end_ms)

    def view(self) -> MetricView:
        """As it is now."""
        entry, value = self.entry, self.last.value
        band: Band = "unknown" if value is None else "good"
        if entry is not None:
            band = self.band if self.band != "unknown" else band_of(value, entry, self._known)
        return MetricView(
            metric=self.metric,
            subject=self.subject,
            value=value,
            unit=self.unit,
            band=band,
            at_ms=self.at_ms,
            reason=self.last.reason,
            category=entry.category if entry else "",
            title=entry.title or entry.description if entry else "",
            catalogued=entry is not None,
        )

    def _feed(self) -> None:
        """Give the window what it does not have yet of this interval; values in batches, which costs a fraction."""
        if self.stored and self._taken < len(self.values):
            self._aside.extend(self.values[self._taken :])
            if len(self._aside) >= BATCH:
                self._fill()
        self.window.unknown += self.unknown - self._unknown_taken
        self._taken, self._unknown_taken = len(self.values), self.unknown

    def _fill(self) -> None:
        if self._aside:
            self.window.take(self._aside)
            del self._aside[:]

    def _clear(self) -> None:
        del self.values[:]
        self.unknown = self._taken = self._unknown_taken = 0

    def _enter(self, band: Band, mono_ms: int) -> None:
        """The interval that ended was in this band."""
        self._account(band, mono_ms)
        if SEVERITY[band] > max(SEVERITY[self._known], 0):
            self.window.violations += 1
        self.band = band

    def _account(self, band: Band, mono_ms: int) -> None:
        self.window.seconds[band] += max(mono_ms - self._until_ms, 0) / 1000
        self._until_ms = mono_ms


def make_track(sample: Sample, entry: MetricCatalogEntry | None, spec: MetricSpec | None, now: Now) -> Track:
    """A series that begins with this sample (which is not counted yet)."""
    unit = entry.unit if entry else spec.unit if spec else ""
    return Track(sample, entry, unit, now)


def aggregate(values: Sequence[float], how: Aggregation) -> float:
    """One or more finite values as one. p95 is within 1 %."""
    if how == "max":
        return max(values)
    if how == "min":
        return min(values)
    if how == "last":
        return values[-1]
    if how == "p95":
        sketch = Sketch()
        sketch.extend(values)
        return sketch.quantile(0.95) or 0.0
    total = total_of(values)
    result = total if how == "sum" else total / len(values)
    return result if -inf < result < inf else values[-1]
