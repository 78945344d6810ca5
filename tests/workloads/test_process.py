from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from stead.host import SystemClock
from stead.model.errors import SteadError
from stead.model.workload import Health
from stead.workloads.process import ProcessWorkloads
from tests.workloads.conftest import children_of, pids, runs, sleeper, until

Make = Callable[..., ProcessWorkloads]


async def test_it_starts_the_wanted_workers_each_in_its_own_session(supervise: Make) -> None:
    driver = supervise(sleeper(workers=2))
    assert await driver.settle("web", 10)
    status = driver.status("web")
    assert status is not None and status.running == 2 and status.wanted == 2
    assert [worker.state for worker in status.workers] == ["healthy", "healthy"]
    assert all(os.getsid(pid) == pid for pid in pids(driver))


async def test_the_count_follows_what_is_wanted_and_is_bounded(supervise: Make) -> None:
    driver = supervise(sleeper(workers=1, max_workers=3))
    assert await driver.settle("web", 10)
    await driver.set_workers("web", 3)
    assert await driver.settle("web", 10) and len(pids(driver)) == 3
    extra = pids(driver)[1:]
    await driver.set_workers("web", 1)
    assert await driver.settle("web", 10)
    assert len(pids(driver)) == 1 and not any(runs(pid) for pid in extra)
    for count in (0, 4):
        with pytest.raises(SteadError, match="1 to 3 are allowed"):
            await driver.set_workers("web", count)
    with pytest.raises(SteadError, match="no workload 'mail'"):
        await driver.set_workers("mail", 1)


async def test_whoever_wants_a_change_is_told_each_operation_on_the_workers(supervise: Make) -> None:
    driver = supervise(sleeper(workers=1, max_workers=3))
    assert await driver.settle("web", 10)
    (first,) = pids(driver)
    more, fewer, anew = list[str](), list[str](), list[str]()
    await driver.set_workers("web", 2, more.append)
    assert await driver.settle("web", 10)
    second = pids(driver)[1]
    assert more == ["workers wanted of web: 1 → 2", f"start worker 1 of web: process {second}"]
    await driver.set_workers("web", 1, fewer.append)
    assert await driver.settle("web", 10)
    assert fewer == ["workers wanted of web: 2 → 1", f"SIGTERM to worker 1 of web: process group {second}"]
    await driver.restart("web", 2, anew.append)
    assert await driver.settle("web", 10)
    assert anew == [
        "generation of web: 1 → 2",
        f"SIGTERM to worker 0 of web: process group {first}",
        f"start worker 0 of web: process {pids(driver)[0]}",
    ]
    await driver.set_workers("web", 2)
    assert await driver.settle("web", 10) and len(more) + len(fewer) + len(anew) == 7, "nobody is told of another's change"


async def test_a_rolling_restart_replaces_every_worker_and_keeps_all_but_one(supervise: Make) -> None:
    driver = supervise(sleeper(workers=3))
    assert await driver.settle("web", 10)
    old = pids(driver)
    await driver.restart("web", 2)
    least = 3

    def done() -> bool:
        nonlocal least
        status = driver.status("web")
        assert status is not None
        least = min(least, sum(worker.state == "healthy" for worker in status.workers))
        return all(worker.generation == 2 and worker.state == "healthy" for worker in status.workers) and status.running == 3

    await until(done, driver)
    assert least == 2
    assert not set(old) & set(pids(driver)) and not any(runs(pid) for pid in old)
    status = driver.status("web")
    assert status is not None and (status.restarts, status.crashes) == (1, 0)
    await driver.restart("web", 2)  # the present generation: nothing to do
    assert driver.status("web").restarts == 1  # type: ignore[union-attr]
    with pytest.raises(SteadError, match="can't be un-restarted"):
        await driver.restart("web", 1)


