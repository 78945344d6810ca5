"""What a plugin is, and the seams that processes are wired with.

A plugin is one small file with one object that satisfies one of these protocols, found by entry point
(`stead.probes`, `stead.detectors`, `stead.actuators`, `stead.workloads`). The engine knows none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from stead.model.catalog import Catalog
from stead.model.change import Absent, Hold, Run, Step, Target
from stead.model.find import Finding, Observation
from stead.model.messages import Event
from stead.model.observe import Fact, MetricSpec, Now, Reading
from stead.model.policy import Approval
from stead.model.record import Entry, StoredEntry

State = TypeVar("State", bound=msgspec.Struct)
Lever = Literal["nice", "policy", "affinity", "ionice", "autogroup", "uclamp"]
Note = Callable[[str], None]  # one operation as it was really made, for the receipt
SignalName = Literal["stop", "continue", "terminate", "kill"]


class Completed(msgspec.Struct, frozen=True):
    """A finished command. `rc` is None when it timed out and was killed."""

    rc: int | None
    out: str
    err: str
    truncated: bool = False


class KeptFile(Protocol):
    """A descriptor kept open between reads: reading again from offset 0 is what makes a 1 s interval cheap."""

    def read(self) -> bytes: ...
    def close(self) -> None: ...


class Scheduler(Protocol):
    """The scheduler's levers for one process, all of them readable. Raises ProcessLookupError when it is gone."""

    def nice(self, pid: int) -> int: ...
    def set_nice(self, pid: int, nice: int) -> None: ...
    def policy(self, pid: int) -> tuple[str, int]: ...  # ("other" | "batch" | "idle" | "fifo" | "rr" | "deadline", priority)
    def set_policy(self, pid: int, policy: str, priority: int) -> None: ...
    def affinity(self, pid: int) -> tuple[int, ...]: ...
    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None: ...
    def ionice(self, pid: int) -> tuple[str, int]: ...  # ("none" | "realtime" | "best_effort" | "idle", level)
    def set_ionice(self, pid: int, cls: str, level: int) -> None: ...
    def autogroup(self, pid: int) -> int | None: ...  # nice of the autogroup; None: there is none
    def set_autogroup(self, pid: int, nice: int) -> None: ...
    def uclamp(self, pid: int) -> tuple[int, int] | None: ...  # lower and upper, 0 to 1024; None: there are none
    def set_uclamp(self, pid: int, low: int | None, high: int | None) -> None: ...
    def lacks(self, lever: Lever) -> str: ...  # why a lever is not to be had here; empty when it is
    def rounded_nice(self, nice: int) -> int: ...  # as the system will round it
    def rounded_ionice(self, cls: str, level: int) -> tuple[str, int]: ...
    def can_raise(self) -> bool: ...  # CAP_SYS_NICE: may a lowered priority be restored?


class Host(Protocol):
    """The one door to the operating system. Paths are absolute and taken under `root`."""

    system: Literal["linux", "darwin", "windows"]
    name: str
    boot_id: str
    root: Path
    scheduler: Scheduler

    @property
    def psutil(self) -> Any: ...  # the module, imported on first use; recorded in tests
    def read(self, path: str, limit: int = 1 << 20) -> bytes: ...
    def keep(self, path: str, once: int = 0) -> KeptFile: ...  # once > 0: by one call of at most so many bytes
    def list(self, path: str) -> list[str]: ...
    def write(self, path: str, data: bytes) -> None: ...
    def note(self, operation: str) -> None: ...  # something was changed, and not through this door
    def statvfs(self, path: str) -> Any: ...
    def start_ticks(self, pid: int) -> int | None: ...  # None: no such process
    def signal(self, pid: int, start_ticks: int, name: SignalName) -> None: ...  # ProcessLookupError: that very one is gone
    def inode(self, path: str) -> int | None: ...  # None: nothing there; a control group's is never given to another soon
    def make_folder(self, path: str) -> None: ...
    def place(self, path: str, data: bytes) -> None: ...  # make or replace a small file, in one go
    def remove(self, path: str) -> None: ...  # a file; none there is no error
    def remove_folder(self, path: str) -> None: ...  # an empty one; OSError (EBUSY: a control group with processes)
    async def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed: ...


class Clock(Protocol):
    """Time, taken once a tick."""

    def now(self) -> Now: ...


@runtime_checkable
class Probe(Protocol):
    """One source of samples and facts. It declares what it emits; a read never raises for a missing value, it says unknown."""

    name: str
    interval_s: float
    timeout_s: float
    blocking: bool  # its read can hang (mounts, drivers, sockets): it runs on a daemon thread
    metrics: tuple[MetricSpec, ...]

    def read(self, host: Host, now: Now) -> Reading: ...


