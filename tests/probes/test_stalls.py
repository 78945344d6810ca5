from __future__ import annotations

from pathlib import Path

import pytest

from stead.cgroups.tree import Groups
from stead.probes.stalls import Stalls, parse_throttled, parse_total
from tests.probes.crowd import TREE, Crowd


def test_a_total_is_parsed_and_a_torn_file_is_no_total() -> None:
    text = "some avg10=1.00 avg60=0.50 avg300=0.10 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=45\n"
    assert (parse_total(text), parse_total(text, "full")) == (123, 45)
    for torn in ("", "some avg10=1.00 total=", "none total=3"):
        with pytest.raises(ValueError):
            parse_total(torn)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("usage_usec 5\nnr_throttled 1\nthrottled_usec 2500000\n", 2.5),
        ("nr_periods 1\nnr_throttled 1\nthrottled_time 1500000000\n", 1.5),
        ("usage_usec 5\n", 0.0),
    ],
)
def test_what_was_throttled_is_parsed_of_either_version(text: str, seconds: float) -> None:
    assert parse_throttled(text) == seconds


def test_pressure_is_the_share_of_the_last_two_seconds(tmp_path: Path) -> None:
    crowd, stalls = Crowd(tmp_path), Stalls()
    groups = Groups.of(crowd.host)
    seen = []
    for total_us in (1_000_000, 1_000_000, 1_500_000, 2_500_000, 2_500_000, 2_500_000):
        crowd.pressure("/web", "memory", total_us)
        seen.append(stalls.pressure(crowd.host, groups, "/web", "memory", crowd.tick()))
    assert seen == [None, 0.0, 25.0, 75.0, 50.0, 0.0]


def test_a_counter_that_went_back_is_unknown_once(tmp_path: Path) -> None:
    crowd, stalls = Crowd(tmp_path), Stalls()
    groups = Groups.of(crowd.host)
    seen = []
    for total_us in (5_000_000, 5_500_000, 0, 250_000):
        crowd.pressure("/web", "io", total_us)
        seen.append(stalls.pressure(crowd.host, groups, "/web", "io", crowd.tick()))
    assert seen == [None, 50.0, None, 25.0]


def test_the_worst_group_counts_and_one_that_tells_nothing_does_not(tmp_path: Path) -> None:
    crowd, stalls = Crowd(tmp_path), Stalls()
    groups = Groups.of(crowd.host)
    for second in (1, 2):
        crowd.pressure("/a", "io", 100_000 * second)
        crowd.pressure("/b", "io", 300_000 * second)
        found = stalls.worst(crowd.host, groups, ("/a", "/b", "/gone"), "io", crowd.tick())
    assert found == pytest.approx(30.0)
    assert stalls.worst(crowd.host, groups, (), "io", crowd.tick()) is None


def test_throttled_and_idle_are_told_of_a_group_and_files_that_nobody_asks_for_are_let_go(tmp_path: Path) -> None:
    crowd, stalls = Crowd(tmp_path), Stalls()
    groups = Groups.of(crowd.host)
    crowd.group("/batch", cpu__idle="0\n")
    for seconds in (1.0, 1.5):
        crowd.put(f"{TREE}/batch/cpu.stat", f"throttled_usec {round(seconds * 1e6)}\n")
        throttled = stalls.throttled(crowd.host, groups, "/batch", crowd.tick())
    assert throttled == pytest.approx(0.5)
    assert not stalls.idle(crowd.host, groups, "/batch")
    crowd.put(f"{TREE}/batch/cpu.idle", "1\n")
    assert stalls.idle(crowd.host, groups, "/batch")
    assert not stalls.idle(crowd.host, groups, "/none")
    stalls.settle()
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    stalls.settle()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before - 2
