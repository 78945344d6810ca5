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
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from stead.protocols import Host

_CAP_SYS_NICE: Final = 23
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


class PsutilScheduler:
    """protocols.Scheduler where the system's own levers are behind psutil. What the system lacks raises OSError."""

    _CLASSES: Final = {64: 19, 16384: 10, 32: 0, 32768: -5, 128: -10, 256: -20}  # Windows priority classes as nice values

    def __init__(self, host: Host) -> None:
        self._host = host

    def nice(self, pid: int) -> int:
        """Read the nice value; on Windows the one nearest to its priority class."""
        value = int(self._ask(pid, lambda process: process.nice()))
        return self._CLASSES.get(value, 0) if self._host.system == "windows" else value

    def set_nice(self, pid: int, nice: int) -> None:
        """Set the nice value; on Windows the priority class nearest to it."""
        if self._host.system == "windows":
            nice = min(self._CLASSES, key=lambda cls: abs(self._CLASSES[cls] - nice))
        self._ask(pid, lambda process: process.nice(nice))

    def policy(self, pid: int) -> tuple[str, int]:
        """There is one class here."""
        self._ask(pid, lambda process: process.nice())
        return "other", 0

    def set_policy(self, pid: int, policy: str, priority: int) -> None:
        """Refuse any class but the one there is."""
        if (policy, priority) != ("other", 0):
            raise OSError(errno.ENOTSUP, f"{self._host.system} has no scheduling class {policy!r}")

    def affinity(self, pid: int) -> tuple[int, ...]:
        """Read the CPUs that it may run on; all of them where the system has no affinity."""
        if not hasattr(self._host.psutil.Process, "cpu_affinity"):
            return tuple(range(self._host.psutil.cpu_count() or 1))
        return tuple(sorted(self._ask(pid, lambda process: process.cpu_affinity())))

    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None:
        """Set the CPUs that it may run on."""
        if not hasattr(self._host.psutil.Process, "cpu_affinity"):
            raise OSError(errno.ENOTSUP, f"{self._host.system} has no CPU affinity")
        self._ask(pid, lambda process: process.cpu_affinity(list(cpus)))

    def ionice(self, pid: int) -> tuple[str, int]:
        """Read the IO priority; ("none", 0) where the system has none."""
        if not hasattr(self._host.psutil.Process, "ionice"):
            return "none", 0
        level = int(self._ask(pid, lambda process: process.ionice()))
        return ("idle", 0) if level == 0 else ("best_effort", level)

    def set_ionice(self, pid: int, cls: str, level: int) -> None:
        """Set the IO priority."""
        if not hasattr(self._host.psutil.Process, "ionice"):
            raise OSError(errno.ENOTSUP, f"{self._host.system} has no IO priority")
        self._ask(pid, lambda process: process.ionice(0 if cls == "idle" else level))

    def autogroup(self, pid: int) -> int | None:
        """There are no autogroups here."""
        return None

    def set_autogroup(self, pid: int, nice: int) -> None:
        """Refuse: there are no autogroups here."""
        raise OSError(errno.ENOTSUP, f"{self._host.system} has no autogroups")

    def can_raise(self) -> bool:
        """Say whether a lowered priority may be raised again."""
        return self._host.system == "windows" or (hasattr(os, "geteuid") and os.geteuid() == 0)

    def _ask(self, pid: int, question: Callable[[Any], Any]) -> Any:
        psutil = self._host.psutil
        try:
            return question(psutil.Process(_real(pid)))
        except psutil.NoSuchProcess as gone:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone") from gone
        except psutil.AccessDenied as denied:
            raise PermissionError(errno.EPERM, f"no permission over process {pid}") from denied


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
