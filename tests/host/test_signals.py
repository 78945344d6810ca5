"""Signals reach the very process that is meant, or nobody."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stead.host import LocalHost
from stead.host.operations import NotedHost
from stead.host.procfs import parse_stat
from stead.testing import FakeHost
from tests.actuators.children import child


def state(pid: int) -> str:
    return parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).state


def test_it_reaches_the_process_that_is_meant_and_is_noted() -> None:
    host = LocalHost()
    door = NotedHost(host)
    with child() as pid:
        ticks = host.start_ticks(pid)
        assert ticks is not None
        door.signal(pid, ticks, "stop")
        while state(pid) != "T":
            pass
        door.signal(pid, ticks, "continue")
        door.signal(pid, ticks, "kill")
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status == 9  # type: ignore[union-attr]
    assert door.operations == (f"signal(process {pid}, stop)", f"signal(process {pid}, continue)", f"signal(process {pid}, kill)")


def test_a_successor_of_its_pid_gets_nothing() -> None:
    host = LocalHost()
    with child() as pid:
        with pytest.raises(ProcessLookupError):
            host.signal(pid, 1, "kill")
        assert state(pid) in "SR"


def test_what_is_gone_and_what_is_never_signalled() -> None:
    host = LocalHost()
    with child() as pid:
        ticks = host.start_ticks(pid) or 0
    door = NotedHost(host)
    with pytest.raises(ProcessLookupError):
        door.signal(pid, ticks, "kill")
    assert door.operations == (f"signal(process {pid}, kill): ESRCH",)
    for forbidden in (1, 0, -1):
        with pytest.raises(PermissionError):
            host.signal(forbidden, 1, "stop")


class Recorded(FakeHost):
    """A host whose levers are psutil's."""

    asked: list[str]

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path, system="darwin")
        self.asked = []

    def start_ticks(self, pid: int) -> int | None:
        return 42 if pid == 7 else None

    @property
    def psutil(self) -> Any:
        gone, denied = type("NoSuchProcess", (Exception,), {}), type("AccessDenied", (Exception,), {})

        def process(pid: int) -> Any:
            if pid == 9:
                raise denied
            if pid != 7:
                raise gone
            verbs = ("suspend", "resume", "terminate", "kill")
            return SimpleNamespace(**{verb: (lambda verb=verb: self.asked.append(verb)) for verb in verbs})

        return SimpleNamespace(Process=process, NoSuchProcess=gone, AccessDenied=denied)


def test_elsewhere_psutils_own_verbs_are_used(tmp_path: Path) -> None:
    host = Recorded(tmp_path)
    for name in ("stop", "continue", "terminate", "kill"):
        host.signal(7, 42, name)  # type: ignore[arg-type]
    assert host.asked == ["suspend", "resume", "terminate", "kill"]
    with pytest.raises(ProcessLookupError):
        host.signal(7, 41, "kill")
    with pytest.raises(ProcessLookupError):
        host.signal(8, 42, "kill")
    with pytest.raises(PermissionError):
        host.signal(9, 42, "kill")