@runtime_checkable
class Alarmed(Protocol):
    """A probe that may be called for before its time: by pressure, or by events of control groups."""

    name: str

    def alarms(self) -> Sequence[str]: ...  # files that the kernel tells by POLLPRI on: /proc/pressure/memory, …/memory.events


@runtime_checkable
class Detector(Protocol):
    """Judges observations and keeps its own bounded memory of them. No IO, no clock.

    `find` returns changed findings: new ones (empty `id` filled by the caller's `new_id`), grown ones, cleared ones.
    `open_findings` are this detector's own, by fingerprint; after a restart they come from the ledger.
    """

    name: str

    def find(
        self,
        observations: Sequence[Observation],
        catalog: Catalog,
        open_findings: Mapping[str, Finding],
        now: Now,
        new_id: Callable[[], str],
    ) -> Sequence[Finding]: ...


class Actuator(Protocol[State]):
    """A piece of host state that can be read and set. Everything else (plan, undo, recovery, …) follows from these four.

    `read` returns ABSENT when the target is not there in this identity. `plan` says what will be, as the system will round
    it, and whether the undo is exact. `met` tolerates that rounding. `write` makes it so, or raises SteadError or OSError.
    What `write` changes through its host is noted for the receipt; what it changes otherwise it tells by `host.note`.

    One whose writes pass through values that are neither old nor new may have `between(seen, before, want) -> bool`, of
    records: is this what an interrupted write of its own leaves? Without it each field must be as before or as wanted.
    One whose `write` refuses what it would not plan, or whose changes spread, may have `put_back`, of the same shape: the write
    of an undo, which what became of the target meanwhile does not forbid, and which reaches where the change has got to.
    One that can tell less from more may have `slowing(now, fields) -> dict`: of wanted fields, those that give the target
    less than it has; for settings that are to slow it.
    One whose targets outgrow a plan may have `least(target, field) -> float | None`: the least that a governed field can be set
    to at this moment (None: any). A value that is lower by then is raised to it, within the range that was decided.
    """

    name: str
    state: type[State]

    async def read(self, host: Host, target: Target) -> State | Absent: ...
    def plan(self, target: Target, now: State | Absent, want: State | Absent) -> Step: ...
    def met(self, now: State | Absent, want: State | Absent) -> bool: ...
    async def write(self, host: Host, target: Target, want: State | Absent) -> None: ...


class Ledger(Protocol):
    """The durable record: entries, and the runs, approvals, holds and open findings that follow from them.

    One call is one transaction, durable (fsync) when it returns. Readers see only what is durable.
    """

    async def commit(
        self,
        entries: Sequence[Entry],
        *,
        runs: Sequence[Run] = (),
        approvals: Sequence[Approval] = (),
        use_approvals: Sequence[str] = (),
        findings: Sequence[Finding] = (),
        holds: Sequence[Hold] = (),
        drop_holds: Sequence[tuple[str, str]] = (),
        meta: Mapping[str, str] | None = None,
    ) -> Sequence[StoredEntry]: ...
    def live_runs(self) -> Sequence[Run]: ...  # those that are not final, as they are durable
    def entries(self, limit: int, subject: str, types: Sequence[str]) -> Sequence[StoredEntry]: ...  # newest first; () is all
    def count(self, subject: str, types: Sequence[str]) -> int: ...  # how many such entries there are
    def commits(self, run_id: str) -> int: ...  # how many transactions have carried this run


class Bus(Protocol):
    """Carries copies out. Never control."""

    def wants(self, topic: str) -> bool: ...
    def publish(self, event: Event) -> None: ...


class WorkloadDriver(Protocol):
    """Something that runs workers: the actuators `service` and `workload` and the workload probe share it."""

    kind: str

    def names(self) -> Sequence[str]: ...
    def status(self, name: str) -> Any: ...  # WorkloadStatus | None
    async def set_workers(self, name: str, count: int, note: Note | None = None) -> None: ...  # note: what it does for that
    async def restart(self, name: str, generation: int, note: Note | None = None) -> None: ...
    async def settle(self, name: str, timeout_s: float) -> bool: ...  # wait until it is as wanted
    def owns(self, pid: int) -> bool: ...  # was this process started by a workload?
    async def tick(self, now: Now) -> None: ...


Latest = Callable[[str, str], float | None]  # (metric, subject) → the newest value, None when unknown
Mark = Callable[[str], None]  # a named crash point
Facts = Iterable[Fact]
