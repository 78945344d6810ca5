from __future__ import annotations

from pathlib import Path

import pytest

from stead.host.procfs import parse_meminfo
from stead.probes.memory import available_bytes, parse_oom_kills, probe
from stead.probes.reading import FIRST, RESET
from stead.testing import FakeClock
from tests.probes.hosts import CAPTURED, captured, change, debian, one, two_frames, values


def test_parses_sizes_into_bytes_and_counts_as_they_are() -> None:
    sizes = parse_meminfo((CAPTURED / "debian12/proc/meminfo").read_text())
    assert sizes["MemTotal"] == 4018044 * 1024
    assert sizes["HugePages_Total"] == 0
    assert parse_meminfo("HugePages_Total:  7\nbroken\nEmpty:\n") == {"HugePages_Total": 7}


def test_old_kernels_without_available_memory() -> None:
    assert available_bytes({"MemFree": 1, "Buffers": 2, "Cached": 4}) == 7
    with pytest.raises(KeyError):
        available_bytes({"MemFree": 1})


def test_finds_oom_kills() -> None:
    assert parse_oom_kills("pgpgin 5\noom_kill 3\n") == 3
    assert parse_oom_kills("oom_kill_disable 1\npgpgin 5\n") is None


def test_reads_a_host(tmp_path: Path) -> None:
    reading = probe().read(debian(tmp_path), FakeClock().now())
    assert one(reading, "infra.memory_utilization").value == pytest.approx(100 * (1 - 2411288 / 4018044))
    assert one(reading, "infra.swap_used").value == pytest.approx(25.0)
    assert one(reading, "memory.available_bytes").value == 2411288 * 1024
    assert one(reading, "memory.used_bytes").value == (4018044 - 2411288) * 1024
    assert one(reading, "memory.cached_bytes").value == (1820440 + 160312) * 1024


def test_no_swap_is_unknown_not_zero(tmp_path: Path) -> None:
    host = debian(tmp_path)
    change(host, "/proc/meminfo", lambda text: text.replace("999420", "0").replace("749565", "0"))
    sample = one(probe().read(host, FakeClock().now()), "infra.swap_used")
    assert (sample.value, sample.reason) == (None, "no swap configured")


def test_oom_kills_are_counted_each_ten_seconds(tmp_path: Path) -> None:
    host, clock, memory = debian(tmp_path), FakeClock(), probe()
    assert one(memory.read(host, clock.now()), "infra.oom_kills").reason == FIRST
    change(host, "/proc/vmstat", lambda text: text.replace("oom_kill 3", "oom_kill 5"))
    assert ("infra.oom_kills", "host") not in values(memory.read(host, clock.advance(9_000)))
    assert one(memory.read(host, clock.advance(1_000)), "infra.oom_kills").value == 2
    assert one(memory.read(host, clock.advance(10_000)), "infra.oom_kills").value == 0
    change(host, "/proc/vmstat", lambda text: text.replace("oom_kill 5", "oom_kill 0"))
    assert one(memory.read(host, clock.advance(10_000)), "infra.oom_kills").reason == RESET


def test_a_kernel_that_counts_no_oom_kills_says_so(tmp_path: Path) -> None:
    host = debian(tmp_path)
    change(host, "/proc/vmstat", lambda text: text.replace("oom_kill 3\n", ""))
    assert one(probe().read(host, FakeClock().now()), "infra.oom_kills").reason == "this kernel does not count OOM kills"


@pytest.mark.parametrize(("name", "swap"), [("macos14", 50.0), ("windows11", 10.0)])
def test_macos_and_windows(name: str, swap: float) -> None:
    reading = two_frames(probe(), captured(name))
    assert one(reading, "infra.memory_utilization").value == pytest.approx(62.5)
    assert one(reading, "infra.swap_used").value == pytest.approx(swap)
    assert one(reading, "memory.cached_bytes").reason == "not counted here"
    assert "does not count OOM kills" in one(reading, "infra.oom_kills").reason
