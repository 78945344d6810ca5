"""The seams of the road: what one host observes with, judges by, acts through and records in.

`Road` is handed these by the process's wiring; tests hand it others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from stead.flow.act import Hands
from stead.flow.observe import Observer
from stead.model.change import Hold, Run, Target
from stead.model.find import Finding
from stead.model.messages import Which
from stead.model.observe import Now, Sample, Top
from stead.model.policy import Autonomy
from stead.protocols import Actuator, Bus, Clock, Detector, Host, Ledger


class Reader(Protocol):
    """The ledger's reading side, as far as the road needs it."""

    trouble: str  # why it can't be written now; empty while it can

    def live_runs(self) -> Sequence[Run]:
        """Runs that something may still move."""

    def runs(self, which: Which, limit: int) -> Sequence[Run]:
        """Runs, newest first."""

    def run(self, prefix: str) -> Run | None:
        """One run by id or unique prefix."""

    def runs_of(self, finding_id: str) -> Sequence[Run]:
        """Runs that answered one finding."""

    def not_put_back(self, limit: int) -> Sequence[Run]:
        """Runs of which something could not be put back, newest first."""

    def open_findings(self) -> Sequence[Finding]:
        """Findings that have not cleared."""

    def holds(self) -> Sequence[Hold]:
        """What people keep off."""

    def actions_since(self, unix_ms: int) -> int:
        """How many runs began to act since then."""


class Store(Ledger, Reader, Protocol):
    """Both sides of the ledger."""


class Raw(Protocol):
    """Where samples and snapshots go."""

    def append(self, now: Now, samples: Sequence[Sample]) -> None:
        """One tick's samples."""

    def snapshots(self, snapshots: Sequence[Any], top: Top | None) -> None:
        """One window's summaries."""


class AutonomyState(Protocol):
    """Stead's own autonomy, as it is now."""

    def read(self) -> Autonomy:
        """Mode, ceilings, lock and pause."""

    def paused(self) -> bool:
        """Is the pause file there? Looked at before every write."""

    def pause_reason(self) -> str:
        """What the pause file says."""

    def pause(self, reason: str) -> None:
        """Make the pause file."""


class Plugged(msgspec.Struct, frozen=True):
    """What this host observes with, judges by and acts through."""

    observer: Observer
    detectors: tuple[Detector, ...]
    actuators: Mapping[str, Actuator[Any]]
    drivers: Mapping[str, Any]
    each: Callable[[str, str], Sequence[Target]] = lambda purpose, subject: ()  # the targets of "each:<purpose>" for a subject
    spares: Callable[[str], str] = lambda subject: ""  # why remedies leave a subject alone; empty: they need not


class Place(msgspec.Struct, frozen=True):
    """Where the road lies: the host and the process's own parts."""

    host: Host
    name: str
    clock: Clock
    ledger: Store
    bus: Bus
    hands: Hands
    autonomy: AutonomyState
    raw: Raw
    log: Any
    moved: Callable[[], None]  # called when a run moved
    new_id: Callable[[], str]
    own: Callable[[], Mapping[str, str]]  # pid → what it is, of stead's own processes


def identities(drivers: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Subject → identity of its target, for the workloads: their subjects carry none."""
    found = {}
    for driver in drivers.values():
        for name in driver.names():
            status = driver.status(name)
            if status is not None:
                found[f"workload:{name}"] = {"id": status.id}
    return found
