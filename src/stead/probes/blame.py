"""Who holds protected work up, and how much: the arithmetic of contention, on figures that the probe has read.

What protected work lost is put down to those that may be slowed, each by its share of what everybody took. That is no proof:
a change that is made by it has its effect measured, and is taken back when it did not help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stead.model.intent import Objective, Resource

QUIET: Final = 0.005  # seconds of waiting a second, of all protected threads together, below which nobody contends
TOLERATED: Final = 5.0  # percent of the time that work may be held up, where its owner says nothing: where the bands begin


class Use(msgspec.Struct, frozen=True):
    """What something took in the last interval; None: not known. CPU in seconds a second, IO in bytes a second."""

    ran: float | None = None
    waited: float | None = None
    held_back: float = 0.0  # for its quota
    idle: bool = False  # it runs only when nobody else wants to
    memory_bytes: int = 0
    grown_bytes: int = 0  # in the last ten seconds
    io: float | None = None

    @property
    def demand(self) -> float | None:
        """Cores that it would take if nobody else did."""
        return None if self.ran is None else self.ran + (self.waited or 0.0) + self.held_back


class Loss(msgspec.Struct, frozen=True):
    """What one protected thing lost: percent of the time that it wanted to go on, by resource. None: not known, and why."""

    cpu: float | None = None
    memory: float | None = None
    io: float | None = None
    reasons: dict[str, str] = {}
    miss: float | None = None  # its objective's value over its level; above 1 it is missed
    objective: Objective | None = None

    def of(self, resource: Resource) -> float | None:
        """What it lost of one resource, as it counts: weighed by what its owner tolerates; nothing while a metric is well."""
        lost: float | None = getattr(self, resource)
        if lost is None or self.objective is None:
            return lost
        if self.objective.pressure == resource:
            return lost * TOLERATED / self.objective.below
        if self.objective.metric:
            return None if self.miss is None else lost if self.miss > 1.0 else 0.0
        return lost


def waiting(ran: float | None, waited: float | None) -> float | None:
    """Percent of the time that threads wanted a CPU in which they waited for it; 0 where that is next to nothing."""
    if ran is None or waited is None:
        return None
    return 100.0 * waited / (waited + max(ran, 0.0)) if waited >= QUIET else 0.0


def cpu_part(use: Use, everybody: float, protected: Use) -> float | None:
    """Of the share of time that protected work waited, the part that one contender makes up, from 0 to 1.

    By its share of all CPU time, the protected work's own included; it can't have made anybody wait for longer than it ran, and
    for what is idle nobody waits.
    """
    if use.ran is None or protected.waited is None:
        return None
    if protected.waited <= 0 or everybody <= 0 or use.idle:
        return 0.0
    return min(use.ran / everybody, use.ran / protected.waited, 1.0)


def memory_parts(uses: Mapping[str, Use]) -> dict[str, float]:
    """Each contender's part of the memory that contenders take: half by what it holds, half by how it grows."""
    held = sum(use.memory_bytes for use in uses.values())
    grown = sum(use.grown_bytes for use in uses.values())
    parts = {name: use.memory_bytes / held if held else 0.0 for name, use in uses.items()}
    if not grown:
        return parts
    return {name: (parts[name] + use.grown_bytes / grown) / 2 for name, use in uses.items()}


def io_parts(uses: Mapping[str, Use]) -> dict[str, float | None]:
    """Each contender's part of the bytes that contenders move to and from disks."""
    moved = sum(use.io or 0.0 for use in uses.values())
    return {name: None if use.io is None else use.io / moved if moved else 0.0 for name, use in uses.items()}


def worst(parts: Sequence[tuple[float | None, float | None, str]]) -> tuple[float | None, str]:
    """The largest of (lost percent, part, protected thing): the percentage put down to a contender, and who suffers.

    None when nothing of it is known.
    """
    known = [(lost * part, who) for lost, part, who in parts if lost is not None and part is not None]
    return max(known, key=lambda one: one[0], default=(None, ""))
