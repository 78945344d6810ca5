from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from stead.host import LocalHost, SystemClock
from stead.workloads import children
from stead.workloads.process import ProcessWorkloads
from stead.workloads.records import SlotRecord, WorkloadFiles, WorkloadRecord
from tests.workloads.conftest import SLEEPER, children_of, pids, runs, sleeper, until

Make = Callable[..., ProcessWorkloads]

SUPERVISOR = """
import asyncio, os, signal, sys
from tests.workloads.conftest import sleeper
from stead.host import LocalHost, SystemClock
from stead.workloads import children
from stead.workloads.process import ProcessWorkloads

async def main():
    driver = ProcessWorkloads([sleeper(workers=2)], sys.argv[1], LocalHost(), SystemClock())
    if sys.argv[2] == "between":  # started, not recorded: the worst instant
        start = children.start
        def started(*args):
            start(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        children.start = started
    assert await driver.settle("web", 20)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def killed_supervisor(state: Path, when: str) -> None:
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(state), when, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert await process.wait() == -signal.SIGKILL


async def test_workers_outlive_a_killed_supervisor_and_are_adopted(supervise: Make, tmp_path: Path) -> None:
    await killed_supervisor(tmp_path, "settled")
    driver = supervise(sleeper(workers=2))
    before = pids(driver)
    assert len(before) == 2 and all(runs(pid) for pid in before)
    assert await driver.settle("web", 10)
    assert pids(driver) == before
    os.kill(before[0], signal.SIGKILL)  # no child of ours: noticed all the same
    await until(lambda: driver.status("web").crashes == 1, driver)  # type: ignore[union-attr]
    await until(lambda: driver.status("web").running == 2, driver)  # type: ignore[union-attr]
    assert pids(driver)[1] == before[1]


async def test_a_worker_started_but_not_recorded_is_found_by_its_mark(supervise: Make, tmp_path: Path) -> None:
    await killed_supervisor(tmp_path, "between")
    record = WorkloadFiles(tmp_path).load("web")
    assert record is not None and record.slots[0].spawn and record.slots[0].pid is None
    driver = supervise(sleeper(workers=2))
    [orphan] = pids(driver)
    assert await driver.settle("web", 10)
    assert orphan in pids(driver) and _running_sleepers(tmp_path) == sorted(pids(driver))


async def test_a_lost_record_is_made_again_from_the_workers(supervise: Make, tmp_path: Path) -> None:
    first = supervise(sleeper(workers=2))
    assert await first.settle("web", 10)
    await first.restart("web", 2)
    await until(lambda: all(w.generation == 2 for w in first.status("web").workers), first)  # type: ignore[union-attr]
    assert await first.settle("web", 10)
    was = first.status("web")
    (tmp_path / "workloads" / "web.json").write_text('{"id": "tor')
    second = supervise(sleeper(workers=2))
    status = second.status("web")
    assert was is not None and status is not None
    assert (status.id, status.generation, pids(second)) == (was.id, 2, pids(first))


async def test_a_stranger_with_a_recorded_pid_is_neither_adopted_nor_killed(supervise: Make, tmp_path: Path) -> None:
    host = LocalHost()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        files = WorkloadFiles(tmp_path)
        files.prepare("web")
        ticks = host.start_ticks(stranger.pid)
        assert ticks is not None
        slot = SlotRecord(0, "mark", 1, stranger.pid, ticks - 1, host.boot_id)  # the pid was given away
        files.save(WorkloadRecord("id", sleeper(workers=1), 1, 1, slots=(slot,)))
        driver = supervise(sleeper(workers=1))
        assert not pids(driver)
        assert await driver.settle("web", 10)
        assert stranger.pid not in pids(driver)
        assert await driver.stop_all()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_what_ran_in_an_earlier_boot_is_gone(supervise: Make, tmp_path: Path) -> None:
    files = WorkloadFiles(tmp_path)
    files.prepare("web")
    me = os.getpid()
    slot = SlotRecord(0, "mark", 1, me, LocalHost().start_ticks(me), "another boot")
    files.save(WorkloadRecord("id", sleeper(workers=1), 4, 1, slots=(slot,)))
    driver = supervise(sleeper(workers=1))
    assert not pids(driver)
    assert await driver.settle("web", 10)
    status = driver.status("web")
    assert status is not None and (status.id, status.generation, status.crashes) == ("id", 4, 0)


async def test_an_adopted_worker_is_stopped_with_its_group(supervise: Make) -> None:
    first = supervise(sleeper(mode="parent", workers=1))
    assert await first.settle("web", 10)
    [leader] = pids(first)
    [child] = await children_of(leader, first)
    second = supervise(sleeper(mode="parent", workers=1))
    assert pids(second) == [leader]
    assert await second.stop_all()
    assert not runs(leader) and not runs(child)


async def test_a_changed_definition_replaces_the_workers(supervise: Make) -> None:
    first = supervise(sleeper(workers=1))
    assert await first.settle("web", 10)
    [old] = pids(first)
    second = supervise(replace(sleeper(workers=2), env={"NEW": "1"}))
    assert pids(second) == [old]
    assert await second.settle("web", 10)
    assert old not in pids(second) and len(pids(second)) == 2
    assert second.status("web").generation == 2  # type: ignore[union-attr]


async def test_a_workload_that_is_no_longer_defined_is_stopped_and_forgotten(supervise: Make, tmp_path: Path) -> None:
    first = supervise(sleeper(workers=1))
    assert await first.settle("web", 10)
    [old] = pids(first)
    second = supervise(sleeper("mail", workers=1))
    assert second.names() == ("mail",)
    await until(lambda: not runs(old), second)
    await until(lambda: not (tmp_path / "workloads" / "web.json").exists(), second)


async def test_the_wanted_count_survives_unless_a_person_changed_the_definition(supervise: Make) -> None:
    first = supervise(sleeper(workers=1))
    await first.set_workers("web", 3)
    assert await first.settle("web", 10)
    same = supervise(sleeper(workers=1))
    assert same.status("web").wanted == 3 and len(pids(same)) == 3  # type: ignore[union-attr]
    changed = supervise(sleeper(workers=2))
    assert changed.status("web").wanted == 2  # type: ignore[union-attr]


def test_only_marked_processes_are_signalled() -> None:
    host = LocalHost()
    marked, other = (
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, children.MARK: mark}, start_new_session=True
        )
        for mark in ("a", "b")
    )
    try:
        children.signal_marked(host, "a", None, signal.SIGKILL)
        assert marked.wait(10) == -signal.SIGKILL
        children.signal_marked(host, "a", other.pid, signal.SIGKILL)
        assert other.poll() is None
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    files = WorkloadFiles(tmp_path)
    files.prepare("web")
    record = WorkloadRecord("id", sleeper(), 3, 2, slots=(SlotRecord(0, "mark", 3, 1, 2, "boot", 5, 6, True, 1, 9),))
    files.save(record)
    files.sync("web")
    assert files.load("web") == record
    assert files.recorded() == ["web"]
    assert msgspec.json.decode((tmp_path / "workloads" / "web.json").read_bytes())["v"] == 1


def _running_sleepers(state: Path) -> list[int]:
    found = children.find_marked(LocalHost(), "STEAD_STATUS")
    mine = [pid for path, group in found.items() if Path(path).is_relative_to(state) for pid in group]
    return sorted(pid for pid in mine if SLEEPER in Path(f"/proc/{pid}/cmdline").read_text() and runs(pid))


async def test_the_clock_is_the_system_s(supervise: Make) -> None:
    driver = supervise(sleeper(workers=1))
    await driver.tick(SystemClock().now())
    status = driver.status("web")
    assert status is not None and status.workers[0].started_ms > 1_600_000_000_000
