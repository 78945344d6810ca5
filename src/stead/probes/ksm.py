"""Same-page merging (KSM): how much memory was opted in, what merging it saves, and what ksmd takes for that.

Saved memory and CPU are weighed in one unit: a core is worth as much memory as this host has for each of its cores. Less than
that, and merging costs more than it gives. Without anything opted in there is nothing to say but zeros.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stead.cgroups.kernel_owners import owner_of_ksm
from stead.host.procfs import page_bytes, parse_meminfo
from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample
from stead.probes.ksm_alike import alike_bytes
from stead.probes.ksm_members import Member, find_ksmd, opted_in
from stead.probes.reading import Rates, Source, SystemProbe, unknown
from stead.protocols import Host

FOLDER: Final = "/sys/kernel/mm/ksm"
ROUND_S: Final = 30.0  # in which ksmd should see all opted-in memory once
_LOOK_MS: Final = 60_000  # how often processes are asked whether they opted in
_ALIKE_MS: Final = 600_000
_RMAP_ITEM_BYTES: Final = 64  # struct ksm_rmap_item of mm/ksm.c on 64 bit, for kernels that do not tell their profit (before 6.4)
_TOP: Final = 10
_UNTOLD: Final = "this kernel does not tell it of single processes"
_FILES: Final = ("run", "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "sleep_millisecs")
_NEWER: Final = ("general_profit", "ksm_zero_pages")


class Counts(NamedTuple):
    """What /sys/kernel/mm/ksm says; pages are counted, profit is in bytes."""

    run: int
    shared: int
    sharing: int
    unshared: int
    volatile: int
    sleep_ms: int
    profit: int | None
    zero: int

    def profit_bytes(self, page: int) -> int:
        """What is saved, less what the kernel keeps to save it (docs.kernel.org, admin-guide/mm/ksm: general_profit)."""
        if self.profit is not None:
            return self.profit
        return self.sharing * page - (self.shared + self.sharing + self.unshared + self.volatile) * _RMAP_ITEM_BYTES


class Ksm(SystemProbe):
    """The host's same-page merging."""

    name = "ksm"
    interval_s = 20.0  # ksmd works in bursts: over less its CPU is mostly noise
    metrics = (
        MetricSpec("infra.ksm_opted_in_bytes", "bytes", "Memory of processes that may be merged with equal pages", "last"),
        MetricSpec("infra.ksm_idle_bytes", "bytes", "Memory that may be merged, while nothing merges any", "last"),
        MetricSpec("infra.ksm_saved_bytes", "bytes", "Memory that is saved as equal pages are held once", "last"),
        MetricSpec("infra.ksm_profit_bytes", "bytes", "The same, less what the kernel keeps to merge them", "last"),
        MetricSpec("infra.ksm_cpu", "cores", "Cores that the kernel takes to find equal pages"),
        MetricSpec("infra.ksm_net_bytes", "bytes", "Profit, less the memory that is worth the CPU that it takes"),
        MetricSpec("infra.ksm_pages_to_scan", "count", "Pages for each waking of ksmd to see all each half minute", "last"),
        MetricSpec("infra.alike_bytes", "bytes", "The most that merging could save in a unit that did not opt in", "last"),
        MetricSpec("infra.ksm_process_profit_bytes", "bytes", "What merging saves in one process", "last"),
    )

    def __init__(self) -> None:
        self._sources = {name: Source(f"{FOLDER}/{name}") for name in (*_FILES, *_NEWER)}
        self._rates = Rates()
        self._cpu: Source | None = None
        self._core_bytes = 0.0
        self._members: tuple[Member, ...] = ()
        self._owner = ""
        self._looked_ms: int | None = None
        self._alike: dict[str, int] = {}
        self._alike_ms: int | None = None

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /sys/kernel/mm/ksm and ksmd's time; each minute /proc/PID/ksm_stat of every process."""
        try:
            counts = self._counts(host)
        except FileNotFoundError:
            return unknown(self.metrics, "this kernel has no KSM")
        page = page_bytes()
        facts = self._look(host, now) if self._looked_ms is None or now.mono_ms - self._looked_ms >= _LOOK_MS else ()
        members = sum(one.bytes for one in self._members)
        idle = Sample("infra.ksm_idle_bytes", "host", 0.0 if counts.run == 1 else float(members))
        if self._owner:
            idle = Sample(idle.metric, "host", None, f"{self._owner} looks after KSM here")
        cpu, profit = self._cores(host, now), float(counts.profit_bytes(page))
        net = Sample("infra.ksm_net_bytes", "host", None, cpu.reason)
        if cpu.value is not None:
            net = Sample("infra.ksm_net_bytes", "host", profit - cpu.value * self._core_bytes)
        samples = (
            Sample("infra.ksm_opted_in_bytes", "host", float(members)),
            idle,
            Sample("infra.ksm_saved_bytes", "host", float((counts.sharing + counts.zero) * page)),
            Sample("infra.ksm_profit_bytes", "host", profit),
            cpu,
            net,
            Sample("infra.ksm_pages_to_scan", "host", members / page * counts.sleep_ms / 1000 / ROUND_S),
        )
        return Reading((*samples, *self._profits(), *(self._alikes(host, now) if counts.profit is not None else ())), facts)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Say that only Linux has it."""
        return unknown(self.metrics, f"{host.system} has no same-page merging")

    def close(self) -> None:
        """Let every descriptor go."""
        for source in (*self._sources.values(), *([self._cpu] if self._cpu else [])):
            source.close()

    def _counts(self, host: Host) -> Counts:
        run, shared, sharing, unshared, volatile, sleep_ms = (int(self._sources[name].text(host)) for name in _FILES)
        newer: list[int | None] = []
        for name in _NEWER:
            try:
                newer.append(int(self._sources[name].text(host)))
            except FileNotFoundError:
                newer.append(None)
        return Counts(run, shared, sharing, unshared, volatile, sleep_ms, newer[0], newer[1] or 0)

    def _cores(self, host: Host, now: Now) -> Sample:
        """What ksmd takes. It is a thread of the kernel, found once by its name."""
        if self._cpu is None:
            ksmd = find_ksmd(host) if self._looked_ms == now.mono_ms else None  # each name is read: once a minute will do
            if ksmd is None:
                return Sample("infra.ksm_cpu", "host", None, "ksmd can't be seen from here")
            self._cpu = Source(f"/proc/{ksmd}/schedstat")
            self._core_bytes = core_bytes(host)
        try:
            ran_ns = int(self._cpu.text(host).split()[0])
        except (OSError, ValueError, IndexError):
            self._cpu = None
            return Sample("infra.ksm_cpu", "host", None, "this kernel does not count what ksmd takes")
        return self._rates.sample("infra.ksm_cpu", "host", ran_ns / 1e9, now.mono_ms)

    def _look(self, host: Host, now: Now) -> tuple[Fact, ...]:
        """Ask every process; facts tell who the largest are."""
        self._looked_ms = now.mono_ms
        before, self._members = self._members, opted_in(host, page_bytes())
        self._owner = owner_of_ksm(host) if self._members else ""
        known = {one.subject for one in self._members[:_TOP]}
        ended = [Fact("ksm.opted_in_bytes", one.subject, None) for one in before[:_TOP] if one.subject not in known]
        return (*(Fact("ksm.opted_in_bytes", one.subject, one.bytes) for one in self._members[:_TOP]), *ended)

    def _alikes(self, host: Host, now: Now) -> list[Sample]:
        """Units that could be merged, looked for each ten minutes, where the kernel can merge whole processes (6.4)."""
        if self._alike_ms is None or now.mono_ms - self._alike_ms >= _ALIKE_MS:
            self._alike_ms, self._alike = now.mono_ms, alike_bytes(host, page_bytes())
        return [Sample("infra.alike_bytes", f"unit:{unit}", float(size)) for unit, size in self._alike.items()]

    def _profits(self) -> list[Sample]:
        """What is saved in each of the largest, as of the last look."""
        return [
            Sample("infra.ksm_process_profit_bytes", one.subject, one.profit, "" if one.profit is not None else _UNTOLD)
            for one in self._members[:_TOP]
        ]


def core_bytes(host: Host) -> float:
    """Memory for each core of this host: what a core is worth. Raises OSError, KeyError, ValueError."""
    memory = parse_meminfo(host.read("/proc/meminfo").decode("ascii", "replace"))["MemTotal"]
    stat = host.read("/proc/stat").decode("ascii", "replace").splitlines()
    cores = sum(1 for line in stat if line.startswith("cpu") and line[3:4].isdigit())
    if not cores:
        raise ValueError("no CPU in /proc/stat")
    return memory / cores


def probe() -> Ksm:
    """Make the probe."""
    return Ksm()
