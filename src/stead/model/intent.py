"""Intent in the owner's words: what is to be protected, with which objective, and what may be slowed for its sake.

What matches neither is left alone. A pattern is a shell glob with its kind before it: `service:nginx*`,
`cgroup:/batch.slice/*`, `process:stress-ng*`; a bare word is a process pattern.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Resource = Literal["cpu", "memory", "io"]


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the owner wants of protected work: a metric's statistic over a while, or its pressure, below a level."""

    below: float  # in the metric's unit; percent of the time for a pressure
    metric: str = ""  # one that stead knows, e.g. api.latency_p95
    pressure: Resource | None = None  # instead of a metric: the share of time that the protected work is held up for it
    subject: str = ""  # whose metric it is, e.g. workload:web; empty: the host's
    statistic: Literal["p95", "mean", "max", "last"] = "p95"
    window_s: float = 60.0


class Protect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work that matters: the patterns that it is found by, and what is wanted for it."""

    match: tuple[str, ...]
    name: str = ""  # empty: its first pattern
    objective: Objective | None = None


class Intent(msgspec.Struct, frozen=True):
    """All of it. Where `protect` is empty, nothing is measured and nothing is slowed."""

    protect: tuple[Protect, ...] = ()
    best_effort: tuple[str, ...] = ()
