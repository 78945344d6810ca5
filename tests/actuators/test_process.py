"""Stopping and ending real processes, and what is never touched."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from stead.actuators import process
from stead.actuators.process import Process
from stead.host import LocalHost
from stead.host.operations import NotedHost
from stead.host.procfs import parse_stat
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.model.intent import Intent, Protect
from tests.actuators.children import child, target
from tests.cgroups.groups import group, put, real_groups

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
TIDY = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1]).write_text("tidied up"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print(flush=True)
time.sleep(600)
"""
FULL = "held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); print(flush=True); import time; time.sleep(600)"


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return parse_stat(file.read()).state


async def test_a_stop_is_put_back_exactly() -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child() as pid:
        mine = target(host, pid)
        step = actuator.plan(mine, await actuator.read(host, mine), Process(stopped=True))
        assert (step.before, step.want, step.undo) == ({"stopped": False}, {"stopped": True}, "exact")
        await actuator.write(host, mine, Process(stopped=True))
        assert state(pid) == "T"
        await actuator.write(host, mine, Process(stopped=False))
        assert state(pid) in "SR"


async def test_one_that_its_owner_protects_by_now_goes_on_again() -> None:
    host = LocalHost()
    with child() as pid:
        await process.actuator(host).write(host, target(host, pid), Process(stopped=True))
        later = process.actuator(host, intent=Intent((Protect(("process:python*",)),)))
        await later.write(host, target(host, pid), Process(stopped=False))
        assert state(pid) in "SR"
        with pytest.raises(SteadError, match="protected"):
            await later.write(host, target(host, pid), Process(stopped=True))


async def test_an_end_asks_first_and_says_what_came_back(tmp_path) -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child(TIDY.replace("sys.argv[1]", repr(str(tmp_path / "said")))) as pid:
        mine, door = target(host, pid), NotedHost(host)
        seen = await actuator.read(host, mine)
        step = actuator.plan(mine, seen, ABSENT)
        assert step.want is None and step.undo == "none" and step.undo_reason and "gives back" in step.note
        await actuator.write(door, mine, ABSENT)
        assert await actuator.read(host, mine) == ABSENT
        assert (tmp_path / "said").read_text() == "tidied up"
        assert door.operations[0] == f"signal(process {pid}, terminate)"
        assert "MemAvailable went from" in door.operations[-1]


async def test_what_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child(DEAF) as pid:
        mine, door = target(host, pid), NotedHost(host)
        await actuator.write(door, mine, ABSENT)
        assert host.start_ticks(pid) is None
        assert [one.rpartition(", ")[2] for one in door.operations[:2]] == ["terminate)", "kill)"]


async def test_what_was_stopped_hears_the_question_before_it_ends(tmp_path) -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child(TIDY.replace("sys.argv[1]", repr(str(tmp_path / "said")))) as pid:
        mine = target(host, pid)
        await actuator.write(host, mine, Process(stopped=True))
        await actuator.write(host, mine, ABSENT)
        assert (tmp_path / "said").read_text() == "tidied up"


async def test_its_size_is_what_its_end_gives_back() -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child(FULL) as pid:
        seen = await actuator.read(host, target(host, pid))
        assert isinstance(seen, Process) and 60 << 20 <= (seen.memory_bytes or 0) < 100 << 20


async def test_a_successor_is_never_touched() -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child() as pid:
        mine = target(host, pid)
        another = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
        for want in (ABSENT, Process(stopped=True)):
            with pytest.raises(ProcessLookupError):
                await actuator.write(host, another, want)
        another = msgspec.structs.replace(mine, identity={**mine.identity, "boot_id": "another"})
        with pytest.raises(ProcessLookupError):
            await actuator.write(host, another, ABSENT)
        assert state(pid) in "SR"


async def refused(pid: int, want: object = ABSENT) -> str:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    mine = target(host, pid)
    with pytest.raises(SteadError) as planned:
        actuator.plan(mine, await actuator.read(host, mine), want)
    with pytest.raises((SteadError, PermissionError)):
        await actuator.write(host, mine, want)
    return str(planned.value)


