from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stead.host import LocalHost
from stead.host.scheduler import LinuxScheduler, effective_capabilities
from tests.host.processes import sleeper, threaded, threads_of

HOST = LocalHost()
SCHEDULER = LinuxScheduler(HOST)
needs_nice = pytest.mark.skipif(not SCHEDULER.can_raise(), reason="without CAP_SYS_NICE priorities only go down")


@pytest.fixture
def pid() -> Iterator[int]:
    with sleeper() as process:
        yield process.pid


@needs_nice
@pytest.mark.parametrize("nice", [19, 0, -5])
def test_nice_reads_back_what_was_set(pid: int, nice: int) -> None:
    SCHEDULER.set_nice(pid, nice)
    assert SCHEDULER.nice(pid) == nice == os.getpriority(os.PRIO_PROCESS, pid)


@needs_nice
@pytest.mark.parametrize(("policy", "priority"), [("batch", 0), ("idle", 0), ("fifo", 7), ("rr", 3), ("other", 0)])
def test_policy_reads_back_what_was_set(pid: int, policy: str, priority: int) -> None:
    SCHEDULER.set_policy(pid, policy, priority)
    assert SCHEDULER.policy(pid) == (policy, priority)
    SCHEDULER.set_policy(pid, "other", 0)
    assert SCHEDULER.policy(pid) == ("other", 0)


@needs_nice
def test_policy_keeps_the_reset_on_fork_flag(pid: int) -> None:
    flag = os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(pid, os.SCHED_OTHER | flag, os.sched_param(0))
    assert SCHEDULER.policy(pid) == ("other", 0)
    SCHEDULER.set_policy(pid, "batch", 0)
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH | flag


def test_deadline_needs_more_than_a_priority(pid: int) -> None:
    for policy in ("deadline", "fair"):
        with pytest.raises(OSError, match="can't be set"):
            SCHEDULER.set_policy(pid, policy, 0)


def test_affinity_reads_back_what_was_set(pid: int) -> None:
    before = SCHEDULER.affinity(pid)
    SCHEDULER.set_affinity(pid, before[-1:])
    assert SCHEDULER.affinity(pid) == before[-1:]
    SCHEDULER.set_affinity(pid, before)
    assert SCHEDULER.affinity(pid) == before


@pytest.mark.parametrize("wanted", [("best_effort", 6), ("idle", 0), ("best_effort", 0)])
def test_ionice_reads_back_what_was_set(pid: int, wanted: tuple[str, int]) -> None:
    assert SCHEDULER.ionice(pid) == ("none", 0)
    SCHEDULER.set_ionice(pid, *wanted)
    assert SCHEDULER.ionice(pid) == wanted
    SCHEDULER.set_ionice(pid, "none", 0)
    assert SCHEDULER.ionice(pid) == ("none", 0)


@pytest.mark.parametrize(("cls", "level"), [("best_effort", 8), ("urgent", 0), ("best_effort", -1)])
def test_ionice_refuses_what_there_is_not(pid: int, cls: str, level: int) -> None:
    with pytest.raises(OSError, match="no IO priority"):
        SCHEDULER.set_ionice(pid, cls, level)


def test_autogroup_reads_back_what_was_set(pid: int) -> None:
    if SCHEDULER.autogroup(pid) is None:
        pytest.skip("no autogroups in force on this system")
    for nice in (19, -3 if SCHEDULER.can_raise() else 5, 0):
        SCHEDULER.set_autogroup(pid, nice)
        assert SCHEDULER.autogroup(pid) == nice
    assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "0"


@needs_nice
def test_a_setting_moves_the_threads_that_are_alike_and_a_restore_is_exact() -> None:
    with threaded(4) as process:
        leader, *others = threads_of(process.pid)
        os.setpriority(os.PRIO_PROCESS, others[0], 3)
        os.sched_setaffinity(others[1], {0})
        before = [os.getpriority(os.PRIO_PROCESS, tid) for tid in (leader, *others)]
        cpus = [os.sched_getaffinity(tid) for tid in (leader, *others)]
        SCHEDULER.set_nice(process.pid, 11)
        assert [os.getpriority(os.PRIO_PROCESS, tid) for tid in (leader, *others)] == [11, 3, 11, 11]
        SCHEDULER.set_nice(process.pid, 0)
        assert [os.getpriority(os.PRIO_PROCESS, tid) for tid in (leader, *others)] == before
        whole = SCHEDULER.affinity(process.pid)
        SCHEDULER.set_affinity(process.pid, whole[-1:])
        SCHEDULER.set_affinity(process.pid, whole)
        assert [os.sched_getaffinity(tid) for tid in (leader, *others)] == cpus


