"""Work that stead itself runs and looks after: definitions, workers, and what they report."""

from __future__ import annotations

from typing import Literal

import msgspec


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to ask a worker whether it is well: an HTTP address, or a command. `{port}` is the worker's own port."""

    http: str = ""
    argv: tuple[str, ...] = ()
    interval_s: float = 2.0
    timeout_s: float = 1.0
    failures: int = 3  # this many in a row make it unhealthy


class WorkloadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One workload: a command run by `workers` process groups of stead's own.

    Each worker gets STEAD_WORKER (its index) and STEAD_STATUS (a file) in its environment. It reports by replacing that
    file with one JSON object: requests_total, errors_total, busy (0 or 1, or a count), capacity, queue_depth,
    oldest_job_s, arrival_per_s, service_s, latency_ms (a list of recent ones). Every key is optional.
    """

    name: str
    argv: tuple[str, ...]
    workers: int = 1  # how many at first
    min_workers: int = 1  # stead never goes below
    max_workers: int = 8  # nor above
    env: dict[str, str] = {}  # added to the agent's own
    cwd: str = ""  # working directory of the workers
    port: int | None = None  # worker i listens on port + i
    health: Health | None = None  # how to ask whether a worker is well; none: alive is well
    stop_grace_s: float = 5.0  # from SIGTERM to SIGKILL
    start_grace_s: float = 2.0  # time to become healthy
    backoff_s: float = 1.0  # first delay after a crash; doubles to backoff_max_s
    backoff_max_s: float = 60.0  # no delay is longer
    cpus: tuple[int, ...] = ()  # affinity
    merge_memory: bool = False  # let the kernel merge its memory with equal pages (KSM), where ksmd runs


class Worker(msgspec.Struct, frozen=True):
    """One running worker, by identity, so that it can be adopted again after the agent was killed."""

    index: int
    pid: int
    start_ticks: int
    boot_id: str
    started_ms: int
    generation: int
    state: Literal["starting", "healthy", "unhealthy", "stopping", "backing_off", "gone"] = "starting"


class WorkloadStatus(msgspec.Struct, frozen=True):
    """A workload as it is: what is wanted, what runs, and what its workers report (None: not reported)."""

    name: str
    id: str  # the life of this definition; the target's identity
    generation: int  # rises with each graceful restart
    wanted: int
    workers: tuple[Worker, ...]
    crashes: int = 0
    restarts: int = 0
    requests_total: int | None = None
    errors_total: int | None = None
    busy: float | None = None
    capacity: float | None = None
    queue_depth: float | None = None
    oldest_job_s: float | None = None
    arrival_per_s: float | None = None
    service_s: float | None = None
    latency_p95_ms: float | None = None
    min_workers: int = 1
    max_workers: int = 8
    reached: int = 0  # the newest generation that all wanted workers were healthy in; below `generation`: a restart is under way
    replace_s: float = 9.0  # the longest that replacing one worker may take
    reason: str = ""  # what is wrong with its workers, in words
    unsupported: str = ""  # what of its definition this system can't do, in words

    @property
    def running(self) -> int:
        """Workers that are up."""
        return sum(1 for worker in self.workers if worker.state in ("starting", "healthy", "unhealthy"))
