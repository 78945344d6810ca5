"""Windows: snapshots of values, merges of snapshots, and the short full-rate memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.stats.window import Ring, Window, merge

values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=80)


def window_of(numbers: list[float], **counts: float) -> Window:
    window = Window()
    window.take(numbers)
    window.seconds["good"] = counts.get("good", 0.0)
    window.seconds["critical"] = counts.get("critical", 0.0)
    window.violations = int(counts.get("violations", 0))
    return window


@given(values, values)
def test_merged_snapshots_are_the_snapshot_of_all_values(left: list[float], right: list[float]) -> None:
    parts = [window_of(one).snapshot("m", "host", 0, 300_000) for one in (left, right)]
    merged = merge(parts, 0, 600_000)
    whole = window_of(left + right).snapshot("m", "host", 0, 600_000)
    assert merged.sketch == whole.sketch
    assert (merged.count, merged.min, merged.max, merged.p95) == (whole.count, whole.min, whole.max, whole.p95)
    assert merged.avg == pytest.approx(whole.avg, rel=1e-9, abs=1e-6)


def test_merge_adds_counts_and_times() -> None:
    parts = [
        window_of([1.0], good=200.0, critical=100.0, violations=2).snapshot("m", "host", 0, 300_000),
        window_of([3.0], good=300.0, violations=1).snapshot("m", "host", 300_000, 600_000),
    ]
    merged = merge(parts, 0, 3_600_000)
    assert (merged.good_s, merged.critical_s, merged.violations, merged.avg) == (500.0, 100.0, 3, 2.0)
    assert (merged.start_ms, merged.end_ms) == (0, 3_600_000)


def test_a_window_without_values_says_none_and_not_zero() -> None:
    window = Window()
    window.unknown = 7
    snapshot = window.snapshot("m", "host", 0, 1)
    assert (snapshot.count, snapshot.unknown) == (0, 7)
    assert [snapshot.min, snapshot.max, snapshot.avg, snapshot.p50, snapshot.p95, snapshot.p99] == [None] * 6
    assert merge([snapshot, snapshot], 0, 2).unknown == 14


def test_a_sum_too_large_for_a_float_has_no_average() -> None:
    snapshot = window_of([1.7e308] * 4).snapshot("m", "host", 0, 1)
    assert snapshot.avg is None
    assert snapshot.max == 1.7e308


def test_merging_nothing_or_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        merge([], 0, 1)
    with pytest.raises(ValueError, match="sketch"):
        merge([window_of([1.0]).snapshot("m", "host", 0, 1)] * 2 + [_broken()], 0, 1)


def _broken() -> object:
    import msgspec

    return msgspec.structs.replace(window_of([1.0]).snapshot("m", "host", 0, 1), sketch=b"\x09")


def test_ring_keeps_its_span_and_no_more() -> None:
    ring = Ring(keep_ms=100_000)
    for second in range(1000):
        ring.add(second * 1000, float(second))
    assert ring.mean(0, 1e9) == pytest.approx((999 + (999 - 100)) / 2, abs=35)  # old ones go in batches of 64
    assert ring.mean(990_000, 999_000) == 994.5
    assert ring.between(998_000, 998_000) == [998.0]
    assert ring.mean(990_001, 990_999) is None
    assert ring.mean(0, 800_000) is None
