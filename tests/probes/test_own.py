from __future__ import annotations

import os
from pathlib import Path

import pytest

from stead.host import LocalHost, SystemClock
from stead.probes.own import parse_own_stat, probe
from stead.testing import FakeClock
from tests.probes.hosts import captured, change, debian, one, two_frames


def test_counts_ended_children_too() -> None:
    assert parse_own_stat("812 (python3) S " + " ".join(str(n) for n in range(4, 40))) == (14 + 15 + 16 + 17, 24)


def test_reads_the_agent(tmp_path: Path) -> None:
    host, clock, own = debian(tmp_path), FakeClock(), probe()
    first = own.read(host, clock.now())
    assert one(first, "stead.self_cpu_percent").reason == "first reading"
    assert one(first, "stead.self_rss_bytes").value == 5120 * os.sysconf("SC_PAGE_SIZE")
    change(host, "/proc/self/stat", lambda text: text.replace(" 412 130 21 9 ", " 415 131 22 9 "))
    cpu = one(own.read(host, clock.advance(10_000)), "stead.self_cpu_percent")
    assert cpu.value == pytest.approx(100 * 5 / os.sysconf("SC_CLK_TCK") / 10)


def test_is_this_very_process() -> None:
    rss = one(probe().read(LocalHost(), SystemClock().now()), "stead.self_rss_bytes").value
    assert rss is not None
    assert 5e6 < rss < 1e9


def test_elsewhere_by_psutil() -> None:
    reading = two_frames(probe(), captured("macos14"))
    assert one(reading, "stead.self_cpu_percent").value == pytest.approx(1.0)
    assert one(reading, "stead.self_rss_bytes").value == 29360128
