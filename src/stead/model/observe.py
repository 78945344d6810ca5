"""What a machine does, as values: samples, facts, the busiest processes, and their five-minute summaries.

A value that was not observed is `None` with a reason, never 0. Times are Unix milliseconds (`*_ms`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Band = Literal["good", "warning", "critical", "unknown"]
Scalar = str | int | float | bool | None


class Now(msgspec.Struct, frozen=True):
    """The one reading of the clock that a whole tick uses.

    `unix_ms` is for records and for leases that outlive the process; `mono_ms` (CLOCK_BOOTTIME) is for durations
    and rates inside one process, because wall clocks step.
    """

    unix_ms: int
    mono_ms: int


class MetricSpec(msgspec.Struct, frozen=True):
    """A metric that a probe emits: declared beside the code that reads it."""

    id: str
    unit: str  # one of UNITS
    help: str
    aggregation: Literal["avg", "max", "min", "sum", "last", "p95"] = "avg"


UNITS = frozenset(
    (
        *("percent", "ratio", "count", "bool", "cores", "processes", "bytes", "bytes_per_second", "per_second"),
        *("requests_per_second", "seconds", "milliseconds", "hours", "count_per_5m"),
    )
)


class Sample(msgspec.Struct, frozen=True):
    """One value of one metric of one subject. `value` is None when it could not be observed, and `reason` says why.

    A subject is "host" or "kind:name", e.g. "mount:/var", "core:0", "network:eth0", "workload:web", "probe:disk",
    "process:1234@567890" (pid @ start time in clock ticks since boot: the identity without the boot id).
    """

    metric: str
    subject: str
    value: float | None
    reason: str = ""


class Fact(msgspec.Struct, frozen=True):
    """Something that is so and seldom changes: an OS version, a mount's type, a setting's present state.

    What people must be able to prove is `recorded`: each value of it has an entry in the ledger, once.
    """

    name: str
    subject: str
    value: Scalar
    recorded: bool = False


class ProcessUse(msgspec.Struct, frozen=True):
    """One process among the busiest, in its last interval. `command` has its secrets redacted already."""

    pid: int
    start_ticks: int
    name: str
    command: str
    uid: int
    cpu_cores: float | None
    rss_bytes: int | None
    io_bytes_per_s: float | None
    threads: int | None
    descriptors: int | None
    state: str = "?"

    @property
    def subject(self) -> str:
        """The process as a sample's subject."""
        return f"process:{self.pid}@{self.start_ticks}"


class Top(msgspec.Struct, frozen=True):
    """The process table, condensed: counts, and the top ten by CPU, memory and IO."""

    at_ms: int
    total: int
    running: int
    by_cpu: tuple[ProcessUse, ...] = ()
    by_memory: tuple[ProcessUse, ...] = ()
    by_io: tuple[ProcessUse, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """What one probe saw in one go."""

    samples: tuple[Sample, ...] = ()
    facts: tuple[Fact, ...] = ()
    top: Top | None = None


class MetricEvent(msgspec.Struct, frozen=True):
    """One interval's value of a catalogued metric, published as `metrics.<metric_id>`."""

    metric_id: str
    value: float | None
    unit: str
    subject: str
    band: Band
    at_ms: int
    reason: str = ""


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """Five minutes (a setting) of one metric of one subject. Quantiles are within 1 % of the true value.

    `sketch` is the serialised quantile sketch (`stats.sketch`): snapshots merge exactly by merging sketches.
    `violations` counts entries into the warning or critical band; `*_s` is the time spent in each band.
    """

    metric_id: str
    subject: str
    start_ms: int
    end_ms: int
    count: int
    unknown: int
    min: float | None
    max: float | None
    avg: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    violations: int
    good_s: float
    warning_s: float
    critical_s: float
    unknown_s: float
    sketch: bytes = b""
