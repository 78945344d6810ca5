from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stead.host import LocalHost
from stead.model.observe import UNITS, Now
from stead.model.workload import Worker, WorkloadStatus
from stead.probes.workload import WINDOW_MS, WorkloadProbe, needed

HOST = LocalHost()
WEB = WorkloadStatus("web", "id-web", 1, 2, (Worker(0, 10, 1, "b", 0, 1, "healthy"), Worker(1, 0, 0, "b", 0, 1, "backing_off")))
QUEUE = replace(
    WEB,
    name="queue",
    id="id-queue",
    queue_depth=30.0,
    oldest_job_s=4.0,
    busy=1.0,
    capacity=2.0,
    arrival_per_s=18.0,
    service_s=0.15,
)


class Drivers:
    kind = "fake"

    def __init__(self, *statuses: WorkloadStatus) -> None:
        self.statuses = {status.name: status for status in statuses}

    def names(self) -> Sequence[str]:
        return tuple(self.statuses)

    def status(self, name: str) -> Any:
        return self.statuses.get(name)

    def set(self, **fields: Any) -> None:
        [name] = self.statuses
        self.statuses[name] = replace(self.statuses[name], **fields)


def probe_of(driver: Drivers) -> WorkloadProbe:
    return WorkloadProbe({"fake": driver})  # type: ignore[dict-item]


def read(probe: WorkloadProbe, at_s: float) -> dict[str, tuple[float | None, str]]:
    reading = probe.read(HOST, Now(0, int(at_s * 1000)))
    return {sample.metric: (sample.value, sample.reason) for sample in reading.samples}


def test_what_was_never_reported_is_not_emitted_and_never_zero() -> None:
    values = read(probe_of(Drivers(WEB)), 0)
    assert values == {
        "workload.crashes": (0.0, ""),
        "workload.workers_running": (1.0, ""),
        "workload.run_delay": (None, "first reading"),
    }


class Files:
    """A host with these files under /proc."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def list(self, path: str) -> list[str]:
        names = {name.removeprefix(f"{path}/").partition("/")[0] for name in self.files if name.startswith(f"{path}/")}
        if not names:
            raise FileNotFoundError(path)
        return sorted(names)

    def read(self, path: str) -> bytes:
        return self.files[path].encode()


def test_run_delay_is_what_all_threads_of_its_workers_waited() -> None:
    files = {"/proc/10/task/10/schedstat": "5 1000000000 1", "/proc/10/task/11/schedstat": "5 0 1"}
    host, probe = Files(files), probe_of(Drivers(WEB))

    def delay(at_s: float) -> float | None:
        reading = probe.read(host, Now(0, int(at_s * 1000)))  # type: ignore[arg-type]
        return next(sample.value for sample in reading.samples if sample.metric == "workload.run_delay")

    assert delay(0) is None
    files["/proc/10/task/10/schedstat"], files["/proc/10/task/11/schedstat"] = "5 1300000000 1", "5 100000000 1"
    assert delay(2) == 0.2
    files.clear()  # it is gone: unknown, and not zero
    assert delay(3) is None


def test_what_was_reported_and_is_not_now_is_unknown_with_a_reason() -> None:
    driver = Drivers(QUEUE)
    probe = probe_of(driver)
    assert read(probe, 0)["executor.queue_depth"] == (30.0, "")
    driver.set(queue_depth=None, busy=None)
    for metric in ("executor.queue_depth", "executor.worker_utilization"):
        value, reason = read(probe, 1)[metric]
        assert value is None and "report" in reason


def test_request_rate_is_the_counter_s_slope() -> None:
    driver = Drivers(replace(WEB, requests_total=100, errors_total=0))
    probe = probe_of(driver)
    assert read(probe, 0)["api.request_rate"] == (None, "first reading")
    driver.set(requests_total=130)
    assert read(probe, 2)["api.request_rate"] == (15.0, "")
    driver.set(requests_total=10)
    assert read(probe, 3)["api.request_rate"] == (None, "counter reset")


def test_error_rate_needs_fifty_requests_and_takes_the_shortest_window_that_has_them() -> None:
    driver = Drivers(replace(WEB, requests_total=0, errors_total=0))
    probe = probe_of(driver)
    rates = []
    for second in range(1, 31):  # 10 requests a second; all fail until second 10, none later
        driver.set(requests_total=second * 10, errors_total=min(second, 10) * 10)
        rates.append(read(probe, second)["api.error_rate"][0])
    assert rates[:5] == [None] * 5  # 10 to 40 since the first reading
    assert rates[5] == 1.0
    assert rates[14] == 0.0  # five seconds later the errors are out of the window


def test_error_rate_of_few_requests_looks_back_at_most_a_minute() -> None:
    driver = Drivers(replace(WEB, requests_total=0, errors_total=0))
    probe = probe_of(driver)
    for second in range(0, 200, 2):  # one request each 2 s: a minute holds 30
        driver.set(requests_total=second // 2)
        value, reason = read(probe, second)["api.error_rate"]
        assert value is None
    assert reason.startswith("30 requests")


def test_crashes_are_those_of_the_last_minute() -> None:
    driver = Drivers(WEB)
    probe = probe_of(driver)
    read(probe, 0)
    driver.set(crashes=3)
    assert read(probe, 1)["workload.crashes"] == (3.0, "")
    read(probe, 30)
    assert read(probe, 61 + WINDOW_MS / 1000)["workload.crashes"] == (0.0, "")


def test_workers_needed_follow_arrivals_and_service_time_within_bounds() -> None:
    assert needed(QUEUE) == 4  # ceil(18 * 0.15 / 0.7)
    assert needed(replace(QUEUE, arrival_per_s=1000.0)) == QUEUE.max_workers
    assert needed(replace(QUEUE, arrival_per_s=0.0, min_workers=2)) == 2
    assert needed(replace(QUEUE, service_s=None)) is None
    values = read(probe_of(Drivers(QUEUE)), 0)
    assert values["executor.workers_needed"] == (4.0, "") and values["executor.worker_utilization"] == (50.0, "")


def test_it_declares_what_it_emits() -> None:
    probe = probe_of(Drivers(replace(QUEUE, requests_total=1, errors_total=0, latency_p95_ms=2.0)))
    declared = {metric.id for metric in probe.metrics}
    assert set(read(probe, 0)) == declared
    assert all(metric.unit in UNITS for metric in probe.metrics)


def test_a_workload_that_is_gone_is_forgotten() -> None:
    driver = Drivers(QUEUE)
    probe = probe_of(driver)
    read(probe, 0)
    driver.statuses.clear()
    assert read(probe, 1) == {} and probe._history == {}


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 20)), max_size=30))
def test_an_error_rate_is_a_share_or_unknown(steps: list[tuple[int, int, int]]) -> None:
    driver = Drivers(replace(WEB, requests_total=0, errors_total=0))
    probe = probe_of(driver)
    at_s = requests = errors = 0
    for good, bad, seconds in steps:
        at_s, requests, errors = at_s + seconds, requests + good + bad, errors + bad
        driver.set(requests_total=requests, errors_total=errors)
        value, reason = read(probe, at_s)["api.error_rate"]
        assert (value is None and reason) or (value is not None and 0 <= value <= 1)
