"""Taking memory back: on the real version 1 groups of this machine, and on a recorded tree of version 2."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stead.actuators import resident
from stead.actuators.resident import PIECE_BYTES, Resident
from stead.cgroups.tree import Groups
from stead.host import LocalHost
from stead.host.operations import NotedHost
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.testing import FakeHost
from tests.cgroups.groups import group, real_groups
from tests.cgroups.recorded import RecordedHost

CACHE_MB = 48
READER = """
import os, sys
for folder in ("memory",):
    open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
with open(sys.argv[2], "wb") as file:
    for _ in range(48):
        file.write(os.urandom(1 << 20))
    os.fsync(file.fileno())
held = bytearray(8 << 20); held[::4096] = b"x" * len(held[::4096])
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def group_with_cache(tmp_path: Path) -> Iterator[str]:
    """A group with a process that has 48 MiB of page cache and 8 MiB of its own."""
    groups = real_groups()[1]
    with group(groups, ("memory",)) as path:
        argv = [sys.executable, "-S", "-c", READER, f"{groups.folder(path, 'memory')}", str(tmp_path / "cache")]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and process.stdin is not None
            process.stdout.readline()
            yield path
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[str]:
    with group_with_cache(tmp_path) as path:
        yield path


def target(host: LocalHost, path: str) -> Target:
    found = Groups.of(host).target(path)
    assert found is not None
    return found


