from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stead.workloads.reports import STALE_MS, Report, Tally, p95, read_report

NOW_MS = 1_700_000_000_000


def write(path: Path, text: str, age_ms: int = 0) -> Path:
    path.write_text(text)
    at_ns = (NOW_MS - age_ms) * 1_000_000
    os.utime(path, ns=(at_ns, at_ns))
    return path


def test_a_report_that_is_missing_broken_or_stale_says_nothing(tmp_path: Path) -> None:
    good = json.dumps({"requests_total": 3, "anything": "else"})
    assert read_report(tmp_path / "none", NOW_MS) is None
    assert read_report(write(tmp_path / "torn", good[:-3]), NOW_MS) is None
    assert read_report(write(tmp_path / "typed", '{"requests_total": "many"}'), NOW_MS) is None
    assert read_report(write(tmp_path / "list", "[]"), NOW_MS) is None
    assert read_report(write(tmp_path / "stale", good, STALE_MS + 1), NOW_MS) is None
    assert read_report(write(tmp_path / "good", good, STALE_MS), NOW_MS) == Report(requests_total=3)


def test_what_no_worker_reports_is_unknown_and_never_zero() -> None:
    tally = Tally()
    tally.update({"a": Report(busy=1), "b": None})
    assert tally.joined.busy == 1
    assert tally.joined.requests_total is None and tally.joined.queue_depth is None and tally.joined.latency_p95_ms is None


def test_counters_go_on_over_a_restart_and_over_a_missing_report() -> None:
    tally = Tally()
    tally.update({"a": Report(requests_total=10), "b": Report(requests_total=5)})
    tally.update({"a": Report(requests_total=12), "b": None})  # b says nothing for a while
    assert tally.joined.requests_total == 17
    tally.update({"a": Report(requests_total=12), "b": Report(requests_total=6)})
    assert tally.joined.requests_total == 18
    tally.update({"c": Report(requests_total=2), "b": Report(requests_total=6)})  # a was replaced by c
    assert tally.joined.requests_total == 20
    tally.update({"c": Report(requests_total=1), "b": Report(requests_total=6)})  # c began again from zero
    assert tally.joined.requests_total == 21


def test_gauges_add_up_and_the_shared_queue_counts_once() -> None:
    tally = Tally()
    tally.update(
        {
            "a": Report(busy=1, capacity=2, queue_depth=7, service_s=0.1),
            "b": Report(busy=0, capacity=2, queue_depth=6, service_s=0.3),
        }
    )
    joined = tally.joined
    assert (joined.busy, joined.capacity, joined.queue_depth, joined.service_s) == (1, 4, 7, 0.2)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True)))
def test_p95_is_one_of_the_values_with_at_most_a_twentieth_above(values: list[float]) -> None:
    result = p95(values)
    finite = [value for value in values if value - value == 0]
    if not finite:
        assert result is None
        return
    assert result in finite
    assert sum(value > result for value in finite) <= len(finite) / 20


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1), min_size=1))
def test_the_total_is_the_sum_over_all_lives(lives: list[list[int]]) -> None:
    tally = Tally()
    for life, counts in enumerate(lives):
        for value in sorted(counts):
            tally.update({str(life): Report(requests_total=value)})
    assert tally.joined.requests_total == sum(max(counts) for counts in lives)
