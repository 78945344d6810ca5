from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.probes.cpu import Shares, Times, parse_loadavg, parse_schedstat, parse_stat, probe, shares
from stead.probes.reading import FIRST, RESET
from stead.testing import FakeClock
from tests.probes.hosts import CAPTURED, captured, change, debian, one, two_frames, values

ZERO = Times(*[0.0] * 8)
ticks = st.builds(Times, *[st.integers(0, 10**9).map(float)] * 8)


def test_parses_all_cpus_and_old_kernels_without_steal() -> None:
    times = parse_stat((CAPTURED / "debian12/proc/stat").read_text())
    assert list(times) == ["cpu", "cpu0", "cpu1"]
    assert times["cpu"] == Times(101320, 2210, 40912, 5120334, 9120, 0, 1870, 1204)
    assert parse_stat("cpu 1 2 3 4\n") == {"cpu": Times(1, 2, 3, 4, 0, 0, 0, 0)}
    with pytest.raises(ValueError, match="no cpu line"):
        parse_stat("intr 1\n")


def test_parses_load_and_run_delay() -> None:
    assert parse_loadavg("0.42 0.31 0.25 2/231 4811\n") == (0.42, 0.31, 0.25)
    text = (CAPTURED / "debian12/proc/schedstat").read_text()
    assert parse_schedstat(text) == pytest.approx((31240031234 + 28120331001) / 1e9)
    with pytest.raises(ValueError, match="no cpu line"):
        parse_schedstat("version 15\n")


def test_waiting_for_io_and_stolen_time_are_not_busy() -> None:
    after = Times(user=30, nice=10, system=5, idle=35, iowait=10, irq=1, softirq=4, steal=5)
    assert shares(ZERO, after) == Shares(busy=50.0, iowait=10.0, steal=5.0)


def test_no_share_without_two_rising_readings() -> None:
    after = Times(10, 0, 5, 85, 0, 0, 0, 0)
    assert shares(None, after) == FIRST
    assert shares(after, Times(1, 0, 1, 5, 0, 0, 0, 0)) == RESET
    assert shares(after, after) == "no time passed"


def test_idle_time_that_steps_back_a_tick_does_no_harm() -> None:
    result = shares(Times(0, 0, 0, 100, 50, 0, 0, 0), Times(100, 0, 0, 99, 50, 0, 0, 0))
    assert isinstance(result, Shares)
    assert 0 <= result.busy <= 101


@given(ticks, ticks)
def test_shares_stay_within_a_hundred_percent(before: Times, rise: Times) -> None:
    result = shares(before, Times(*(a + b for a, b in zip(before, rise, strict=True))))
    if sum(rise) == 0:
        assert result == "no time passed"
        return
    assert isinstance(result, Shares)
    assert all(-1e-9 <= share <= 100 + 1e-9 for share in result)
    assert sum(result) <= 100 + 1e-6


def test_reads_a_host_over_two_intervals(tmp_path: Path) -> None:
    host, clock, cpu = debian(tmp_path), FakeClock(), probe()
    first = cpu.read(host, clock.now())
    assert one(first, "infra.cpu_utilization").reason == FIRST
    assert one(first, "cpu.load_5m").value == 0.31
    change(host, "/proc/stat", lambda text: text.replace("cpu0 50110", "cpu0 50160").replace("2560101", "2560151"))
    change(host, "/proc/stat", lambda text: text.replace("cpu  101320", "cpu  101370").replace("5120334", "5120484"))
    change(host, "/proc/schedstat", lambda text: text.replace("31240031234", "31740031234"))
    second = cpu.read(host, clock.advance(1000))
    assert one(second, "infra.cpu_utilization").value == 25.0
    assert one(second, "cpu.core_percent", "core:0").value == 50.0
    assert one(second, "cpu.core_percent", "core:1").reason == "no time passed"
    assert one(second, "cpu.run_delay_ratio").value == pytest.approx(0.5)


def test_a_kernel_without_schedstat_says_so(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (host.root / "proc/schedstat").unlink()
    (host.root / "proc/loadavg").unlink()
    reading = probe().read(host, FakeClock().now())
    assert one(reading, "cpu.run_delay_ratio").reason == "this kernel has no /proc/schedstat"
    assert one(reading, "cpu.load_1m").reason == "/proc/loadavg can't be read"


def test_macos_and_windows_say_what_they_lack() -> None:
    mac = two_frames(probe(), captured("macos14"))
    assert one(mac, "infra.cpu_utilization").value == pytest.approx(100 * 8 / 15)
    assert one(mac, "cpu.core_percent", "core:2").value == pytest.approx(40.0)
    assert one(mac, "cpu.load_1m").value == 2.1
    assert one(mac, "infra.cpu_steal").reason == "darwin has no such count"
    windows = two_frames(probe(), captured("windows11"))
    assert one(windows, "infra.cpu_utilization").value == pytest.approx(30.0)
    assert one(windows, "cpu.load_1m").reason == "windows has no load average"
    assert values(windows)["cpu.run_delay_ratio", "host"] is None
