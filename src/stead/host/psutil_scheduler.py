"""The levers of one process where the system's own are behind psutil: macOS and Windows. What a system lacks, it says.

macOS has nice alone. Windows has six priority classes, which stand for nice values here, four IO priorities, which stand for
classes and levels, and affinity. A value between two that there are is rounded to the nearer, the milder where both are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stead.protocols import Host, Lever

_CLASSES: Final = {32: 0, 16384: 10, 64: 19, 32768: -5, 128: -10, 256: -20}  # Windows priority classes as nice values
_IO: Final = {2: ("none", 0), 1: ("best_effort", 7), 0: ("idle", 0), 3: ("best_effort", 0)}  # its IO priorities: normal, low, …
_WINDOWS: Final = "windows"
_LIMITS: Final = {"darwin": (-20, 20)}


class PsutilScheduler:
    """protocols.Scheduler by psutil. What the system lacks raises OSError, and `lacks` tells it before."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def lacks(self, lever: Lever) -> str:
        """Say why a lever is not to be had here; empty when it is."""
        names = {"affinity": ("cpu_affinity", "CPU affinity"), "ionice": ("ionice", "IO priority")}
        if lever in names and not hasattr(self._host.psutil.Process, names[lever][0]):
            return f"{self._host.system} has no {names[lever][1]}"
        words = {"policy": "scheduling classes", "autogroup": "autogroups", "uclamp": "utilisation clamps"}
        return f"{self._host.system} has no {words[lever]}" if lever in words else ""

    def rounded_nice(self, nice: int) -> int:
        """The value that there will be: on Windows the one of the nearest priority class."""
        if self._host.system == _WINDOWS:
            return min(_CLASSES.values(), key=lambda value: abs(value - nice))
        low, high = _LIMITS.get(self._host.system, (-20, 19))
        return max(low, min(high, nice))

    def rounded_ionice(self, cls: str, level: int) -> tuple[str, int]:
        """The class and level that there will be: the nearest IO priority."""
        if cls == "best_effort":
            return _IO[1] if level > 5 else _IO[2] if level > 2 else _IO[3]
        return _IO[0] if cls == "idle" else _IO[3] if cls == "realtime" else _IO[2]

    def nice(self, pid: int) -> int:
        """Read the nice value; on Windows the one that its priority class stands for."""
        value = int(self._ask(pid, lambda process: process.nice()))
        return _CLASSES.get(value, 0) if self._host.system == _WINDOWS else value

    def set_nice(self, pid: int, nice: int) -> None:
        """Set the nice value; on Windows the priority class nearest to it."""
        value = self.rounded_nice(nice)
        if self._host.system == _WINDOWS:
            value = next(cls for cls, stands_for in _CLASSES.items() if stands_for == value)
        self._ask(pid, lambda process: process.nice(value))

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
        if self.lacks("affinity"):
            return tuple(range(self._host.psutil.cpu_count() or 1))
        return tuple(sorted(self._ask(pid, lambda process: process.cpu_affinity())))

    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None:
        """Set the CPUs that it may run on."""
        self._need("affinity")
        self._ask(pid, lambda process: process.cpu_affinity(list(cpus)))

    def ionice(self, pid: int) -> tuple[str, int]:
        """Read the IO priority; ("none", 0) where the system has none."""
        if self.lacks("ionice"):
            return "none", 0
        answer = self._ask(pid, lambda process: process.ionice())
        return _IO.get(int(getattr(answer, "value", answer)), ("none", 0))

    def set_ionice(self, pid: int, cls: str, level: int) -> None:
        """Set the IO priority nearest to it."""
        self._need("ionice")
        wanted = self.rounded_ionice(cls, level)
        value = next(number for number, stands_for in _IO.items() if stands_for == wanted)
        self._ask(pid, lambda process: process.ionice(value))

    def autogroup(self, pid: int) -> int | None:
        """There are no autogroups here."""
        return None

    def set_autogroup(self, pid: int, nice: int) -> None:
        """Refuse: there are no autogroups here."""
        self._need("autogroup")

    def uclamp(self, pid: int) -> tuple[int, int] | None:
        """There are no utilisation clamps here."""
        return None

    def set_uclamp(self, pid: int, low: int | None, high: int | None) -> None:
        """Refuse: there are no utilisation clamps here."""
        self._need("uclamp")

    def can_raise(self) -> bool:
        """Say whether a lowered priority may be raised again."""
        return self._host.system == _WINDOWS or (hasattr(os, "geteuid") and os.geteuid() == 0)

    def _need(self, lever: Lever) -> None:
        why = self.lacks(lever)
        if why:
            raise OSError(errno.ENOTSUP, why)

    def _ask(self, pid: int, question: Callable[[Any], Any]) -> Any:
        if pid <= 0:
            raise ValueError(f"{pid} is not a process id")
        psutil = self._host.psutil
        try:
            return question(psutil.Process(pid))
        except psutil.NoSuchProcess as gone:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone") from gone
        except psutil.AccessDenied as denied:
            raise PermissionError(errno.EPERM, f"no permission over process {pid}") from denied
