from __future__ import annotations

from pathlib import Path

import pytest

from stead.host import LocalHost
from stead.host.psutil_scheduler import PsutilScheduler
from stead.host.scheduler import LinuxScheduler
from tests.host.elsewhere import PID, ElsewhereHost
from tests.host.processes import sleeper

HOST = LocalHost()


def test_psutil_levers_move_a_real_process() -> None:
    linux, scheduler = LinuxScheduler(HOST), PsutilScheduler(HOST)
    with sleeper() as process:
        pid = process.pid
        scheduler.set_nice(pid, 5)
        assert scheduler.nice(pid) == 5 == linux.nice(pid)
        scheduler.set_affinity(pid, scheduler.affinity(pid)[:1])
        assert scheduler.affinity(pid) == linux.affinity(pid)
        assert scheduler.policy(pid) == ("other", 0)
        assert scheduler.autogroup(pid) is None and scheduler.uclamp(pid) is None
        for refused in (
            lambda: scheduler.set_autogroup(pid, 5),
            lambda: scheduler.set_policy(pid, "idle", 0),
            lambda: scheduler.set_uclamp(pid, None, 100),
        ):
            with pytest.raises(OSError, match="has no"):
                refused()


def test_psutil_levers_say_when_a_process_is_gone_and_take_none_for_everybody() -> None:
    with sleeper() as process:
        pass
    with pytest.raises(ProcessLookupError):
        PsutilScheduler(HOST).nice(process.pid)
    for pid in (0, -1):
        with pytest.raises(ValueError, match="not a process id"):
            PsutilScheduler(HOST).nice(pid)


@pytest.mark.parametrize(
    ("nice", "priority_class", "reads"), [(19, 64, 19), (10, 16384, 10), (0, 32, 0), (-5, 32768, -5), (-12, 128, -10), (5, 32, 0)]
)
def test_windows_classes_stand_for_nice_values(tmp_path: Path, nice: int, priority_class: int, reads: int) -> None:
    host = ElsewhereHost(tmp_path, "windows")
    host.scheduler.set_nice(PID, nice)
    assert host.stand_in.state["nice"] == priority_class
    assert host.scheduler.nice(PID) == host.scheduler.rounded_nice(nice) == reads


@pytest.mark.parametrize(
    ("wanted", "number", "reads"),
    [
        (("idle", 0), 0, ("idle", 0)),
        (("best_effort", 7), 1, ("best_effort", 7)),
        (("best_effort", 4), 2, ("none", 0)),
        (("none", 0), 2, ("none", 0)),
        (("best_effort", 1), 3, ("best_effort", 0)),
        (("realtime", 4), 3, ("best_effort", 0)),
    ],
)
def test_windows_io_priorities_stand_for_classes_and_levels(
    tmp_path: Path, wanted: tuple[str, int], number: int, reads: tuple[str, int]
) -> None:
    host = ElsewhereHost(tmp_path, "windows")
    host.scheduler.set_ionice(PID, *wanted)
    assert host.stand_in.state["ionice"] == number
    assert host.scheduler.ionice(PID) == host.scheduler.rounded_ionice(*wanted) == reads


def test_what_windows_forbids_is_a_permission_error(tmp_path: Path) -> None:
    host = ElsewhereHost(tmp_path, "windows")
    host.stand_in.state["privileged"] = False
    with pytest.raises(PermissionError, match=f"process {PID}"):
        host.scheduler.set_ionice(PID, "best_effort", 0)


def test_macos_has_nice_alone_and_says_so(tmp_path: Path) -> None:
    host = ElsewhereHost(tmp_path, "darwin")
    levers = host.scheduler
    levers.set_nice(PID, 25)
    assert levers.nice(PID) == 20 == levers.rounded_nice(25)
    assert (levers.ionice(PID), levers.affinity(PID)) == (("none", 0), (0, 1, 2, 3))
    told = {name: levers.lacks(name) for name in ("nice", "policy", "affinity", "ionice", "autogroup", "uclamp")}  # type: ignore[arg-type]
    assert told.pop("nice") == ""
    assert all(why.startswith("darwin has no ") for why in told.values())
    for refused in (lambda: levers.set_ionice(PID, "idle", 0), lambda: levers.set_affinity(PID, [0])):
        with pytest.raises(OSError, match="darwin has no"):
            refused()
