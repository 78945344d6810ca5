from __future__ import annotations

from pathlib import Path

import pytest

from stead.protocols import Clock, Completed, Host
from stead.testing import FakeClock, FakeHost, FakePsutil, FakeScheduler

PID = 4711


async def test_commands_answer_from_the_transcripts_in_order(tmp_path: Path) -> None:
    first, last = Completed(1, "", "not yet"), Completed(0, "ready", "")
    host: Host = FakeHost(tmp_path, {("ask", "it"): [first, last], ("other",): last})
    assert [await host.run(["ask", "it"], 1) for _ in range(3)] == [first, last, last]
    assert await host.run(["other"], 1) == last
    with pytest.raises(FileNotFoundError, match="not in the transcripts"):
        await host.run(["ask"], 1)
    assert isinstance(host, FakeHost)
    assert host.commands == [("ask", "it")] * 3 + [("other",), ("ask",)]


def test_files_are_those_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/knob").write_text("1")
    host = FakeHost(tmp_path)
    host.write("/proc/knob", b"2")
    assert (tmp_path / "proc/knob").read_text() == "2"
    assert host.start_ticks(1) is None, "process 1 of the machine that tests run on is not there"
    with pytest.raises(FileNotFoundError):
        host.read("/etc/hostname")


def test_the_scheduler_reads_back_and_forgets_the_gone() -> None:
    scheduler = FakeScheduler()
    scheduler.add(PID, autogroup=None)
    scheduler.set_nice(PID, 30)
    scheduler.set_policy(PID, "idle", 0)
    scheduler.set_affinity(PID, [1, 0])
    scheduler.set_ionice(PID, "idle", 7)
    assert (scheduler.nice(PID), scheduler.policy(PID), scheduler.affinity(PID)) == (19, ("idle", 0), (0, 1))
    assert (scheduler.ionice(PID), scheduler.autogroup(PID)) == (("idle", 0), None)
    scheduler.raises = False
    assert not scheduler.can_raise()
    with pytest.raises(PermissionError):
        scheduler.set_nice(PID, 0)
    scheduler.remove(PID)
    with pytest.raises(ProcessLookupError):
        scheduler.nice(PID)
    with pytest.raises(ProcessLookupError):
        scheduler.set_nice(PID, 1)


def test_psutil_shows_frames_and_misses_what_was_not_recorded() -> None:
    psutil = FakePsutil([{"boot_time": 1.0, "cpu_count": 2}, {"boot_time": 2.0}])
    assert (psutil.boot_time(), psutil.cpu_count()) == (1.0, 2)
    psutil.advance()
    psutil.advance()
    assert (psutil.boot_time(), psutil.cpu_count()) == (2.0, None)
    with pytest.raises(psutil.Error, match="swap_memory is not on this system"):
        psutil.swap_memory()


def test_the_clock_moves_only_when_told() -> None:
    clock = FakeClock(unix_ms=5_000, mono_ms=1_000)
    reads: Clock = clock
    assert reads.now() == reads.now()
    assert (clock.advance(10).unix_ms, clock.now().mono_ms) == (5_010, 1_010)
    assert (clock.step(-4_000).unix_ms, clock.now().mono_ms) == (1_010, 1_010)
