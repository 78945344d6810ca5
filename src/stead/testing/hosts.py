"""Hosts for tests: a directory for the files, recorded answers for commands and for psutil, a scheduler in memory.

A folder such as `tests/hosts/debian12` holds the tree itself; `psutil.json` in it holds what psutil answered there, as a list of
frames: each `advance()` shows the next one, so that rates can be tested.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from stead.host import LocalHost
from stead.protocols import Completed, Lever

Transcripts = Mapping[tuple[str, ...], Completed | Sequence[Completed]]


class FakeHost(LocalHost):
    """protocols.Host on a directory. Files are really read and written there; a command that was not recorded raises.

    `commands` lists what was run. A recorded sequence of answers is used up in order, its last one for ever.
    """

    def __init__(
        self,
        root: str | Path,
        transcripts: Transcripts | None = None,
        *,
        system: Literal["linux", "darwin", "windows"] = "linux",
        name: str = "fake",
        boot_id: str = "00000000-0000-4000-8000-000000000001",
    ) -> None:
        super().__init__(root)
        recorded = self.root / "psutil.json"
        self._psutil = FakePsutil(json.loads(recorded.read_text()) if recorded.exists() else [{}])
        self._transcripts = {argv: _answers(answer) for argv, answer in (transcripts or {}).items()}
        self.commands: list[tuple[str, ...]] = []
        self.system = system
        self.name = name
        self.boot_id = boot_id
        self.scheduler: FakeScheduler = FakeScheduler()

    @property
    def psutil(self) -> FakePsutil:
        """The recorded psutil."""
        return self._psutil

    async def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed:
        """Answer from the transcripts. FileNotFoundError for a command that isn't in them."""
        command = tuple(argv)
        self.commands.append(command)
        if command not in self._transcripts:
            raise FileNotFoundError(errno.ENOENT, "not in the transcripts", " ".join(command))
        answers = self._transcripts[command]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _under_root(self, path: str) -> str:
        return f"{self.root}{path}" if path.startswith("/") else f"{self.root}/{path}"


class FakeScheduler:
    """protocols.Scheduler in memory. A process is there once `add`ed; `raises` can be set to forbid raising."""

    def __init__(self) -> None:
        self.processes: dict[int, dict[str, Any]] = {}
        self.raises = True
        self.missing: dict[str, str] = {}  # lever → why it is not to be had

    def add(self, pid: int, autogroup: int | None = 0) -> None:
        """Add a process with ordinary priorities."""
        self.processes[pid] = {
            "nice": 0,
            "policy": ("other", 0),
            "affinity": (0, 1),
            "ionice": ("none", 0),
            "autogroup": autogroup,
            "uclamp": (0, 1024),
        }

    def remove(self, pid: int) -> None:
        """End a process."""
        del self.processes[pid]

    def nice(self, pid: int) -> int:
        """See protocols.Scheduler."""
        return int(self._get(pid, "nice"))

    def set_nice(self, pid: int, nice: int) -> None:
        """See protocols.Scheduler."""
        if not self.raises and nice < self.nice(pid):
            raise PermissionError(errno.EPERM, "not permitted")
        self._set(pid, "nice", max(-20, min(19, nice)))

    def policy(self, pid: int) -> tuple[str, int]:
        """See protocols.Scheduler."""
        policy, priority = self._get(pid, "policy")
        return str(policy), int(priority)

    def set_policy(self, pid: int, policy: str, priority: int) -> None:
        """See protocols.Scheduler."""
        self._set(pid, "policy", (policy, priority))

    def affinity(self, pid: int) -> tuple[int, ...]:
        """See protocols.Scheduler."""
        return tuple(self._get(pid, "affinity"))

    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None:
        """See protocols.Scheduler."""
        self._set(pid, "affinity", tuple(sorted(cpus)))

    def ionice(self, pid: int) -> tuple[str, int]:
        """See protocols.Scheduler."""
        cls, level = self._get(pid, "ionice")
        return str(cls), int(level)

    def set_ionice(self, pid: int, cls: str, level: int) -> None:
        """See protocols.Scheduler."""
        self._set(pid, "ionice", (cls, level if cls in ("realtime", "best_effort") else 0))

    def autogroup(self, pid: int) -> int | None:
        """See protocols.Scheduler."""
        value = self._get(pid, "autogroup")
        return None if value is None else int(value)

    def set_autogroup(self, pid: int, nice: int) -> None:
        """See protocols.Scheduler."""
        self._set(pid, "autogroup", nice)

    def uclamp(self, pid: int) -> tuple[int, int] | None:
        """See protocols.Scheduler."""
        low, high = self._get(pid, "uclamp")
        return None if "uclamp" in self.missing else (int(low), int(high))

    def set_uclamp(self, pid: int, low: int | None, high: int | None) -> None:
        """See protocols.Scheduler."""
        before = self._get(pid, "uclamp")
        self._set(pid, "uclamp", (before[0] if low is None else low, before[1] if high is None else high))

    def lacks(self, lever: Lever) -> str:
        """See protocols.Scheduler."""
        return self.missing.get(lever, "")

    def rounded_nice(self, nice: int) -> int:
        """See protocols.Scheduler."""
        return max(-20, min(19, nice))

    def rounded_ionice(self, cls: str, level: int) -> tuple[str, int]:
        """See protocols.Scheduler."""
        return cls, max(0, min(7, level)) if cls in ("best_effort", "realtime") else 0

    def can_raise(self) -> bool:
        """See protocols.Scheduler."""
        return self.raises

    def _get(self, pid: int, name: str) -> Any:
        if pid not in self.processes:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone")
        return self.processes[pid][name]

    def _set(self, pid: int, name: str, value: Any) -> None:
        self._get(pid, name)
        self.processes[pid][name] = value


