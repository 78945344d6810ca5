"""The scheduler's levers for one process, each readable and settable. Every call raises ProcessLookupError when it is gone.

On Linux nice, policy, affinity and IO priority belong to single threads, so a setting made for a process moves the leader
and with it every thread that shares the leader's value; a thread that somebody set apart stays apart, and a restore puts
back exactly what was moved. The leader goes first: what an interrupted setting leaves behind still has its old value.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from stead.protocols import Lever

_CAP_SYS_NICE: Final = 23
SYSCTL: Final = "/proc/sys/kernel/sched_util_clamp_max"  # there where the kernel has utilisation clamps
_POLICIES: Final = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline"}
_POLICY_NUMBERS: Final = {name: number for number, name in _POLICIES.items()}
_RESET_ON_FORK: Final = 0x40000000
_AUTOGROUP_TRIES: Final = 6
_AUTOGROUP_WAIT_S: Final = 0.11  # the kernel takes one write each 100 ms from the unprivileged

V = TypeVar("V")


class _Files(Protocol):
    """The part of `Host` that is needed here."""

    def read(self, path: str, limit: int = 1 << 20) -> bytes: ...
    def write(self, path: str, data: bytes) -> None: ...
    def list(self, path: str) -> list[str]: ...


class LinuxScheduler:
    """protocols.Scheduler by system calls and /proc."""

    def __init__(self, host: _Files) -> None:
        self._host = host

    def nice(self, pid: int) -> int:
        """Read the leader's nice value."""
        return os.getpriority(os.PRIO_PROCESS, _real(pid))

    def set_nice(self, pid: int, nice: int) -> None:
        """Set the nice value. PermissionError without CAP_SYS_NICE when it goes down."""
        self._each_thread(pid, self.nice, lambda tid: os.setpriority(os.PRIO_PROCESS, tid, nice))

    def policy(self, pid: int) -> tuple[str, int]:
        """Read the scheduling class and its static priority."""
        number = os.sched_getscheduler(_real(pid)) & ~_RESET_ON_FORK
        return _POLICIES.get(number, str(number)), os.sched_getparam(pid).sched_priority

    def set_policy(self, pid: int, policy: str, priority: int) -> None:
        """Set the scheduling class; the reset-on-fork flag stays as it is. OSError for one that needs more parameters."""
        number = _POLICY_NUMBERS.get(policy)
        if number is None or policy == "deadline":
            raise OSError(errno.EINVAL, f"the scheduling class {policy!r} can't be set by a priority alone")

        def write(tid: int) -> None:
            flag = os.sched_getscheduler(tid) & _RESET_ON_FORK
            os.sched_setscheduler(tid, number | flag, os.sched_param(priority))

        self._each_thread(pid, self.policy, write)

    def affinity(self, pid: int) -> tuple[int, ...]:
        """Read the CPUs that it may run on, in order."""
        return tuple(sorted(os.sched_getaffinity(_real(pid))))

    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None:
        """Set the CPUs that it may run on."""
        self._each_thread(pid, self.affinity, lambda tid: os.sched_setaffinity(tid, cpus))

    def ionice(self, pid: int) -> tuple[str, int]:
        """Read the IO class and level."""
        from stead.host.ioprio import get

        return get(_real(pid))

    def set_ionice(self, pid: int, cls: str, level: int) -> None:
        """Set the IO class and level."""
        from stead.host.ioprio import put

        self._each_thread(pid, self.ionice, lambda tid: put(tid, cls, level))

    def autogroup(self, pid: int) -> int | None:
        """Read the nice value of the process's autogroup (its session's share of CPU). None: no autogroup is in force.

        The kernel shows a value even where it counts for nothing: autogroups switched off, or a CPU control group in charge.
        """
        try:
            text = self._host.read(f"/proc/{_real(pid)}/autogroup", 256).decode()
        except FileNotFoundError:
            self._check_alive(pid)
            return None
        if not text.strip() or not self._autogroups_enabled() or self._cpu_controlled(pid):
            return None
        return int(text.split()[-1])

    def set_autogroup(self, pid: int, nice: int) -> None:
        """Set the nice value of the process's autogroup, for all of its session. Waits ≤ 0.6 s for the kernel's rate limit."""
        for attempt in range(_AUTOGROUP_TRIES):
            try:
                self._host.write(f"/proc/{_real(pid)}/autogroup", str(nice).encode())
                return
            except FileNotFoundError:
                raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone, or the kernel has no autogroups") from None
            except (BlockingIOError, InterruptedError):
                if attempt == _AUTOGROUP_TRIES - 1:
                    raise
                time.sleep(_AUTOGROUP_WAIT_S)

    def uclamp(self, pid: int) -> tuple[int, int] | None:
        """Read the leader's lower and upper utilisation clamp, 0 to 1024. None: this kernel has none."""
        self.nice(pid)  # whether it is there
        if self.lacks("uclamp"):
            return None
        from stead.host.uclamp import get

        return get(pid)

    def set_uclamp(self, pid: int, low: int | None, high: int | None) -> None:
        """Set one or both utilisation clamps. OSError where the kernel has none."""
        from stead.host.uclamp import get, put

        self.nice(pid)
        why = self.lacks("uclamp")
        if why:
            raise OSError(errno.EOPNOTSUPP, why)
        self._each_thread(pid, get, lambda tid: put(tid, low, high))

    def lacks(self, lever: Lever) -> str:
        """Say why a lever is not to be had here; empty when it is."""
        if lever != "uclamp":
            return ""
        try:
            self._host.read(SYSCTL, 16)
        except OSError:
            return "this kernel has no utilisation clamps (CONFIG_UCLAMP_TASK)"
        return ""

    def rounded_nice(self, nice: int) -> int:
        """The value that there will be."""
        return max(-20, min(19, nice))

    def rounded_ionice(self, cls: str, level: int) -> tuple[str, int]:
        """The class and level that there will be: none and idle have no levels."""
        return cls, max(0, min(7, level)) if cls in ("best_effort", "realtime") else 0

    def can_raise(self) -> bool:
        """Say whether a lowered priority may be raised again: CAP_SYS_NICE is in force."""
        try:
            status = self._host.read("/proc/self/status", 1 << 16).decode(errors="replace")
        except OSError:
            return False
        return effective_capabilities(status) >> _CAP_SYS_NICE & 1 == 1

    def _each_thread(self, pid: int, get: Callable[[int], V], write: Callable[[int], None]) -> None:
        """Write the leader, then the threads whose value was the leader's."""
        before = get(pid)
        alike = [tid for tid in self._threads(pid) if tid != pid and _still(get, tid) == before]
        write(pid)
        for tid in alike:
            try:
                write(tid)
            except ProcessLookupError:
                continue  # a thread that ended meanwhile

    def _check_alive(self, pid: int) -> None:
        if not self._threads(pid):
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone")

    def _threads(self, pid: int) -> list[int]:
        try:
            return [int(tid) for tid in self._host.list(f"/proc/{pid}/task")]
        except OSError:
            return []

    def _autogroups_enabled(self) -> bool:
        try:
            return self._host.read("/proc/sys/kernel/sched_autogroup_enabled", 16).strip() != b"0"
        except OSError:
            return True

    def _cpu_controlled(self, pid: int) -> bool:
        """Say whether a CPU control group, and so not the autogroup, decides the process's share."""
        try:
            groups = self._host.read(f"/proc/{pid}/cgroup", 1 << 16).decode(errors="replace")
        except OSError:
            return False
        for line in groups.splitlines():
            hierarchy, controllers, path = line.split(":", 2)
            if "cpu" in controllers.split(","):
                return path != "/"
            if hierarchy == "0" and path != "/" and self._has_cpu_controller(path.split("/")[1]):
                return True
        return False

    def _has_cpu_controller(self, group: str) -> bool:
        try:
            return b"cpu" in self._host.read(f"/sys/fs/cgroup/{group}/cgroup.controllers", 4096).split()
        except OSError:
            return False


def effective_capabilities(status: str) -> int:
    """Parse the bits of CapEff in /proc/PID/status; 0 when there is no such line."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _real(pid: int) -> int:
    """Refuse 0 and below: the system calls take them for the caller itself, or for a whole group."""
    if pid <= 0:
        raise ValueError(f"{pid} is not a process id")
    return pid


def _still(get: Callable[[int], V], tid: int) -> V | None:
    try:
        return get(tid)
    except ProcessLookupError:
        return None
