"""Advise: from measured use to what a thing should have. Pure: measurements in, advice out.

The tail rules, not the mean. Memory can't be taken back in a moment, so its highest value counts; CPU that is short for a
moment only makes work wait, so the 99th percentile counts. On top of either comes `ROOM`. What would change little is not
said: advice that moves a limit by a few percent costs more attention than it saves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stead.model.advice import Advice, Use
from stead.model.change import Record
from stead.model.observe import ProcessUse
from stead.model.workload import WorkloadStatus

ROOM: Final = 1.2  # what is wanted above the tail
WORTH: Final = 1.5  # a limit this many times what is wanted is worth lowering
TIGHT: Final = 0.9  # a tail this near its limit is too near
STEP_BYTES: Final = 16 << 20
LEAST_BYTES: Final = 64 << 20
LEAST_PERCENT: Final = 5.0
FULL_PERCENT: Final = 70.0  # what a request slot should be used at most
GROUP_MEMORY: Final = "cgroup.memory_bytes"
GROUP_CORES: Final = "cgroup.cpu_cores"
PROCESS_CORES: Final = "infra.process_cpu_cores"
WORKERS_NEEDED: Final = "executor.workers_needed"
SATURATION: Final = "api.saturation"
ALIKE: Final = "infra.alike_bytes"
METRICS: Final = (GROUP_MEMORY, GROUP_CORES, PROCESS_CORES, WORKERS_NEEDED, SATURATION, ALIKE)
_BUSY_CORES: Final = 0.25
_MOST_CONSUMERS: Final = 5


class Words(NamedTuple):
    """What a piece of advice says."""

    title: str
    reason: str
    saves: str
    risk: str


class Measured(msgspec.Struct, frozen=True):
    """What advice is made from. `limits`: subject → the fields of its limit as they are now."""

    uses: Mapping[tuple[str, str], Use]  # (metric, subject)
    limits: Mapping[str, Record] = {}
    workloads: Sequence[WorkloadStatus] = ()
    processes: Sequence[ProcessUse] = ()
    cores: float = 1.0


def advise(measured: Measured, at_least_s: float) -> tuple[tuple[Advice, ...], dict[str, float]]:
    """All advice, what saves most first; and the subjects that were measured for less than `at_least_s`, with how long."""
    known = {key: use for key, use in measured.uses.items() if use.covered_s >= at_least_s}
    short = {use.subject: use.covered_s for use in measured.uses.values() if use.covered_s < at_least_s}
    found = [
        *_limits(known, measured.limits),
        *_workers(known, measured.workloads),
        *_merging(known),
        *_consumers(known, measured),
    ]
    order = {"limit": 0, "workers": 1, "merging": 2, "consumer": 3}
    return tuple(sorted(found, key=lambda one: (order[one.kind], -(one.saves_amount or 0.0), one.id))), short


def _limits(uses: Mapping[tuple[str, str], Use], limits: Mapping[str, Record]) -> Iterable[Advice]:
    for subject, limit in limits.items():
        memory, cores = uses.get((GROUP_MEMORY, subject)), uses.get((GROUP_CORES, subject))
        if memory is not None:
            for field in ("memory_max_bytes", "memory_high_bytes"):
                yield from _memory_limit(subject, field, limit.get(field), memory)
        if cores is not None:
            yield from _cpu_limit(subject, limit.get("cpu_max_percent"), cores)


def _memory_limit(subject: str, field: str, now: Any, use: Use) -> Iterable[Advice]:
    if not _number(now):
        return
    wanted = max(LEAST_BYTES, math.ceil(use.max * ROOM / STEP_BYTES) * STEP_BYTES)
    reason = f"its highest use in {span(use.covered_s)} was {size(use.max)} (mean {size(use.mean)})"
    name = field.removesuffix("_bytes").replace("_", ".")
    if now >= wanted * WORTH:
        said = Words(
            f"Lower {name} of {bare(subject)} from {size(now)} to {size(wanted)}",
            reason,
            f"{size(now - wanted)} that nothing else may count on now",
            f"work larger than any in that time would be {'slowed' if 'high' in field else 'ended by the kernel'}:"
            f" {(ROOM - 1) * 100:.0f} % is kept above the highest",
        )
    elif use.max >= now * TIGHT and wanted > now:
        said = Words(
            f"Raise {name} of {bare(subject)} from {size(now)} to {size(wanted)}",
            reason,
            "it no longer works at its limit",
            f"{size(wanted - now)} more may be taken from others",
        )
    else:
        return
    yield _limit(subject, field, now, wanted, said)


def _cpu_limit(subject: str, now: Any, use: Use) -> Iterable[Advice]:
    if not _number(now):
        return
    tail = use.p99 * 100
    wanted = max(LEAST_PERCENT, float(math.ceil(tail * ROOM / 5) * 5))
    reason = f"its 99th percentile in {span(use.covered_s)} was {tail:.0f} % of a core (mean {use.mean * 100:.0f} %)"
    if now >= wanted * WORTH:
        said = Words(
            f"Lower cpu.max of {bare(subject)} from {now:.0f} to {wanted:.0f} % of a core",
            reason,
            f"{(now - wanted) / 100:.2f} cores that nothing else may count on now",
            "in its busiest hundredth of the time it would wait",
        )
    elif tail >= now * TIGHT:
        wanted = float(math.ceil(now * WORTH / 5) * 5)
        said = Words(
            f"Raise cpu.max of {bare(subject)} from {now:.0f} to {wanted:.0f} % of a core",
            f"{reason}: it works at its limit, so what it would need can't be seen",
            "less waiting for a CPU",
            f"{(wanted - now) / 100:.2f} cores more may be taken from others",
        )
    else:
        return
    yield _limit(subject, "cpu_max_percent", now, wanted, said)


def _limit(subject: str, field: str, now: Any, wanted: Any, said: Words) -> Advice:
    """The advice, and what it would give back, where it lowers a limit: cores, or bytes."""
    unit, of_one = ("cores", 100) if field == "cpu_max_percent" else ("bytes", 1)
    amount = float(now - wanted) / of_one if wanted < now else None
    state: Record = {field: wanted}
    return Advice(_id("limit", subject, field, str(wanted)), "limit", subject, *said, "limit", state, {field: now}, amount, unit)


def _workers(uses: Mapping[tuple[str, str], Use], workloads: Sequence[WorkloadStatus]) -> Iterable[Advice]:
    for status in workloads:
        subject = f"workload:{status.name}"
        queue, slots = uses.get((WORKERS_NEEDED, subject)), uses.get((SATURATION, subject))
        if queue is not None:
            needed, what = math.ceil(queue.p99), f"the jobs that arrived needed {queue.p99:.1f} workers in the 99th percentile"
            use = queue
        elif slots is not None:
            needed, use = math.ceil(status.wanted * slots.p99 / FULL_PERCENT), slots
            what = f"its request slots were {slots.p99:.0f} % busy in the 99th percentile"
        else:
            continue
        wanted = min(max(needed, status.min_workers), status.max_workers)
        if wanted == status.wanted:
            continue
        yield _count(status, subject, wanted, f"{what} (mean {use.mean:.1f}) in {span(use.covered_s)}")


def _count(status: WorkloadStatus, subject: str, wanted: int, reason: str) -> Advice:
    fewer = status.wanted - wanted
    title = f"Run {wanted} instead of {status.wanted} workers of {status.name}"
    if fewer > 0:
        risk = "a burst larger than any in that time waits until more are started"
        words = Words(title, reason, "1 worker" if fewer == 1 else f"{fewer} workers", risk)
    else:
        words = Words(title, reason, "waiting at the busiest times", "more memory and CPU for the workload")
    amount = float(fewer) if fewer > 0 else None
    state: Record = {"count": wanted}
    now: Record = {"count": status.wanted}
    return Advice(
        _id("workers", subject, "count", str(wanted)), "workers", subject, *words, "workload", state, now, amount, "workers"
    )


def _merging(uses: Mapping[tuple[str, str], Use]) -> Iterable[Advice]:
    """Units whose processes are alike: they may opt in, and whether that pays is then measured."""
    for (metric, subject), use in uses.items():
        if metric != ALIKE:
            continue
        yield Advice(
            _id("merging", subject, "memory_ksm"),
            "merging",
            subject,
            f"Let equal pages of {bare(subject)} be held once",
            f"its processes of one program hold {size(use.mean)} beyond the largest of them, on average in {span(use.covered_s)}",
            f"at most {size(use.mean)}: what is equal is only known once it is compared",
            "it counts from the unit's next start; finding equal pages takes CPU, and is kept on only while it pays",
            "kernel",
            {"memory_ksm": True},
            {"memory_ksm": False},
            use.mean,
            "bytes",
        )


def _consumers(uses: Mapping[tuple[str, str], Use], measured: Measured) -> Iterable[Advice]:
    """Who takes most of the CPU, with what that is of the machine; letting others go first is the proposal."""
    busy = [(one, use) for one in measured.processes if (use := uses.get((PROCESS_CORES, one.subject))) is not None]
    busy.sort(key=lambda pair: -pair[1].mean)
    for process, use in busy[:_MOST_CONSUMERS]:
        if use.mean < _BUSY_CORES:
            continue
        share = use.mean / measured.cores
        yield Advice(
            _id("consumer", process.subject, "nice"),
            "consumer",
            process.subject,
            f"Let others go before {process.name} (pid {process.pid})",
            f"it took {use.mean:.2f} cores on average and {use.p99:.2f} in the 99th percentile in {span(use.covered_s)}:"
            f" {share * 100:.0f} % of this machine",
            "others no longer wait for it; it keeps what nobody else wants",
            "it is slower whenever others want the CPU",
            "priority",
            {"nice": 10},
            {},
            use.mean,
            "cores",
        )


def _id(*parts: str) -> str:
    """Of what is advised for whom: advice of another value is another, so that what was confirmed is what is applied."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def bare(subject: str) -> str:
    """A subject without its kind and identity: "cgroup:/a.service@71" is "/a.service"."""
    name = subject.partition(":")[2] or subject
    return name.rpartition("@")[0] or name


def size(amount: float) -> str:
    """Bytes in words."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if amount >= scale:
            return f"{amount / scale:.4g} {unit}" if amount % scale == 0 else f"{amount / scale:.3g} {unit}"
    return f"{amount:.0f} B"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    parts = [f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (rest // 60, "min")) if number]
    return " ".join(parts[:2]) or f"{int(seconds)} s"
