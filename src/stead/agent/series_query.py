"""Answers from stored series: which source serves a range best, and rows condensed to as many points as asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, isfinite
from typing import Literal

from stead.model.messages import SeriesAnswer
from stead.model.observe import MetricsSnapshot
from stead.stats.window import merge

Source = Literal["raw", "snapshot", "hour", "day"]
FINEST_FIRST: tuple[Source, ...] = ("raw", "snapshot", "hour", "day")
RAW_SPAN_MS = 7_200_000  # longer ranges are answered from snapshots: unpacking every block would take too long
ROWS_A_POINT = 12


def choose(span_ms: int, points: int, base_ms: int, oldest_ms: dict[Source, int], from_ms: int) -> Source:
    """The source for a range: fine enough for the points, reaching back as far as anything does.

    `oldest_ms` has the sources that have any rows of the series, with the time of their first.
    """
    steps: dict[Source, int] = {"snapshot": base_ms, "hour": 3_600_000, "day": 86_400_000}
    preferred: Source = "raw"
    if span_ms > RAW_SPAN_MS:
        fitting = [source for source, step in steps.items() if span_ms / step <= points * ROWS_A_POINT]
        preferred = fitting[0] if fitting else "day"
    at = FINEST_FIRST.index(preferred)
    order = [source for source in (*FINEST_FIRST[at:], *reversed(FINEST_FIRST[:at])) if source in oldest_ms]
    for source in order:
        slack = steps.get(source, base_ms)
        if all(oldest_ms[source] <= max(from_ms, oldest_ms[other]) + slack for other in order):
            return source
    return order[0] if order else preferred


def raw_answer(
    metric: str, subject: str, unit: str, rows: Iterable[tuple[int, float]], span_ms: tuple[int, int], points: int
) -> SeriesAnswer:
    """Raw values as they are, or averaged with their extremes where there are more than `points`. NaN is not known."""
    from_ms, to_ms = span_ms
    chosen = sorted(((at, value) for at, value in rows if from_ms <= at < to_ms), key=lambda row: row[0])
    if len(chosen) <= points:
        known = tuple(value if isfinite(value) else None for _, value in chosen)
        return SeriesAnswer(metric, subject, unit, "raw", tuple(at for at, _ in chosen), known)
    step_ms = -(-(to_ms - from_ms) // points)
    buckets: dict[int, list[float]] = {}
    for at, value in chosen:
        bucket = buckets.setdefault((at - from_ms) // step_ms, [])
        if isfinite(value):
            bucket.append(value)
    listed = list(buckets.values())
    return SeriesAnswer(
        metric,
        subject,
        unit,
        "raw",
        tuple(from_ms + number * step_ms for number in buckets),
        tuple(fsum(one) / len(one) if one else None for one in listed),
        tuple(min(one, default=None) for one in listed),
        tuple(max(one, default=None) for one in listed),
    )


def merged_answer(
    metric: str, subject: str, unit: str, source: Source, rows: Sequence[MetricsSnapshot], span_ms: tuple[int, int], points: int
) -> SeriesAnswer:
    """Snapshots as they are, or merged where there are more than `points`: p95 is that of all values together."""
    from_ms, to_ms = span_ms
    if len(rows) > points:
        step_ms = -(-(to_ms - from_ms) // points)
        buckets: dict[int, list[MetricsSnapshot]] = {}
        for row in rows:
            buckets.setdefault((row.start_ms - from_ms) // step_ms, []).append(row)
        rows = [merge(group, group[0].start_ms, group[-1].end_ms) for group in buckets.values()]
    return SeriesAnswer(
        metric,
        subject,
        unit,
        source,
        tuple(row.start_ms for row in rows),
        tuple(row.avg for row in rows),
        tuple(row.min for row in rows),
        tuple(row.max for row in rows),
        tuple(row.p95 for row in rows),
    )