def calls() -> dict[str, Callable[[LinuxScheduler, int], Any]]:
    return {
        "nice": lambda s, pid: s.nice(pid),
        "set_nice": lambda s, pid: s.set_nice(pid, 1),
        "policy": lambda s, pid: s.policy(pid),
        "set_policy": lambda s, pid: s.set_policy(pid, "batch", 0),
        "affinity": lambda s, pid: s.affinity(pid),
        "set_affinity": lambda s, pid: s.set_affinity(pid, [0]),
        "ionice": lambda s, pid: s.ionice(pid),
        "set_ionice": lambda s, pid: s.set_ionice(pid, "idle", 0),
        "autogroup": lambda s, pid: s.autogroup(pid),
        "set_autogroup": lambda s, pid: s.set_autogroup(pid, 1),
        "uclamp": lambda s, pid: s.uclamp(pid),
        "set_uclamp": lambda s, pid: s.set_uclamp(pid, None, 1024),
    }


@pytest.mark.parametrize("name", calls())
def test_a_process_that_is_gone_is_a_lookup_error(name: str) -> None:
    with sleeper() as process:
        pass
    with pytest.raises(ProcessLookupError):
        calls()[name](SCHEDULER, process.pid)


@pytest.mark.parametrize("name", sorted(calls().keys()))
@pytest.mark.parametrize("pid", [0, -1])
def test_no_process_id_means_the_caller_or_a_group(name: str, pid: int) -> None:
    """The system calls take 0 for the caller and -1 for everybody."""
    before = SCHEDULER.nice(os.getpid()), SCHEDULER.affinity(os.getpid())
    with pytest.raises(ValueError, match="not a process id"):
        calls()[name](SCHEDULER, pid)
    assert (SCHEDULER.nice(os.getpid()), SCHEDULER.affinity(os.getpid())) == before


class Knobs:
    """Files in memory; the first writes fail as the kernel's rate limit makes them."""

    def __init__(self, files: dict[str, str], refusals: int = 0) -> None:
        self.files = files
        self.refusals = refusals
        self.written: list[bytes] = []

    def read(self, path: str, limit: int = 0) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self.files[path].encode()

    def write(self, path: str, data: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError(errno.EAGAIN, "try again")
        self.written.append(data)

    def list(self, path: str) -> list[str]:
        return ["7"] if "/proc/7/stat" in self.files else []


GROUPED = {"/proc/7/stat": "7", "/proc/7/autogroup": "/autogroup-3 nice -4\n"}


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("stead.host.scheduler.time", SimpleNamespace(sleep=waits.append))
    return waits


def test_an_autogroup_write_waits_out_the_rate_limit(no_waiting: list[float]) -> None:
    knobs = Knobs(GROUPED, refusals=3)
    LinuxScheduler(knobs).set_autogroup(7, 19)
    assert knobs.written == [b"19"]
    assert no_waiting == [0.11] * 3


def test_an_autogroup_write_gives_up_in_the_end(no_waiting: list[float]) -> None:
    knobs = Knobs(GROUPED, refusals=100)
    with pytest.raises(BlockingIOError):
        LinuxScheduler(knobs).set_autogroup(7, 19)
    assert knobs.written == []
    assert sum(no_waiting) < 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, -4),
        ({"/proc/7/autogroup": ""}, None),
        ({"/proc/sys/kernel/sched_autogroup_enabled": "0\n"}, None),
        ({"/proc/sys/kernel/sched_autogroup_enabled": "1\n"}, -4),
        ({"/proc/7/cgroup": "4:cpu,cpuacct:/\n0::/x\n"}, -4),
        ({"/proc/7/cgroup": "4:cpu,cpuacct:/limited\n0::/\n"}, None),
        ({"/proc/7/cgroup": "0::/user.slice/s\n", "/sys/fs/cgroup/user.slice/cgroup.controllers": "cpuset cpu\n"}, None),
        ({"/proc/7/cgroup": "0::/user.slice/s\n", "/sys/fs/cgroup/user.slice/cgroup.controllers": "cpuset memory\n"}, -4),
        ({"/proc/7/cgroup": "0::/user.slice/s\n"}, -4),
    ],
)
def test_an_autogroup_that_counts_for_nothing_is_none(files: dict[str, str], expected: int | None) -> None:
    assert LinuxScheduler(Knobs({**GROUPED, **files})).autogroup(7) == expected


def test_a_kernel_without_autogroups_has_none() -> None:
    assert LinuxScheduler(Knobs({"/proc/7/stat": "7"})).autogroup(7) is None


def test_only_the_effective_capabilities_count() -> None:
    status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000800000\n"
    assert effective_capabilities(status) == 1 << 23
    assert LinuxScheduler(Knobs({"/proc/self/status": status})).can_raise()
    dropped = status.replace("0000000000800000", "000001ffff7fffff")
    assert not LinuxScheduler(Knobs({"/proc/self/status": dropped})).can_raise()
    assert not LinuxScheduler(Knobs({})).can_raise()
