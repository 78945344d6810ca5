"""The process table where there is no /proc: everything of every process, through psutil."""

from __future__ import annotations

import heapq
from operator import attrgetter
from typing import Any, Final

from stead.host import redact
from stead.model.observe import Fact, Now, ProcessUse, Reading, Sample, Top
from stead.probes.proc_details import printable
from stead.probes.reading import FIRST
from stead.protocols import Host

_TOP: Final = 10
_HOT_CORES: Final = 0.05
_FIELDS: Final = ["pid", "name", "cmdline", "create_time", "cpu_times", "memory_info", "num_threads", "status"]
_STATES: Final = {"running": "R", "sleeping": "S", "disk-sleep": "D", "stopped": "T", "zombie": "Z", "idle": "I"}


class Elsewhere:
    """Remembers each process's CPU time, and makes rates of it."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._at_ms: int | None = None

    def read(self, host: Host, now: Now) -> Reading:
        """Read all processes once."""
        elapsed_s = 0.0 if self._at_ms is None else (now.mono_ms - self._at_ms) / 1000
        cpu_s: dict[str, float] = {}
        uses = []
        for process in host.psutil.process_iter(_FIELDS):
            use = self._use(process.info, cpu_s, elapsed_s)
            if use is not None:
                uses.append(use)
        self._before, self._at_ms = cpu_s, now.mono_ms
        return _reading(host, now, uses)

    def _use(self, info: dict[str, Any], cpu_s: dict[str, float], elapsed_s: float) -> ProcessUse | None:
        if info.get("create_time") is None:
            return None  # gone, or not ours to see
        times, memory = info.get("cpu_times"), info.get("memory_info")
        name = printable(info.get("name") or "?")
        use = ProcessUse(
            pid=info["pid"],
            start_ticks=int(info["create_time"] * 100),
            name=name,
            command=printable(redact(info.get("cmdline") or ()))[:200] or f"[{name}]",
            uid=-1,
            cpu_cores=None,
            rss_bytes=None if memory is None else memory.rss,
            io_bytes_per_s=None,
            threads=info.get("num_threads"),
            descriptors=None,
            state=_STATES.get(info.get("status") or "", "?"),
        )
        if times is None:
            return use
        cpu_s[use.subject] = spent_s = times.user + times.system
        before_s = self._before.get(use.subject)
        if before_s is None or elapsed_s <= 0:
            return use
        return _with_cores(use, max(0.0, spent_s - before_s) / elapsed_s)


def _with_cores(use: ProcessUse, cores: float) -> ProcessUse:
    import msgspec

    return msgspec.structs.replace(use, cpu_cores=cores)


def _reading(host: Host, now: Now, uses: list[ProcessUse]) -> Reading:
    running = sum(1 for use in uses if use.state == "R")
    by_cpu = heapq.nlargest(_TOP, (use for use in uses if use.cpu_cores), key=attrgetter("cpu_cores"))
    by_memory = heapq.nlargest(_TOP, (use for use in uses if use.rss_bytes), key=attrgetter("rss_bytes"))
    samples = [
        Sample("infra.processes_total", "host", float(len(uses))),
        Sample("infra.processes_running", "host", float(running)),
    ]
    facts = []
    for use in by_cpu:
        if (use.cpu_cores or 0.0) >= _HOT_CORES:
            samples.append(
                Sample("infra.process_cpu_cores", use.subject, use.cpu_cores, "" if use.cpu_cores is not None else FIRST)
            )
            samples.append(Sample("infra.others_run_delay", use.subject, None, f"{host.system} does not count run delay"))
            facts.append(Fact("process", use.subject, f"{use.name}: {use.command}"))
    top = Top(at_ms=now.unix_ms, total=len(uses), running=running, by_cpu=tuple(by_cpu), by_memory=tuple(by_memory))
    return Reading(tuple(samples), tuple(facts), top)
