"""Which source answers a range, and how rows are condensed."""

from __future__ import annotations

import math

import pytest

from stead.agent.series_query import Source, choose, merged_answer, raw_answer
from stead.stats.window import Window

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
OLD_HOST: dict[Source, int] = {
    "raw": NOW_MS - 7 * DAY_MS,
    "snapshot": NOW_MS - 30 * DAY_MS,
    "hour": NOW_MS - 400 * DAY_MS,
    "day": NOW_MS - 900 * DAY_MS,
}


@pytest.mark.parametrize(
    ("span_ms", "ago_ms", "source"),
    [
        (3_600_000, 3_600_000, "raw"),
        (3_600_000, 10 * DAY_MS, "snapshot"),  # raw values of then are gone
        (3_600_000, 100 * DAY_MS, "hour"),
        (3_600_000, 500 * DAY_MS, "day"),
        (3_600_000, 5000 * DAY_MS, "day"),  # before anything: what reaches back furthest
        (DAY_MS, DAY_MS, "snapshot"),
        (90 * DAY_MS, 90 * DAY_MS, "hour"),
        (890 * DAY_MS, 890 * DAY_MS, "day"),
    ],
)
def test_the_finest_source_that_reaches_back_and_fits_the_points(span_ms: int, ago_ms: int, source: str) -> None:
    assert choose(span_ms, 600, 300_000, OLD_HOST, NOW_MS - ago_ms) == source


def test_a_source_without_rows_is_passed_over() -> None:
    assert (
        choose(90 * DAY_MS, 600, 300_000, {"snapshot": NOW_MS - DAY_MS, "raw": NOW_MS - DAY_MS}, NOW_MS - 90 * DAY_MS)
        == "snapshot"
    )
    assert choose(3_600_000, 600, 300_000, {}, NOW_MS) == "raw"


def test_raw_rows_are_in_order_within_the_range_and_unknown_stays_unknown() -> None:
    rows = [(3000, 3.0), (1000, 1.0), (2000, math.nan), (4000, 4.0)]
    answer = raw_answer("m", "host", "count", rows, (1000, 4000), 10)
    assert (answer.at_ms, answer.avg, answer.min) == ((1000, 2000, 3000), (1.0, None, 3.0), ())


def test_condensed_raw_rows_leave_out_what_is_unknown() -> None:
    rows = [(0, 1.0), (1, 3.0), (2, math.nan), (3, math.nan), (4, 7.0), (5, math.nan)]
    answer = raw_answer("m", "host", "", rows, (0, 6), 3)
    assert (answer.at_ms, answer.avg, answer.min, answer.max) == ((0, 2, 4), (2.0, None, 7.0), (1.0, None, 7.0), (3.0, None, 7.0))


def test_condensed_snapshots_are_merged() -> None:
    rows = []
    for number in range(4):
        window = Window()
        window.take([float(number)] * (number + 1))
        rows.append(window.snapshot("m", "host", number * 10, number * 10 + 10))
    answer = merged_answer("m", "host", "", "snapshot", rows, (0, 40), 2)
    assert (answer.at_ms, answer.min, answer.max) == ((0, 20), (0.0, 2.0), (1.0, 3.0))
    assert answer.avg == pytest.approx((2 / 3, 18 / 7))