async def test_the_init_system_the_kernel_and_stead_are_out_of_reach() -> None:
    assert "the init system" in await refused(1)
    assert "stead itself" in await refused(os.getpid())
    assert "started it" in await refused(os.getppid(), Process(stopped=True))
    kernel = next((pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_kernels(pid)), None)
    if kernel is not None:  # none in a container
        assert "a thread of the kernel" in await refused(kernel)


def is_kernels(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return parse_stat(file.read()).of_kernel
    except OSError:
        return False


async def test_a_shell_that_somebody_may_sit_at_is_left_alone() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-S", "-c", "print(flush=True); import time; time.sleep(600)"])
    try:
        os.read(terminal, 1)  # it has a terminal now
        assert "terminal" in await refused(pid, Process(stopped=True))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


async def test_what_a_session_lives_by_is_left_alone(tmp_path) -> None:
    (tmp_path / "tmux: server").symlink_to(sys.executable)
    sitting = subprocess.Popen(
        [tmp_path / "tmux: server", "-S", "-c", "print(flush=True); import time; time.sleep(600)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert sitting.stdout is not None
        sitting.stdout.readline()
        assert "a terminal multiplexer" in await refused(sitting.pid)
    finally:
        sitting.kill()
        sitting.wait()
        sitting.stdout.close()


async def test_what_has_ended_can_not_be_begun_again() -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child() as pid:
        mine = target(host, pid)
    with pytest.raises(SteadError, match="begun again"):
        actuator.plan(mine, await actuator.read(host, mine), Process(stopped=True))


async def test_a_zombie_is_gone() -> None:
    host, actuator = LocalHost(), process.actuator(LocalHost())
    with child() as pid:
        mine = target(host, pid)
        os.kill(pid, signal.SIGKILL)
        while host.start_ticks(pid) is not None:
            time.sleep(0.01)
        assert await actuator.read(host, mine) == ABSENT


def test_a_step_is_for_a_process_and_never_for_a_name() -> None:
    seen = Process(False, "hog", 7_000_000, 4711, 99)
    group = Target("cgroup", "/batch", {"id": "5", "boot_id": "b"})
    step = process.actuator(LocalHost()).plan(group, seen, ABSENT)
    assert step.target == Target("process", "4711", {"start_ticks": "99", "boot_id": "b"})
    assert step.note == "ends hog (pid 4711), which gives back 7 MB at most"


async def test_what_its_owner_or_the_policy_protects_is_left_alone() -> None:
    host = LocalHost()
    for given in ({"protected": ("python*",)}, {"intent": Intent((Protect(("process:* -c *",)),))}):
        actuator = process.actuator(host, **given)  # type: ignore[arg-type]
        with child() as pid:
            mine = target(host, pid)
            with pytest.raises(SteadError, match="protect"):
                actuator.plan(mine, await actuator.read(host, mine), ABSENT)
            with pytest.raises(SteadError, match="protect"):
                await actuator.write(host, mine, Process(stopped=True))
            assert state(pid) in "SR"


async def test_of_a_group_the_largest_that_may_be_touched_is_meant() -> None:
    host, groups = real_groups()
    with child(FULL) as large, child(FULL.replace("60", "20")) as small, group(groups, ("memory",)) as path:
        for pid in (large, small):
            put(groups, path, pid, ("memory",))
        mine = groups.target(path)
        assert mine is not None
        seen = await process.actuator(host).read(host, mine)
        assert isinstance(seen, Process) and seen.pid == large
        own = {str(large): "stead's own"}
        seen = await process.actuator(host, own=lambda: own).read(host, mine)
        assert isinstance(seen, Process) and seen.pid == small and not seen.forbidden
        step = process.actuator(host).plan(mine, seen, ABSENT)
        assert step.target == target(host, small) and step.labels["process"].startswith("python")
        gone = Target("cgroup", f"{path}-none", mine.identity)
        assert await process.actuator(host).read(host, gone) == ABSENT
