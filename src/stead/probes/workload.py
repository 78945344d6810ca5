"""What the workloads of this host report: requests, errors, latency, queue, and how busy their workers are.

Rates come from counters over a window of this probe's own. What a workload has never reported is not its metric and is not
emitted; what it reported before and does not now is unknown.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample
from stead.model.workload import WorkloadStatus
from stead.protocols import Host, WorkloadDriver

WINDOW_MS: Final = 60_000
SHORT_MS: Final = 5_000  # the error rate's window, when that holds enough requests
ENOUGH: Final = 50
TARGET_UTILISATION: Final = 0.7
SILENT: Final = "its workers don't report it now"
FIRST: Final = "first reading"


class History:
    """One workload's counters over the last minute."""

    def __init__(self) -> None:
        self.points: deque[tuple[int, int | None, int | None, int]] = deque()  # (mono_ms, requests, errors, crashes)
        self.reported: set[str] = set()
        self.waited: tuple[int, dict[int, int | None]] = (0, {})  # mono_ms, pid → ns that it has waited for a CPU

    def add(self, status: WorkloadStatus, now: Now) -> None:
        """Remember this reading; forget those older than the window."""
        self.points.append((now.mono_ms, status.requests_total, status.errors_total, status.crashes))
        while self.points[0][0] < now.mono_ms - WINDOW_MS:
            self.points.popleft()
        self.reported |= {name for name in _OPTIONAL if getattr(status, name) is not None}

    def request_rate(self) -> tuple[float | None, str]:
        """Requests a second since the reading before."""
        if len(self.points) < 2:
            return None, FIRST
        (then_ms, then, _, _), (now_ms, now, _, _) = self.points[-2], self.points[-1]
        if then is None or now is None:
            return None, SILENT
        if now < then or now_ms <= then_ms:
            return None, "counter reset"
        return (now - then) * 1000 / (now_ms - then_ms), ""

    def error_rate(self) -> tuple[float | None, str]:
        """Errors of all requests, over the shortest window from `SHORT_MS` to a minute that holds `ENOUGH` of them."""
        now_ms, requests, errors, _ = self.points[-1]
        if requests is None or errors is None:
            return None, SILENT
        seen = 0
        for then_ms, then_requests, then_errors, _ in reversed(self.points):
            if then_requests is None or then_errors is None or then_requests > requests or then_errors > errors:
                break
            seen = requests - then_requests
            if seen >= ENOUGH and now_ms - then_ms >= SHORT_MS:
                return (errors - then_errors) / seen, ""
        return None, f"{seen} requests are too few to tell ({ENOUGH} are needed)"

    def crashes(self) -> float:
        """Workers that ended by themselves in the last minute."""
        return float(self.points[-1][3] - self.points[0][3])