class FakePsutil:
    """The part of psutil that probes use, out of recorded frames. What was not recorded is missing, as on that system."""

    class Error(Exception):
        """psutil.Error."""

    class NoSuchProcess(Error):  # noqa: N818
        """psutil.NoSuchProcess."""

    class AccessDenied(Error):  # noqa: N818
        """psutil.AccessDenied."""

    def __init__(self, frames: Sequence[Mapping[str, Any]]) -> None:
        self._frames = list(frames)
        self._at = 0

    def advance(self) -> None:
        """Show the next frame; the last one stays."""
        self._at = min(self._at + 1, len(self._frames) - 1)

    def cpu_times(self, percpu: bool = False) -> Any:
        """One namespace, or one for each CPU."""
        return _named(self._recorded("cpu_times_percpu" if percpu else "cpu_times"))

    def cpu_count(self, logical: bool = True) -> int | None:
        """Number of CPUs."""
        return self._frame.get("cpu_count")

    def getloadavg(self) -> tuple[float, float, float]:
        """Load averages."""
        one, five, fifteen = self._recorded("getloadavg")
        return one, five, fifteen

    def virtual_memory(self) -> Any:
        """Memory."""
        return _named(self._recorded("virtual_memory"))

    def swap_memory(self) -> Any:
        """Swap."""
        return _named(self._recorded("swap_memory"))

    def disk_partitions(self, all: bool = False) -> Any:
        """Mounted file systems."""
        return _named(self._recorded("disk_partitions"))

    def disk_usage(self, path: str) -> Any:
        """Sizes of one file system."""
        usage = self._recorded("disk_usage")
        if path not in usage:
            raise FileNotFoundError(errno.ENOENT, "no such mount", path)
        return _named(usage[path])

    def disk_io_counters(self, perdisk: bool = False) -> Any:
        """Counters by disk."""
        return {name: _named(one) for name, one in self._recorded("disk_io_counters").items()}

    def net_io_counters(self, pernic: bool = False) -> Any:
        """Counters by interface."""
        return {name: _named(one) for name, one in self._recorded("net_io_counters").items()}

    def boot_time(self) -> float:
        """Unix time of the boot."""
        return float(self._recorded("boot_time"))

    def process_iter(self, attrs: Sequence[str] = ()) -> Iterator[Any]:
        """Processes with `info`."""
        for one in self._recorded("processes"):
            yield SimpleNamespace(info={name: _named(one.get(name)) for name in attrs})

    def Process(self, pid: int | None = None) -> Any:  # noqa: N802 (psutil's own name)
        """One recorded process; without a pid the first one is ours."""
        recorded = [one for one in self._recorded("processes") if pid is None or one["pid"] == pid]
        if not recorded:
            raise self.NoSuchProcess(pid)
        one = recorded[0]
        return SimpleNamespace(pid=one["pid"], **{name: _asked(one[name]) for name in one if name != "pid"})

    @property
    def _frame(self) -> Mapping[str, Any]:
        return self._frames[self._at]

    def _recorded(self, name: str) -> Any:
        if name not in self._frame:
            raise self.Error(f"{name} is not on this system")
        return self._frame[name]


def _answers(answer: Completed | Sequence[Completed]) -> list[Completed]:
    return [answer] if isinstance(answer, Completed) else list(answer)


def _asked(value: Any) -> Callable[[], Any]:
    return lambda: _named(value)


def _named(value: Any) -> Any:
    """Turn recorded objects into what has attributes; strings, numbers and lists of strings stay."""
    if isinstance(value, dict):
        return SimpleNamespace(**value)
    if isinstance(value, list):
        return [_named(one) for one in value]
    return value