async def test_a_restart_that_does_not_come_up_well_leaves_the_rest_alone(supervise: Make, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    program = (
        f"import os, time\nassert os.environ['STEAD_GENERATION'] == '1', 'no good'\nopen({str(flag)!r}, 'w')\ntime.sleep(60)"
    )
    spec = sleeper(workers=3)
    driver = supervise(replace(spec, argv=(spec.argv[0], "-c", program)))
    assert await driver.settle("web", 10)
    old = pids(driver)
    await driver.restart("web", 2)
    assert not await driver.settle("web", 10)
    status = driver.status("web")
    assert status is not None and "in a row" in status.reason
    assert sum(runs(pid) for pid in old) == 2


async def test_a_worker_that_crashes_is_started_again_ever_later(supervise: Make) -> None:
    driver = supervise(sleeper(mode="crash", workers=1, backoff_s=0.1, backoff_max_s=0.3))

    def crashed() -> bool:
        status = driver.status("web")
        return status is not None and status.crashes >= 4

    await until(crashed, driver)
    delays = []
    pool = driver._pools["web"]
    slot = pool.slots[0]
    for streak in (0, 1, 2, 3):
        slot.streak = streak
        now = SystemClock().now()
        slot.crashed(pool.spec, "", now)
        delays.append(slot.not_before_mono_ms - now.mono_ms)
    assert delays == [100, 200, 300, 300]


async def test_a_program_that_can_not_be_started_says_why(supervise: Make) -> None:
    spec = sleeper(workers=1)
    driver = supervise(replace(spec, argv=("/nonexistent/program",)))
    await driver.tick(SystemClock().now())
    status = driver.status("web")
    assert status is not None and status.crashes == 1
    assert "could not be started" in status.reason and "/nonexistent/program" in status.reason
    assert status.workers[0].state == "backing_off" and status.running == 0


async def test_who_ignores_sigterm_is_killed_after_the_grace_with_its_whole_group(supervise: Make) -> None:
    driver = supervise(sleeper("web", "stubborn", workers=1), sleeper("tree", "parent", workers=1))
    assert await driver.settle("web", 10) and await driver.settle("tree", 10)
    child = await children_of(pids(driver, "tree")[0], driver)
    stubborn = pids(driver)[0]
    assert child
    assert await driver.stop_all()
    assert not runs(stubborn) and not any(runs(pid) for pid in child)


async def test_it_knows_which_processes_its_workloads_started(supervise: Make) -> None:
    driver = supervise(sleeper(mode="parent", workers=1))
    assert await driver.settle("web", 10)
    [leader] = pids(driver)
    [child] = await children_of(leader, driver)
    assert driver.owns(leader) and driver.owns(child)
    assert not driver.owns(os.getpid()) and not driver.owns(1) and not driver.owns(2**22)


async def test_reports_reach_the_status_and_logs_are_kept_small(supervise: Make, tmp_path: Path) -> None:
    driver = supervise(sleeper(mode="chatty", workers=2))
    await until(lambda: driver.status("web").requests_total == 20, driver)  # type: ignore[union-attr]
    status = driver.status("web")
    assert status is not None
    assert (status.errors_total, status.busy, status.capacity, status.queue_depth) == (2, 2, 4, 7)
    assert status.latency_p95_ms == 3 and status.arrival_per_s is None
    await driver.tick(SystemClock().now())
    log = tmp_path / "workloads" / "web" / "0.log"
    assert log.stat().st_size < 1_000_000 and log.with_suffix(".log.1").stat().st_size == 500_000


async def test_a_full_disk_starts_nothing_that_could_not_be_found_again(supervise: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = supervise(sleeper(workers=1))

    def refuse(record: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(driver._files, "save", refuse)
    await driver.tick(SystemClock().now())
    status = driver.status("web")
    assert status is not None and "No space left" in status.reason and not pids(driver)
    monkeypatch.undo()
    assert await driver.settle("web", 10)


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, host: object) -> None:
    with pytest.raises(SteadError, match="can't be a workload's name"):
        ProcessWorkloads([sleeper("../etc")], tmp_path, host, SystemClock())  # type: ignore[arg-type]


async def test_http_health_decides_who_is_healthy(supervise: Make, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flag = tmp_path / "ill"
    program = (
        "import http.server, os, pathlib\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        " def do_GET(self):\n"
        f"  self.send_response(500 if pathlib.Path({str(flag)!r}).exists() else 200); self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(os.environ['STEAD_PORT'])), H).serve_forever()\n"
    )
    health = Health(http="http://127.0.0.1:{port}/healthz", interval_s=0.1, timeout_s=2.0, failures=2)
    base = sleeper(workers=1, start_grace_s=10.0)
    spec = replace(base, argv=(base.argv[0], "-c", program), port=port, health=health)
    driver = supervise(spec)
    assert await driver.settle("web", 15)
    flag.touch()
    await until(lambda: driver.status("web").workers[0].state == "unhealthy", driver)  # type: ignore[union-attr]
    assert "answered 500" in driver.status("web").reason  # type: ignore[union-attr]
    flag.unlink()
    await until(lambda: driver.status("web").workers[0].state == "healthy", driver)  # type: ignore[union-attr]


async def test_command_health(supervise: Make) -> None:
    base = sleeper(workers=1, start_grace_s=0.5)
    health = Health(argv=("test", "{worker}", "-eq", "1"), interval_s=0.1, timeout_s=5.0, failures=1)
    driver = supervise(replace(base, health=health))
    await until(lambda: "ended with 1" in driver.status("web").reason, driver)  # type: ignore[union-attr]
