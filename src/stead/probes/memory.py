"""How much memory is left, how much swap is used, and whom the kernel killed for want of it."""

from __future__ import annotations

from typing import Final

from stead.host.procfs import parse_meminfo
from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.kernel_files import available_bytes
from stead.probes.reading import Rates, Source, SystemProbe
from stead.protocols import Host

_OOM_INTERVAL_MS: Final = 10_000  # /proc/vmstat is long, and an OOM kill can wait ten seconds to be counted


def parse_oom_kills(text: str) -> int | None:
    """Find the count of OOM kills in /proc/vmstat; None where the kernel does not count them."""
    for line in text.splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


class Memory(SystemProbe):
    """Memory and swap of the host."""

    name = "memory"
    metrics = (
        MetricSpec("infra.memory_utilization", "percent", "Memory that can't be had without swapping: 1 - available / total"),
        MetricSpec("infra.swap_used", "percent", "Swap space in use"),
        MetricSpec("memory.used_bytes", "bytes", "Memory that can't be had without swapping"),
        MetricSpec("memory.available_bytes", "bytes", "Memory that can be had without swapping"),
        MetricSpec("memory.cached_bytes", "bytes", "Memory that holds copies of files"),
        MetricSpec("infra.oom_kills", "count", "Processes killed for want of memory since the reading before", "sum"),
    )

    def __init__(self) -> None:
        self._meminfo = Source("/proc/meminfo")
        self._vmstat = Source("/proc/vmstat")
        self._rates = Rates()
        self._oom_at_ms: int | None = None

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc/meminfo, and /proc/vmstat each ten seconds."""
        sizes = parse_meminfo(self._meminfo.text(host))
        swap = sizes.get("SwapTotal", 0), sizes.get("SwapTotal", 0) - sizes.get("SwapFree", 0)
        cached = sizes["Cached"] + sizes.get("SReclaimable", 0) if "Cached" in sizes else None
        samples = _samples(sizes["MemTotal"], available_bytes(sizes), cached, *swap)
        if self._oom_at_ms is None or now.mono_ms - self._oom_at_ms >= _OOM_INTERVAL_MS:
            self._oom_at_ms = now.mono_ms
            samples.append(self._oom_kills(host, now))
        return Reading(tuple(samples))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read virtual_memory and swap_memory."""
        memory, swap = host.psutil.virtual_memory(), host.psutil.swap_memory()
        samples = _samples(memory.total, memory.available, getattr(memory, "cached", None), swap.total, swap.used)
        samples.append(Sample("infra.oom_kills", "host", None, f"{host.system} does not count OOM kills"))
        return Reading(tuple(samples))

    def _oom_kills(self, host: Host, now: Now) -> Sample:
        try:
            kills = parse_oom_kills(self._vmstat.text(host))
        except (OSError, ValueError):
            kills = None
        if kills is None:
            return Sample("infra.oom_kills", "host", None, "this kernel does not count OOM kills")
        moved, _, reason = self._rates.delta("oom_kill", kills, now.mono_ms)
        return Sample("infra.oom_kills", "host", moved, reason)


def _samples(total: int, available: int, cached: int | None, swap_total: int, swap_used: int) -> list[Sample]:
    if total <= 0:
        raise ValueError("no memory at all")
    no_swap = "" if swap_total else "no swap configured"
    return [
        Sample("infra.memory_utilization", "host", 100.0 * (1 - available / total)),
        Sample("infra.swap_used", "host", 100.0 * swap_used / swap_total if swap_total else None, no_swap),
        Sample("memory.used_bytes", "host", float(total - available)),
        Sample("memory.available_bytes", "host", float(available)),
        Sample(
            "memory.cached_bytes",
            "host",
            None if cached is None else float(cached),
            "" if cached is not None else "not counted here",
        ),
    ]


def probe() -> Memory:
    """Make the probe."""
    return Memory()
