"""`placement` on this machine's real groups and on a recorded tree of version 2; what it refuses; what a crash leaves."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.placement import Placement, PlacementActuator, actuator
from stead.cgroups.own_groups import made, own_path
from stead.flow.write import between, to_record
from stead.host import LocalHost
from stead.model.change import ABSENT, Step, Target
from stead.model.errors import SteadError
from stead.model.intent import Intent, Protect
from stead.testing.actuators import CHECKS, Case
from tests.actuators.children import target
from tests.cgroups.groups import group, placed, put, real_groups
from tests.cgroups.recorded import RecordedHost

PID, TICKS = 4711, 500
FORKS = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
BUSY = "\nwhile True: pass"


def recorded(tmp_path: Path, systemd: int = 0) -> tuple[RecordedHost, Any, Target]:
    host = RecordedHost(tmp_path, systemd)
    host.process(PID, "hog", ticks=TICKS)
    host._move("/sys/fs/cgroup/cgroup.procs", str(PID))
    return host, actuator(host), Target("process", str(PID), {"start_ticks": str(TICKS), "boot_id": host.boot_id})


async def planned(placement: Any, host: Any, thing: Target, **want: Any) -> Step:
    return placement.plan(thing, await placement.read(host, thing), Placement(**{"group": "best-effort", **want}))


async def moved(placement: Any, host: Any, thing: Target, **want: Any) -> Step:
    step = await planned(placement, host, thing, **want)
    await placement.write(host, thing, msgspec.convert(step.want, Placement))
    return step


async def put_back(placement: Any, host: Any, step: Step) -> None:
    await placement.write(host, step.target, msgspec.convert(step.before, Placement))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_conforms_on_version_2(tmp_path, check):
    host, placement, mine = recorded(tmp_path)
    states = (Placement(group="best-effort"), Placement(group="best-effort", cpu_max_percent=40.0, frozen=True))
    successor = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
    absent = msgspec.structs.replace(mine, identity={**mine.identity, "boot_id": "another"})
    await check(Case(placement, host, mine, states, absent, successor))


async def test_the_group_is_idle_as_a_whole_and_nothing_is_left_of_it(tmp_path):
    host, placement, mine = recorded(tmp_path)
    step = await moved(placement, host, mine, cpu_max_percent=50.0)
    assert host.read("/sys/fs/cgroup/stead/cpu.idle") == b"1\n"
    assert host.read(f"/sys/fs/cgroup{own_path(PID, TICKS)}/cpu.max") == b"50000 100000\n"
    assert host.read("/sys/fs/cgroup/stead/cgroup.subtree_control") == b"+cpu\n"
    await put_back(placement, host, step)
    assert host.inode("/sys/fs/cgroup/stead") is None and host.read(f"/proc/{PID}/cgroup") == b"0::/\n"


async def test_what_held_it_is_taken_off_also_when_it_is_protected_by_now(tmp_path):
    host, placement, mine = recorded(tmp_path)
    await moved(placement, host, mine)
    step = await moved(placement, host, mine, cpu_max_percent=40.0)
    later: Any = actuator(host, intent=Intent((Protect(("process:hog",)),)))
    with pytest.raises(SteadError, match="protected"):
        await later.write(host, mine, Placement(group="best-effort", cpu_max_percent=30.0))
    await later.put_back(host, mine, msgspec.convert(step.before, Placement))
    assert (await later.read(host, mine)).cpu_max_percent == "max"


async def test_a_kernel_without_idle_groups_gives_it_the_least_weight(tmp_path):
    host, placement, mine = recorded(tmp_path)
    host.group("/stead", controllers=("cpu",))
    host.remove("/sys/fs/cgroup/stead/cpu.idle")
    await moved(placement, host, mine)
    assert host.read("/sys/fs/cgroup/stead/cpu.weight") == b"1\n"


async def test_what_is_left_of_those_that_ended_is_swept_by_the_next(tmp_path):
    host, placement, mine = recorded(tmp_path)
    for name in ("99-1", f"{PID}-1", "by-hand"):
        made(host, placement.groups, f"/stead/{name}", "cpu")
    made(host, placement.groups, "/stead/98-1", "cpu")
    host.put("/sys/fs/cgroup/stead/98-1/cgroup.procs", "5000\n")
    await moved(placement, host, mine)
    assert placement.groups.children("/stead") == (own_path(PID, TICKS), "/stead/98-1", "/stead/by-hand")


async def test_its_share_is_moved_while_it_stays_there(tmp_path):
    host, placement, mine = recorded(tmp_path)
    step = await moved(placement, host, mine, cpu_max_percent=100.0)
    for percent in (60.0, 85.0, 1.0):
        await placement.write(host, mine, msgspec.structs.replace(msgspec.convert(step.want, Placement), cpu_max_percent=percent))
        assert (await placement.read(host, mine)).cpu_max_percent == percent
    await put_back(placement, host, step)
    assert await placement.read(host, mine) == Placement("/", "max", False, False)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda host: host.put("/run/systemd/system/.there", ""), "systemd is the manager here"),
        (lambda host: host.put(f"/proc/{PID}/cgroup", "0::/batch/some\n"), "it is in /batch/some, which somebody made for it"),
        (lambda host: host.scheduler.set_policy(PID, "fifo", 10), "a fifo process has no place"),
        (lambda host: host.process(99, "cgrulesengd"), r"cgrulesengd runs here \(process 99\)"),
        (lambda host: host.put(f"/proc/{PID}/stat", (host.read(f"/proc/{PID}/stat").decode().replace("(hog)", "(sshd)"))), "ssh"),
        (lambda host: host.put("/sys/fs/cgroup/cgroup.controllers", "io memory"), "no tree here has the cpu controller"),
        (lambda host: host.put("/sys/fs/cgroup/cgroup.subtree_control", "memory"), "not enabled for groups below the root"),
    ],
)
async def test_what_is_not_steads_to_move_is_refused(tmp_path, prepare, words):
    host, _, mine = recorded(tmp_path)
    prepare(host)
    with pytest.raises(SteadError, match=words):
        await planned(actuator(host), host, mine)
    with pytest.raises(SteadError, match=words):
        await actuator(host).write(host, mine, Placement(group="best-effort"))
    assert host.inode("/sys/fs/cgroup/stead") is None


@pytest.mark.parametrize(
    ("want", "words"),
    [
        ({"group": "/somewhere"}, "/somewhere is none"),
        ({"cpu_max_percent": 0.2}, "less than the 1 %"),
        ({"group": "/", "frozen": True}, "only what is in a group of its own"),
    ],
)
async def test_what_can_not_be_wanted_is_refused(tmp_path, want, words):
    host, placement, mine = recorded(tmp_path)
    with pytest.raises(SteadError, match=words):
        await planned(placement, host, mine, **want)


async def test_what_holds_it_there_stands_on_its_being_there(tmp_path):
    host, placement, mine = recorded(tmp_path)
    await moved(placement, host, mine)
    step = await planned(placement, host, mine, cpu_max_percent=50.0)
    assert step.diff == {"cpu_max_percent": ("max", 50.0)} and "group" in (step.want or {}) and not step.note


@pytest.mark.parametrize("end", ["stead/cpu.idle", "stead/cgroup.subtree_control", f"{PID}-{TICKS}/cgroup.procs"])
async def test_what_the_kernel_refuses_leaves_no_group_or_can_be_put_back(tmp_path, end):
    host, placement, mine = recorded(tmp_path)
    step = await planned(placement, host, mine)
    host.refuses[end] = OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(SteadError, match=r"the kernel refused .* with EROFS: control groups are mounted read-only here"):
        await placement.write(host, mine, msgspec.convert(step.want, Placement))
    if not placement.met(await placement.read(host, mine), msgspec.convert(step.before, Placement)):
        await put_back(placement, host, step)
    assert host.inode("/sys/fs/cgroup/stead") is None


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_another_stead_that_takes_the_empty_folder_away_is_met_by_making_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    host, placement, thing = recorded(tmp_path)
    step = await planned(placement, host, thing)
    make, left = host.make_folder, [times]

    def made_too_late(path: str) -> None:
        if "/stead/" in path and left[0]:
            left[0] -= 1
            host.remove_folder(path.rpartition("/")[0])
        make(path)

    monkeypatch.setattr(host, "make_folder", made_too_late)
    if times == 3:
        with pytest.raises(SteadError, match="the kernel refused a group below /stead with ENOENT"):
            await placement.write(host, thing, msgspec.convert(step.want, Placement))
    else:
        await placement.write(host, thing, msgspec.convert(step.want, Placement))
        await put_back(placement, host, step)
    assert host.inode("/sys/fs/cgroup/stead") is None


async def test_to_be_held_is_to_be_in_ones_own(tmp_path):
    host, placement, mine = recorded(tmp_path)
    step = await planned(placement, host, mine, group=None, cpu_max_percent=50.0)
    assert step.want == {"group": own_path(PID, TICKS), "cpu_max_percent": 50.0, "made": True}


async def test_what_a_crash_left_before_the_move_is_taken_away(tmp_path):
    host, placement, mine = recorded(tmp_path)
    step = await planned(placement, host, mine, cpu_max_percent=50.0)
    made(host, placement.groups, own_path(PID, TICKS), "cpu")  # and was killed here
    seen = await placement.read(host, mine)
    assert not placement.met(seen, msgspec.convert(step.before, Placement))
    assert between(to_record(seen), step.before, step.want)
    await put_back(placement, host, step)
    assert host.inode("/sys/fs/cgroup/stead") is None
    assert placement.met(await placement.read(host, mine), msgspec.convert(step.before, Placement))


async def test_a_process_that_ends_at_the_move_leaves_no_group(tmp_path):
    host, placement, mine = recorded(tmp_path)
    step = await planned(placement, host, mine)
    host.refuses["0/cgroup.procs"] = ProcessLookupError(errno.ESRCH, "No such process")
    with pytest.raises(ProcessLookupError):
        await placement.write(host, mine, msgspec.convert(step.want, Placement))
    assert host.inode("/sys/fs/cgroup/stead") is None


async def test_when_it_has_ended_what_it_started_is_put_back_still(tmp_path):
    host, placement, mine = recorded(tmp_path)
    step = await moved(placement, host, mine)
    host.process(5000, "child")
    host._move(f"/sys/fs/cgroup{own_path(PID, TICKS)}/cgroup.procs", "5000")
    host.remove(f"/proc/{PID}/stat")
    assert (await placement.read(host, mine)).group == own_path(PID, TICKS)
    host.put(f"/sys/fs/cgroup{own_path(PID, TICKS)}/cgroup.procs", "5000\n")
    await put_back(placement, host, step)
    assert host.read("/proc/5000/cgroup") == b"0::/\n" and await placement.read(host, mine) == ABSENT


async def test_it_comes_back_with_what_it_started_meanwhile():
    host, groups = real_groups()
    placement = actuator(host)
    with placed(groups) as pid:
        mine = target(host, pid)
        step = await moved(placement, host, mine)
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        try:
            put(groups, str(step.want["group"]), child.pid, ("cpu",))
            await put_back(placement, host, step)
            assert groups.path_of(child.pid, "cpu") == groups.path_of(pid, "cpu") == "/"
            assert groups.id_of(str(step.want["group"])) is None
        finally:
            child.kill()
            child.wait()


async def test_it_is_not_taken_out_of_a_real_group():
    host, groups = real_groups()
    with placed(groups) as pid, group(groups, ("cpu",)) as path:
        put(groups, path, pid, ("cpu",))
        with pytest.raises(SteadError, match=f"it is in {path}"):
            await planned(actuator(host), host, target(host, pid))


async def test_a_frozen_one_really_stands_still():
    host, groups = real_groups()
    placement = actuator(host)
    with placed(groups, BUSY) as pid:
        mine = target(host, pid)
        step = await moved(placement, host, mine, frozen=True)
        used = _ticks(host, pid)
        time.sleep(0.3)
        assert _ticks(host, pid) == used
        await put_back(placement, host, step)
        _until_it_runs(host, pid, used)


@pytest.mark.alone
async def test_beside_others_it_gets_what_they_leave():
    """Two hogs of different sessions on one CPU: nice does nothing between those, the group does."""
    host, groups = real_groups()
    placement: PlacementActuator = actuator(host)  # type: ignore[assignment]
    cpu = {max(os.sched_getaffinity(0))}
    with placed(groups, f"import os; os.setsid(); os.sched_setaffinity(0, {cpu}){BUSY}") as hog:
        with placed(groups, f"import os; os.setsid(); os.sched_setaffinity(0, {cpu}){BUSY}") as other:
            step = await moved(placement, host, target(host, hog))
            began = _ticks(host, hog), _ticks(host, other)
            time.sleep(2.0)
            ran = _ticks(host, hog) - began[0], _ticks(host, other) - began[1]
            await put_back(placement, host, step)
    assert ran[1] > 10 * ran[0], f"the placed one ran {ran[0]} ticks beside {ran[1]}"


def _ticks(host: LocalHost, pid: int) -> int:
    fields = host.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def _until_it_runs(host: LocalHost, pid: int, used: int) -> None:
    until = time.monotonic() + 20
    while _ticks(host, pid) == used:
        assert time.monotonic() < until, "it does not run again"
        time.sleep(0.02)
