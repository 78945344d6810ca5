"""Who of a placed process's family stays where it is: what protected work started, and what somebody froze."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from stead.actuators.placement import Placement, actuator
from stead.cgroups import own_groups
from stead.model.change import Target
from stead.model.errors import SteadError
from stead.model.intent import Intent, Protect
from tests.actuators.children import target
from tests.cgroups.groups import placed, real_groups
from tests.cgroups.recorded import RecordedHost


def family(tmp_path: Path, mounts: str = "v2") -> tuple[RecordedHost, Target]:
    """A hog that started `dear`, which started `rsync`; and `plain` beside them."""
    host = RecordedHost(tmp_path, mounts=mounts)
    for pid, name, children in ((10, "hog", "11 13"), (11, "dear", "12"), (12, "rsync", ""), (13, "plain", "")):
        host.process(pid, name)
        host.put(f"/proc/{pid}/task/{pid}/children", children)
    return host, Target("process", "10", {"start_ticks": "500", "boot_id": host.boot_id})


async def test_what_protected_work_started_stays_with_it(tmp_path: Path) -> None:
    host, hog = family(tmp_path)
    placement: Any = actuator(host, intent=Intent((Protect(("process:dear",)),)))
    await placement.write(host, hog, Placement(group="best-effort"))
    assert {pid: host.read(f"/proc/{pid}/cgroup") for pid in (10, 11, 12, 13)} == {
        10: b"0::/stead/10-500\n",
        11: b"0::/\n",
        12: b"0::/\n",
        13: b"0::/stead/10-500\n",
    }


@pytest.mark.parametrize(("frozen_in", "goes"), [("/", True), ("/somebodys", False)])
def test_what_is_in_somebodys_freezer_group_is_left_there(tmp_path: Path, frozen_in: str, goes: bool) -> None:
    host, _ = family(tmp_path, "hybrid")
    host.put("/proc/13/cgroup", f"5:freezer:{frozen_in}\n1:cpu:/\n0::/\n")
    placement: Any = actuator(host)
    assert placement._goes_with_it(host, 13) is goes


async def test_what_is_protected_by_now_is_neither_frozen_nor_capped_with_the_one_that_started_it(tmp_path: Path) -> None:
    host, hog = family(tmp_path)
    placement: Any = actuator(host, intent=Intent((Protect(("process:dear",)),)))
    await placement.write(host, hog, Placement(group="best-effort", cpu_max_percent=50.0))
    host._move("/sys/fs/cgroup/stead/10-500/cgroup.procs", "11")  # the hog has started it in there
    now = await placement.read(host, hog)
    for want in (Placement(group="best-effort", frozen=True), Placement(group="best-effort", cpu_max_percent=20.0)):
        with pytest.raises(SteadError, match="process 11 is dear, which is to be protected"):
            placement.plan(hog, now, want)
        with pytest.raises(SteadError, match="process 11"):
            await placement.write(host, hog, want)
    await placement.write(host, hog, Placement(group="best-effort", cpu_max_percent=80.0))
    await placement.put_back(host, hog, Placement(group="/"))
    assert host.read("/proc/11/cgroup") == b"0::/\n"


async def test_who_can_not_be_moved_at_once_is_frozen_all_the_same_and_who_ended_is_no_reason_to_give_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, groups = real_groups()
    forks = "import os, time; [os.fork() for _ in range(3)]; time.sleep(600)"
    with placed(groups, forks) as pid:
        mine, move, missed = target(host, pid), own_groups.move, list[int]()
        placement: Any = actuator(host)

        def moved(at: Any, folder: str, one: int) -> None:
            if "freezer" in folder and one != pid and not missed:
                missed.append(one)
                raise ProcessLookupError(f"process {one} is gone")
            move(at, folder, one)

        monkeypatch.setattr(own_groups, "move", moved)
        family = (pid, *own_groups.descendants(host, pid))
        try:
            await placement.write(host, mine, Placement(group="best-effort", frozen=True))
            assert missed and (await placement.read(host, mine)).frozen is True
            assert {groups.path_of(one, "freezer") for one in family} == {own_groups.own_path(pid, str(host.start_ticks(pid)))}
        finally:
            await placement.put_back(host, mine, Placement(group="/"))
            for one in family[1:]:
                os.kill(one, signal.SIGKILL)
