"""How busy the CPUs are, who took their time, and how long work waited for them."""

from __future__ import annotations

from typing import NamedTuple

from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.kernel_files import parse_schedstat
from stead.probes.reading import FIRST, RESET, Rates, Source, SystemProbe
from stead.protocols import Host


class Times(NamedTuple):
    """One CPU's time since boot, in clock ticks (seconds through psutil). Guests' time is inside user and nice."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float


class Shares(NamedTuple):
    """Percent of one interval: busy is all but idle, waiting for IO and stolen."""

    busy: float
    iowait: float
    steal: float


def parse_stat(text: str) -> dict[str, Times]:
    """Parse the CPU lines of /proc/stat: "cpu" is all of them together, "cpu0" one. Raises ValueError without any."""
    times = {}
    for line in text.splitlines():
        if not line.startswith("cpu"):
            break  # the CPU lines come first
        name, *fields = line.split()
        values = [float(field) for field in fields[:8]]
        times[name] = Times(*values, *[0.0] * (8 - len(values)))
    if "cpu" not in times:
        raise ValueError("no cpu line")
    return times


def parse_loadavg(text: str) -> tuple[float, float, float]:
    """Parse the load averages over 1, 5 and 15 minutes."""
    one, five, fifteen = text.split()[:3]
    return float(one), float(five), float(fifteen)


def shares(before: Times | None, after: Times) -> Shares | str:
    """Compare two readings: percentages, or why there are none."""
    if before is None:
        return FIRST
    total = sum(after) - sum(before)
    if total < 0 or after.user < before.user or after.system < before.system:
        return RESET
    if total == 0:
        return "no time passed"
    # idle and iowait may step back a little by the kernel's own rounding
    idle, iowait, steal = (max(0.0, a - b) for a, b in ((after[i], before[i]) for i in (3, 4, 7)))
    return Shares(100.0 * max(0.0, total - idle - iowait - steal) / total, 100.0 * iowait / total, 100.0 * steal / total)


class Cpu(SystemProbe):
    """Utilisation of the host and of each core, load averages, and run delay."""

    name = "cpu"
    metrics = (
        MetricSpec("infra.cpu_utilization", "percent", "CPU time spent working: all but idle, waiting for IO and stolen"),
        MetricSpec("infra.cpu_steal", "percent", "CPU time that the hypervisor gave to others"),
        MetricSpec("cpu.iowait_percent", "percent", "CPU time idle while IO was outstanding"),
        MetricSpec("cpu.core_percent", "percent", "Utilisation of one core"),
        MetricSpec("cpu.load_1m", "count", "Load average over 1 minute"),
        MetricSpec("cpu.load_5m", "count", "Load average over 5 minutes"),
        MetricSpec("cpu.load_15m", "count", "Load average over 15 minutes"),
        MetricSpec("cpu.run_delay_ratio", "ratio", "Seconds that tasks waited for a CPU, per second"),
    )

    def __init__(self) -> None:
        self._stat = Source("/proc/stat")
        self._loadavg = Source("/proc/loadavg")
        self._schedstat = Source("/proc/schedstat")
        self._before: dict[str, Times] = {}
        self._rates = Rates()

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc/stat, /proc/loadavg and /proc/schedstat."""
        return Reading((*self._utilization(parse_stat(self._stat.text(host))), *self._load(host), self._run_delay(host, now)))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read cpu_times and getloadavg."""
        times = {"cpu": _times(host.psutil.cpu_times())}
        times.update((f"cpu{index}", _times(one)) for index, one in enumerate(host.psutil.cpu_times(percpu=True)))
        lacks = {"infra.cpu_steal", "cpu.iowait_percent"}
        reason = f"{host.system} has no such count"
        samples = [Sample(s.metric, s.subject, None, reason) if s.metric in lacks else s for s in self._utilization(times)]
        names = ("cpu.load_1m", "cpu.load_5m", "cpu.load_15m")
        if host.system == "windows":
            samples += [Sample(name, "host", None, "windows has no load average") for name in names]
        else:
            samples += [Sample(name, "host", float(value)) for name, value in zip(names, host.psutil.getloadavg(), strict=True)]
        samples.append(Sample("cpu.run_delay_ratio", "host", None, f"{host.system} does not count run delay"))
        return Reading(tuple(samples))

    def _utilization(self, times: dict[str, Times]) -> list[Sample]:
        before, self._before = self._before, times
        samples = []
        for name, after in times.items():
            share = shares(before.get(name), after)
            known, reason = (None, share) if isinstance(share, str) else (share, "")
            if name != "cpu":
                samples.append(Sample("cpu.core_percent", f"core:{name[3:]}", known and known.busy, reason))
                continue
            samples.append(Sample("infra.cpu_utilization", "host", known and known.busy, reason))
            samples.append(Sample("infra.cpu_steal", "host", known and known.steal, reason))
            samples.append(Sample("cpu.iowait_percent", "host", known and known.iowait, reason))
        return samples

    def _load(self, host: Host) -> list[Sample]:
        names = ("cpu.load_1m", "cpu.load_5m", "cpu.load_15m")
        try:
            values = parse_loadavg(self._loadavg.text(host))
        except (OSError, ValueError):
            return [Sample(name, "host", None, "/proc/loadavg can't be read") for name in names]
        return [Sample(name, "host", value) for name, value in zip(names, values, strict=True)]

    def _run_delay(self, host: Host, now: Now) -> Sample:
        try:
            waited_s = parse_schedstat(self._schedstat.text(host))
        except (OSError, ValueError, IndexError):
            return Sample("cpu.run_delay_ratio", "host", None, "this kernel has no /proc/schedstat")
        return self._rates.sample("cpu.run_delay_ratio", "host", waited_s, now.mono_ms)


def _times(times: object) -> Times:
    """Take psutil's named fields; those that the system lacks count nothing."""
    return Times(*(float(getattr(times, field, 0.0)) for field in Times._fields))


def probe() -> Cpu:
    """Make the probe."""
    return Cpu()
