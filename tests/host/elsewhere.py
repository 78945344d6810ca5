"""psutil as it is documented to behave on macOS and Windows, with one process: what it lacks there is missing here too.

Windows: `nice` takes and gives priority classes, `ionice` IO priorities 0 to 3, `cpu_affinity` lists; any other value is a
ValueError. macOS: nice from -20 to 20, and nothing else. (psutil's documentation, "Process class".)
"""

from __future__ import annotations

import enum
from typing import Any

from stead.host.psutil_scheduler import PsutilScheduler
from stead.testing import FakeHost

PID, STARTED_S, CPUS = 4120, 1_795_210_000.25, 4
CLASSES = (32, 64, 128, 256, 16384, 32768)


class NoSuchProcess(Exception):  # noqa: N818
    """psutil.NoSuchProcess."""


class AccessDenied(Exception):  # noqa: N818
    """psutil.AccessDenied."""


class IoPriority(enum.IntEnum):
    """psutil.IOPRIO_*."""

    VERYLOW, LOW, NORMAL, HIGH = range(4)


class _Any:
    """What every system's Process has."""

    def __init__(self, state: dict[str, Any], pid: int) -> None:
        if pid != PID:
            raise NoSuchProcess(pid)
        self.state = state

    def create_time(self) -> float:
        return STARTED_S

    def status(self) -> str:
        return "running"


class MacProcess(_Any):
    """macOS."""

    def nice(self, value: int | None = None) -> int:
        if value is not None:
            if not -20 <= value <= 20:
                raise ValueError(value)
            self.state["nice"] = value
        return int(self.state["nice"])


class WindowsProcess(_Any):
    """Windows."""

    def nice(self, value: int | None = None) -> int:
        if value is not None:
            if value not in CLASSES:
                raise ValueError(value)
            self.state["nice"] = value
        return int(self.state["nice"])

    def ionice(self, value: int | None = None) -> IoPriority:
        if value is not None:
            if value == IoPriority.HIGH and not self.state["privileged"]:
                raise AccessDenied(PID)
            self.state["ionice"] = IoPriority(value)
        return IoPriority(self.state["ionice"])

    def cpu_affinity(self, cpus: list[int] | None = None) -> list[int]:
        if cpus is not None:
            if not set(cpus) <= set(range(CPUS)):
                raise ValueError(cpus)
            self.state["affinity"] = sorted(cpus)
        return list(self.state["affinity"])


class Psutil:
    """The module."""

    NoSuchProcess, AccessDenied = NoSuchProcess, AccessDenied
    Error = Exception

    def __init__(self, system: str) -> None:
        mac = system == "darwin"
        self.state: dict[str, Any] = {"nice": 0 if mac else 32, "ionice": 2, "affinity": list(range(CPUS)), "privileged": True}
        kind: type[_Any] = MacProcess if mac else WindowsProcess
        state = self.state

        class Process(kind):  # type: ignore[misc, valid-type]
            """psutil.Process on this system."""

            def __init__(self, pid: int) -> None:
                super().__init__(state, pid)

        self.Process = Process

    def cpu_count(self) -> int:
        return CPUS

    def pid_exists(self, pid: int) -> bool:
        return pid == PID


class ElsewhereHost(FakeHost):
    """A macOS or Windows whose scheduler is psutil's."""

    def __init__(self, root: Any, system: Any) -> None:
        super().__init__(root, system=system)
        self.stand_in = Psutil(system)
        self.scheduler = PsutilScheduler(self)  # type: ignore[assignment]

    @property
    def psutil(self) -> Any:
        """The stand-in."""
        return self.stand_in
