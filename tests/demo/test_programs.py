from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stead.demo.programs

PROGRAMS = Path(stead.demo.programs.__file__).parent
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program as stead would."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "STEAD_WORKER": "0",
            "STEAD_GENERATION": "1",
            "STEAD_STATUS": str(tmp_path / "status.json"),
            **environment,
        }
        started.append(subprocess.Popen([sys.executable, "-P", str(PROGRAMS / f"{name}.py"), *arguments], env=env))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.05)


def report(tmp_path: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads((tmp_path / "status.json").read_text())
        return found
    except (OSError, ValueError):
        return {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, path: str = "/work") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_the_service_works_and_reports_and_its_fault_is_of_one_generation(start: Start, tmp_path: Path) -> None:
    port, fault = free_port(), tmp_path / "fault"
    fault.write_text("7")  # another generation's
    web = start("web", STEAD_PORT=str(port), STEAD_DEMO_FAULT=str(fault))
    until(lambda: ask(port, "/healthz") == 200)
    assert [ask(port) for _ in range(6)] == [200] * 6
    until(lambda: report(tmp_path).get("requests_total") == 6)
    assert report(tmp_path)["errors_total"] == 0
    fault.write_text("1")
    answers = [ask(port) for _ in range(60)]
    assert 500 in answers and 200 in answers
    assert web.wait(10) == 70  # and worker 0 dies of it
    again = start("web", STEAD_PORT=str(port), STEAD_DEMO_FAULT=str(fault), STEAD_GENERATION="2")
    until(lambda: ask(port, "/healthz") == 200)
    assert {ask(port) for _ in range(60)} == {200} and again.poll() is None


def test_a_queue_worker_takes_every_job_once_and_reports(start: Start, tmp_path: Path) -> None:
    queue, left = tmp_path / "jobs" / "queue", tmp_path / "jobs" / "taken-0"
    queue.mkdir(parents=True)
    left.mkdir()
    (left / f"{time.time_ns()}-1").touch()  # an earlier worker died over this one
    for number in range(2, 40):
        (queue / f"{time.time_ns()}-{number}").touch()
    start("queue_worker", STEAD_DEMO_QUEUE=str(queue))
    until(lambda: report(tmp_path).get("queue_depth"))
    seen = report(tmp_path)
    assert 0 < seen["queue_depth"] < 39 and seen["oldest_job_s"] > 0 and 0.1 < seen["service_s"] < 1  # type: ignore[operator]
    until(lambda: not os.listdir(queue) and not os.listdir(left))


def test_the_load_follows_its_control_file_and_clients_see_what_a_balancer_would_let_them(start: Start, tmp_path: Path) -> None:
    port, dead = free_port(), free_port()
    start("web", STEAD_PORT=str(port), STEAD_DEMO_FAULT=str(tmp_path / "fault"))
    until(lambda: ask(port, "/healthz") == 200)
    control, queue = tmp_path / "load.json", tmp_path / "queue"
    control.write_text('{"http_per_s": 30, "jobs_per_s": 20}')
    start("load", STEAD_DEMO_LOAD=str(control), STEAD_DEMO_QUEUE=str(queue), STEAD_DEMO_PORTS=f"{dead},{port}")

    def seen() -> dict[str, float]:
        path = tmp_path / "load.seen.json"
        return json.loads(path.read_text()) if path.exists() else {}

    until(lambda: seen().get("requests", 0) > 20 and len(os.listdir(queue)) > 10)
    assert seen()["errors"] == 0 and seen()["p95_ms"] > 0
    numbers = sorted(int(name.partition("-")[2]) for name in os.listdir(queue))
    assert numbers == list(range(1, len(numbers) + 1))
    control.write_text('{"jobs_per_s": 0}')
    time.sleep(1.5)
    count = len(os.listdir(queue))
    time.sleep(0.5)
    assert len(os.listdir(queue)) == count


def test_the_hog_has_its_name_and_its_core_and_ends_by_itself(start: Start) -> None:
    core = max(os.sched_getaffinity(0))
    hog = start("hog", "demo-hog-test", str(core), "3")
    until(lambda: Path(f"/proc/{hog.pid}/comm").read_text().strip() == "demo-hog-test")
    until(lambda: os.sched_getaffinity(hog.pid) == {core})
    assert hog.wait(15) == 0