class WorkloadProbe:
    """protocols.Probe over the drivers' statuses."""

    name = "workload"
    interval_s = 1.0
    timeout_s = 1.0
    blocking = False
    metrics = (
        MetricSpec("api.request_rate", "requests_per_second", "Requests that a workload answered"),
        MetricSpec("api.error_rate", "ratio", "Share of its answers that were errors"),
        MetricSpec("api.latency_p95", "milliseconds", "95th percentile of its recent answers' latency", "p95"),
        MetricSpec("api.saturation", "percent", "Busy of all request slots", "max"),
        MetricSpec("executor.queue_depth", "count", "Jobs that wait", "max"),
        MetricSpec("executor.task_latency", "seconds", "Age of the oldest job that waits", "max"),
        MetricSpec("executor.worker_utilization", "percent", "Busy of all workers"),
        MetricSpec("executor.workers_needed", "count", "Workers that the arriving jobs need at 70 % use", "max"),
        MetricSpec("workload.crashes", "count", "Workers that ended by themselves in the last minute", "max"),
        MetricSpec("workload.run_delay", "ratio", "Seconds a second that its workers waited for a CPU"),
        MetricSpec("workload.workers_running", "processes", "Workers that are up", "min"),
    )

    def __init__(self, drivers: Mapping[str, WorkloadDriver]) -> None:
        self._drivers = drivers
        self._history: dict[str, History] = {}

    def read(self, host: Host, now: Now) -> Reading:
        """Read every workload's status."""
        samples: list[Sample] = []
        facts: list[Fact] = []
        seen = set()
        for driver in self._drivers.values():
            for name in driver.names():
                status = driver.status(name)
                if status is not None:
                    seen.add(status.id)
                    samples += self._samples(status, now)
                    samples.append(self._run_delay(host, status, now))
                    if status.unsupported:
                        facts.append(Fact("workload.unsupported", f"workload:{name}", status.unsupported))
        self._history = {key: history for key, history in self._history.items() if key in seen}
        return Reading(tuple(samples), tuple(facts))

    def _run_delay(self, host: Host, status: WorkloadStatus, now: Now) -> Sample:
        """How long its workers waited for a CPU; a worker that is new, or can't be read, tells from the next reading on."""
        history = self._history[status.id]
        waited = {worker.pid: waited_ns(host, worker.pid) for worker in status.workers if worker.pid}
        then_ms, before = history.waited
        history.waited = (now.mono_ms, waited)
        both = [(ns, was) for pid, ns in waited.items() if ns is not None and (was := before.get(pid)) is not None]
        if not both or now.mono_ms <= then_ms:
            return Sample("workload.run_delay", f"workload:{status.name}", None, FIRST)
        seconds = sum(max(ns - was, 0) for ns, was in both) / 1e9
        return Sample("workload.run_delay", f"workload:{status.name}", seconds * 1000 / (now.mono_ms - then_ms))

    def _samples(self, status: WorkloadStatus, now: Now) -> Iterator[Sample]:
        history = self._history.setdefault(status.id, History())
        history.add(status, now)
        subject = f"workload:{status.name}"
        yield Sample("workload.crashes", subject, history.crashes())
        yield Sample("workload.workers_running", subject, float(status.running))
        if "requests_total" in history.reported:
            yield Sample("api.request_rate", subject, *history.request_rate())
            yield Sample("api.error_rate", subject, *history.error_rate())
            yield _known("api.saturation", subject, _percent(status.busy, status.capacity))
        if "latency_p95_ms" in history.reported:
            yield _known("api.latency_p95", subject, status.latency_p95_ms)
        if "queue_depth" in history.reported:
            yield _known("executor.queue_depth", subject, status.queue_depth)
            yield _known("executor.task_latency", subject, status.oldest_job_s)
            yield _known("executor.worker_utilization", subject, _percent(status.busy, status.capacity))
            yield _known("executor.workers_needed", subject, needed(status))


_OPTIONAL: Final = ("requests_total", "latency_p95_ms", "queue_depth")


def needed(status: WorkloadStatus) -> float | None:
    """Workers for the present arrivals at `TARGET_UTILISATION`, within the workload's own bounds."""
    if status.arrival_per_s is None or status.service_s is None:
        return None
    workers = math.ceil(status.arrival_per_s * status.service_s / TARGET_UTILISATION)
    return float(min(max(workers, status.min_workers), status.max_workers))


def waited_ns(host: Host, pid: int) -> int | None:
    """Nanoseconds that all threads of a process have waited for a CPU; None where that can't be read."""
    try:
        threads = host.list(f"/proc/{pid}/task")
        return sum(int(host.read(f"/proc/{pid}/task/{thread}/schedstat").split()[1]) for thread in threads)
    except (OSError, ValueError, IndexError):
        return None


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole * 100


def _known(metric: str, subject: str, value: float | None) -> Sample:
    return Sample(metric, subject, value, "" if value is not None else SILENT)


def probe(drivers: Mapping[str, WorkloadDriver]) -> WorkloadProbe:
    """Make the probe on these drivers."""
    return WorkloadProbe(drivers)