async def test_version_1_gives_its_cache_back_and_keeps_what_is_its_own(reader: str) -> None:
    host = LocalHost()
    actuator, mine, door = resident.actuator(host), target(host, reader), NotedHost(host)
    now = await actuator.read(host, mine)
    assert isinstance(now, Resident) and now.size_bytes > (CACHE_MB + 8) << 20
    step = actuator.plan(mine, now, Resident(now.size_bytes // 2))
    assert step.undo == "none" and step.undo_reason and "version 1 takes all" in step.note
    assert actuator.met(now, msgspec.convert(step.before, Resident))
    await actuator.write(door, mine, msgspec.convert(step.want, Resident))
    after = await actuator.read(host, mine)
    assert isinstance(after, Resident) and actuator.met(after, msgspec.convert(step.want, Resident))
    assert 8 << 20 < after.size_bytes < now.size_bytes - (CACHE_MB - 8 << 20)
    assert door.operations == (f'write /sys/fs/cgroup/memory{reader}/memory.force_empty "0"',)


async def test_a_group_that_has_nothing_to_give_is_refused_with_figures(reader: str) -> None:
    host = LocalHost()
    actuator, mine = resident.actuator(host), target(host, reader)
    await actuator.write(host, mine, Resident(0))
    now = await actuator.read(host, mine)
    assert isinstance(now, Resident)
    with pytest.raises(SteadError, match=r"only . MB of its"):
        actuator.plan(mine, now, Resident(now.size_bytes // 2))


async def test_a_successor_of_its_name_is_left_alone(reader: str) -> None:
    host = LocalHost()
    actuator, mine = resident.actuator(host), target(host, reader)
    another = msgspec.structs.replace(mine, identity={**mine.identity, "id": "memory.1"})
    assert await actuator.read(host, another) == ABSENT
    with pytest.raises(FileNotFoundError):
        await actuator.write(host, another, Resident(0))


class Kernel(FakeHost):
    """A recorded tree of version 2 whose memory.reclaim takes from memory.current, down to a floor."""

    floor = 0
    asked: list[int]

    def write(self, path: str, data: bytes) -> None:
        super().write(path, data)
        if path.endswith("memory.reclaim"):
            self.asked.append(int(data))
            current = int(self.read(path.replace("reclaim", "current")))
            left = max(self.floor, current - int(data))
            super().write(path.replace("reclaim", "current"), str(left).encode())
            if current - left < int(data):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def kernel(tmp_path: Path, path: str = "/batch.slice", size: int = 400_000_000, file: int = 250_000_000) -> Kernel:
    folder = tmp_path / "sys/fs/cgroup" / path[1:]
    folder.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000000 kB\nSwapFree: 0 kB\n")
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu io memory pids\n")
    stat = f"anon {size - file}\nfile {file}\ninactive_file {file}\nactive_file 0\ninactive_anon {size - file}\nactive_anon 0\n"
    texts = {"memory.current": f"{size}\n", "memory.max": "max\n", "memory.stat": stat, "memory.reclaim": "", "cgroup.procs": ""}
    for name, text in texts.items():
        (folder / name).write_text(text)
    host = Kernel(tmp_path)
    host.asked = []
    return host


async def test_version_2_is_asked_a_piece_at_a_time_and_no_further_than_wanted(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    actuator, mine = resident.actuator(host), target(host, "/batch.slice")
    now = await actuator.read(host, mine)
    assert now == Resident(400_000_000, 150_000_000)
    step = actuator.plan(mine, now, Resident(300_000_000))
    assert step.diff["size_bytes"] == (400_000_000, 300_003_328)  # whole pages
    await actuator.write(host, mine, msgspec.convert(step.want, Resident))
    assert sum(host.asked) == 400_000_000 - 300_003_328 and max(host.asked) == PIECE_BYTES
    assert (await actuator.read(host, mine)).size_bytes == 300_003_328


async def test_a_plan_goes_no_lower_than_what_can_not_be_taken_back(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    actuator, mine = resident.actuator(host), target(host, "/batch.slice")
    now = await actuator.read(host, mine)
    step = actuator.plan(mine, now, Resident(0))
    assert step.want is not None and 150_000_000 <= step.want["size_bytes"] < 150_004_096
    assert step.note == "of 400 MB, 250 MB could be taken back"


async def test_swap_can_take_what_no_file_backs(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    (tmp_path / "proc/meminfo").write_text("SwapFree: 97656 kB\n")
    now = await resident.actuator(host).read(host, target(host, "/batch.slice"))
    assert now == Resident(400_000_000, 150_000_000 - 97656 * 1024)


async def test_a_kernel_that_gives_less_is_told_as_it_was(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    host.floor = 350_000_000
    with pytest.raises(SteadError, match="50 MB are left above what was wanted"):
        await resident.actuator(host).write(host, target(host, "/batch.slice"), Resident(300_000_000))
    assert len(host.asked) <= 5


async def test_a_login_session_is_never_asked(tmp_path: Path) -> None:
    path = "/user.slice/user-1000.slice/session-2.scope"
    host = kernel(tmp_path, path)
    actuator, mine = resident.actuator(host), target(host, path)
    with pytest.raises(SteadError, match="login session"):
        actuator.plan(mine, await actuator.read(host, mine), Resident(1))


async def test_a_kernel_without_memory_reclaim_says_so(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    (tmp_path / "sys/fs/cgroup/batch.slice/memory.reclaim").unlink()
    actuator, mine = resident.actuator(host), target(host, "/batch.slice")
    with pytest.raises(SteadError, match=r"no memory\.reclaim"):
        actuator.plan(mine, await actuator.read(host, mine), Resident(1))


async def test_a_group_without_the_memory_controller_says_so(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu\n")
    with pytest.raises(SteadError, match="not counted here"):
        await resident.actuator(host).read(host, target(host, "/batch.slice"))


async def test_a_size_that_was_seen_is_nobodys_wish(tmp_path: Path) -> None:
    host = kernel(tmp_path)
    actuator = resident.actuator(host)
    seen, grown = Resident(100 << 20, 50 << 20), Resident(900 << 20, 50 << 20)
    assert actuator.met(grown, seen) and not actuator.met(grown, Resident(100 << 20))
    assert not actuator.met(ABSENT, seen) and not actuator.met(seen, ABSENT)


async def test_a_protected_process_that_came_in_after_the_plan_keeps_its_memory(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path)
    folder = host.group("/batch", pids=[70])
    host.process(70, "hog", "/batch")
    host.put(f"{folder}/memory.reclaim", "")
    host.put(f"{folder}/memory.stat", "inactive_file 9437184\nactive_file 0\nanon 1048576\n")
    actuator, mine = resident.actuator(host, protected=("postgres*",)), target(host, "/batch")
    step = actuator.plan(mine, await actuator.read(host, mine), Resident(1 << 20))
    host.process(71, "postgres", "/batch")
    host.put(f"{folder}/cgroup.procs", "70\n71\n")
    with pytest.raises(SteadError, match="process 71, postgres"):
        await actuator.write(host, step.target, Resident(1 << 20))
    assert host.read(f"{folder}/memory.reclaim") == b""
