"""Who of a placed process's family stays where it is: what protected work started, and what somebody froze."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stead.actuators.placement import Placement, actuator
from stead.model.change import Target
from stead.model.intent import Intent, Protect
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
