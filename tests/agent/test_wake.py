"""The tick is woken by the kernel itself: by events of a real control group, and by real pressure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.agent.wake import APART_S, EARLY_AGAIN, EARLY_MOST, Wake
from tests.cgroups.groups import group, real_groups

THRASH = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
file = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
for place in range(64):
    os.pwrite(file, os.urandom(1 << 20), place << 20)
os.fsync(file)
print(flush=True)
sys.stdin.readline()
while True:
    for place in range(64):
        os.pread(file, 1 << 20, place << 20)
"""


class Asking:
    """A probe that asks for these files."""

    def __init__(self, *paths: str) -> None:
        self.name, self.paths = "asking", list(paths)

    def alarms(self) -> list[str]:
        return self.paths


class Silent:
    name = "silent"


@pytest.fixture
def unified() -> Iterator[Path]:
    """A group of version 2, for its cgroup.events."""
    roots = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    root = next((root for root in roots if os.path.exists(f"{root}/cgroup.controllers")), "")
    if not root or os.geteuid() != 0:
        pytest.skip("needs cgroup version 2 and root")
    place = Path(root) / f"steadtest-{os.getpid()}-wake"
    place.mkdir()
    try:
        yield place
    finally:
        if place.exists():
            place.rmdir()


@contextlib.contextmanager
def waking(*probes: object) -> Iterator[tuple[Wake, list[str]]]:
    hastened: list[str] = []
    wake = Wake(probes, hastened.append)  # type: ignore[arg-type]
    wake.follow()
    try:
        yield wake, hastened
    finally:
        wake.close()


async def test_without_anything_to_listen_to_it_only_waits() -> None:
    with waking(Silent()) as (wake, hastened):
        began = asyncio.get_running_loop().time()
        assert await wake.before(began + 0.05) is False
        assert asyncio.get_running_loop().time() >= began + 0.05 and hastened == [] and wake.listens() == ()


async def test_an_event_of_a_group_calls_for_a_tick_and_for_the_probe_that_asked(unified: Path) -> None:
    with waking(Silent(), Asking(f"{unified}/cgroup.events")) as (wake, hastened):
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(0.02, (unified / "cgroup.freeze").write_text, "1")
        assert await wake.before(began + 60) is True
        assert began + APART_S <= loop.time() < began + 30 and hastened == ["asking"]
        assert await wake.before(loop.time() + 0.3) is False, "one event calls once"
        loop.call_later(0.02, (unified / "cgroup.freeze").write_text, "0")
        assert await wake.before(loop.time() + 60) is True


async def test_an_event_just_before_the_tick_brings_none_of_its_own(unified: Path) -> None:
    with waking(Asking(f"{unified}/cgroup.events")) as (wake, hastened):
        loop = asyncio.get_running_loop()
        due = loop.time() + APART_S / 2
        (unified / "cgroup.freeze").write_text("1")
        assert await wake.before(due) is False and loop.time() >= due and hastened == []
        (unified / "cgroup.freeze").write_text("0")


async def test_an_event_during_a_tick_is_not_lost(unified: Path) -> None:
    with waking(Asking(f"{unified}/cgroup.events")) as (wake, hastened):
        (unified / "cgroup.freeze").write_text("1")
        await asyncio.sleep(0.05)  # the loop has heard of it
        assert await wake.before(asyncio.get_running_loop().time() + 60) is True and hastened == ["asking"]
        (unified / "cgroup.freeze").write_text("0")


async def test_a_group_that_rings_without_end_brings_no_endless_ticks(unified: Path) -> None:
    with waking(Asking(f"{unified}/cgroup.events")) as (wake, _):
        loop = asyncio.get_running_loop()
        for time in range(int(EARLY_MOST)):
            (unified / "cgroup.freeze").write_text(str(time % 2 ^ 1))
            assert await wake.before(loop.time() + 60) is True
        (unified / "cgroup.freeze").write_text("1")
        assert await wake.before(loop.time() + 5 * APART_S) is False, "by now it waits for its time"
        for _ in range(round(1 / EARLY_AGAIN)):
            assert await wake.before(loop.time()) is False
        (unified / "cgroup.freeze").write_text("0")
        assert await wake.before(loop.time() + 60) is True, "one is earned again"


async def test_a_group_that_went_is_let_go(unified: Path) -> None:
    probe = Asking(f"{unified}/cgroup.events")
    with waking(probe) as (wake, _):
        unified.rmdir()
        assert await wake.before(asyncio.get_running_loop().time() + 0.25) is False
        probe.paths = []
        wake.follow()
        assert wake.listens() == ()
        assert await wake.before(asyncio.get_running_loop().time() + 0.05) is False


async def test_what_is_not_there_is_not_listened_to(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("a file that can't be polled")
    with waking(Asking(str(tmp_path / "none"), str(tmp_path / "plain"))) as (wake, _):
        assert wake.listens() == ()
        assert await wake.before(asyncio.get_running_loop().time() + 0.05) is False


async def test_descriptors_are_let_go(unified: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    probe = Asking(f"{unified}/cgroup.events", "/proc/pressure/memory")
    with waking(probe) as (wake, _):
        probe.paths = [f"{unified}/cgroup.events"]
        wake.follow()
        assert wake.listens() == (f"{unified}/cgroup.events",)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_real_pressure_calls(tmp_path: Path) -> None:
    """A group of version 1 that reads more than it may hold: its stalls are the host's pressure."""
    groups = real_groups()[1]
    with waking(Asking("/proc/pressure/memory")) as (wake, hastened):
        if not wake.listens():
            pytest.skip("this kernel takes no pressure trigger")
        with group(groups, ("memory",)) as path:
            folder = groups.folder(path, "memory")
            Path(f"{folder}/memory.limit_in_bytes").write_text(str(24 << 20))
            argv = [sys.executable, "-S", "-c", THRASH, str(folder), str(tmp_path / "large")]
            thrashing = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                assert thrashing.stdin is not None and thrashing.stdout is not None
                thrashing.stdout.readline()
                thrashing.stdin.write(b"\n")
                thrashing.stdin.flush()
                assert await wake.before(asyncio.get_running_loop().time() + 60) is True and hastened == ["asking"]
            finally:
                thrashing.kill()
                thrashing.wait()
                thrashing.stdin.close()  # type: ignore[union-attr]
                thrashing.stdout.close()  # type: ignore[union-attr]
