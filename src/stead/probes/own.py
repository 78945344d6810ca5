"""What stead's own agent costs: its CPU time, with that of the commands it ran, and its memory."""

from __future__ import annotations

import os

from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.reading import Rates, Source, SystemProbe
from stead.protocols import Host


def parse_own_stat(text: str) -> tuple[int, int]:
    """Parse /proc/self/stat: CPU time in clock ticks with that of ended children, and resident pages."""
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]), int(fields[21])


class Own(SystemProbe):
    """The agent's own use."""

    name = "self"
    interval_s = 10.0
    metrics = (
        MetricSpec("stead.self_cpu_percent", "percent", "CPU time of the agent and the commands it ran, of one core"),
        MetricSpec("stead.self_rss_bytes", "bytes", "Resident memory of the agent"),
    )

    def __init__(self) -> None:
        self._stat = Source("/proc/self/stat")
        self._rates = Rates()

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc/self/stat."""
        ticks, pages = parse_own_stat(self._stat.text(host))
        return self._read(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"), now)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read the calling process's cpu_times and memory_info."""
        process = host.psutil.Process()
        times = process.cpu_times()
        return self._read(times.user + times.system, process.memory_info().rss, now)

    def _read(self, cpu_s: float, rss_bytes: int, now: Now) -> Reading:
        cpu = self._rates.sample("stead.self_cpu_percent", "host", cpu_s, now.mono_ms, 100.0)
        return Reading((cpu, Sample("stead.self_rss_bytes", "host", float(rss_bytes))))


def probe() -> Own:
    """Make the probe."""
    return Own()
