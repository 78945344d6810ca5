from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.host import LocalHost, SystemClock
from stead.probes import proc_table
from stead.probes.proc_table import Table, Task, descriptor_limit, most, parse_io, parse_process_stat, parse_schedstat
from stead.protocols import KeptFile
from stead.testing import FakeClock, FakeHost
from tests.host.processes import sleeper, threaded, until
from tests.probes.crowd import Crowd
from tests.probes.hosts import CAPTURED, change, debian

LAST_PID = 4811


class Counting(FakeHost):
    """Counts what is opened and read by path, and reads of kept files, by file name."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seen: list[str] = []

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        if hasattr(self, "seen"):
            self.seen.append(f"read {path}")
        return super().read(path, limit)

    def list(self, path: str) -> list[str]:
        self.seen.append(f"list {path}")
        return super().list(path)

    def keep(self, path: str, once: int = 0) -> KeptFile:
        self.seen.append(f"keep {path}")
        return super().keep(path, once)


@pytest.fixture
def host(tmp_path: Path) -> Counting:
    debian(tmp_path)
    return Counting(tmp_path / "root")


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.close()


def ran(host: FakeHost, pid: int, cpu_ms: int, waited_ms: int = 0, ticks: int | None = None) -> None:
    """Let a captured process run."""

    def schedstat(text: str) -> str:
        on_cpu, waited, slices = text.split()
        return f"{int(on_cpu) + cpu_ms * 1_000_000} {int(waited) + waited_ms * 1_000_000} {int(slices) + 1}\n"

    def stat(text: str) -> str:
        head, _, rest = text.rpartition(")")
        fields = rest.split()
        fields[11] = str(int(fields[11]) + (cpu_ms // 10 if ticks is None else ticks))
        return f"{head}) {' '.join(fields)}\n"

    change(host, f"/proc/{pid}/schedstat", schedstat)
    change(host, f"/proc/{pid}/stat", stat)


def test_parses_what_a_process_can_be_called() -> None:
    stat = (CAPTURED / "debian12/proc/4800/stat").read_bytes()
    assert parse_process_stat(stat) == ("node (web) x", "S", 1000, 3, 421000, 20480)
    assert parse_schedstat(b"90100000000 500000000 400\n") == (90100000000, 500000000)
    assert parse_io((CAPTURED / "debian12/proc/901/io").read_bytes()) == 81203200 + 9120768


@given(st.binary(max_size=15), st.integers(0, 2**40), st.integers(0, 2**40))
def test_any_name_is_parsed(name: bytes, ticks: int, start: int) -> None:
    fields = [b"S", *[b"0"] * 10, str(ticks).encode(), *[b"0"] * 5, b"7", b"0", str(start).encode(), b"0", b"9", b"1"]
    parsed = parse_process_stat(b"42 (" + name + b") " + b" ".join(fields))
    assert parsed[2:] == (ticks, 7, start, 9)


def test_the_first_pass_knows_nothing_of_rates_and_the_second_does(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    assert set(table.tasks) == {1, 2, 612, 901, 4711, 4800}
    assert all(task.cores is None for task in table.tasks.values())
    assert table.ran == []
    ran(host, 4711, cpu_ms=1500, waited_ms=250)
    table.update(host, clock.advance(2000), LAST_PID)
    assert [task.pid for task in table.ran] == [4711]
    assert table.tasks[4711].cores == pytest.approx(0.75)
    assert table.tasks[4711].waited_s == pytest.approx(0.125)
    assert table.tasks[901].cores == 0.0, "who did not run took nothing, and that was observed"
    table.update(host, clock.advance(1000), LAST_PID)
    assert table.tasks[4711].cores == 0.0


def test_a_sleeper_costs_one_read_and_nothing_else(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    table.update(host, clock.advance(1000), LAST_PID)
    host.seen.clear()
    table.update(host, clock.advance(1000), LAST_PID)
    assert host.seen == []
    ran(host, 4711, cpu_ms=10)
    table.update(host, clock.advance(1000), LAST_PID)
    assert host.seen == ["keep /proc/4711/stat"]


def test_proc_is_listed_only_when_a_pid_was_handed_out(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    host.seen.clear()
    shutil.copytree(host.root / "proc/612", host.root / "proc/4812")
    table.update(host, clock.advance(1000), LAST_PID)
    assert 4812 not in table.tasks
    table.update(host, clock.advance(1000), LAST_PID + 1)
    assert 4812 in table.tasks
    assert host.seen.count("list /proc") == 1


def test_few_new_ids_are_tried_and_many_are_listed(tmp_path: Path, table: Table) -> None:
    crowd = Crowd(tmp_path / "root")
    for pid in range(100, 150):
        crowd.born(pid, "sleeper")
    host, clock = Counting(tmp_path / "root"), FakeClock()
    table.update(host, clock.now(), 149)
    host.seen.clear()
    crowd.born(151, "newcomer")
    crowd.put("/proc/152/status", "Name:\tworker\nTgid:\t120\n")  # a thread of 120
    table.update(host, clock.advance(1000), 153)
    assert 151 in table.tasks and 152 not in table.tasks
    crowd.born(153, "late")  # its id had been handed out, and it was not to be seen yet
    table.update(host, clock.advance(1000), 153)
    assert 153 in table.tasks
    assert "list /proc" not in host.seen
    table.update(host, clock.advance(1000), 153)
    host.seen.clear()
    table.update(host, clock.advance(1000), 153)
    assert not host.seen, "what is nobody's is tried twice"
    for pid in range(160, 170):
        crowd.born(pid, "many")
    table.update(host, clock.advance(1000), 169)
    assert 169 in table.tasks and "list /proc" in host.seen
    crowd.born(90, "around")
    table.update(host, clock.advance(1000), 90)
    assert 90 in table.tasks, "the counter came round"


def test_a_real_process_is_met_by_its_id_and_a_thread_is_none(table: Table) -> None:
    with threaded(2) as process:
        host = LocalHost()
        thread = next(int(name) for name in host.list(f"/proc/{process.pid}/task") if int(name) != process.pid)
        assert proc_table._is_process(host, process.pid)
        assert not proc_table._is_process(host, thread)


def test_a_full_pass_each_minute_reads_all_again(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    change(host, "/proc/612/stat", lambda text: text.replace(" 170000000 2300 ", " 170000000 23 "))  # memory taken from a sleeper
    table.update(host, clock.advance(59_000), LAST_PID)
    assert table.tasks[612].rss_pages == 2300
    host.seen.clear()
    table.update(host, clock.advance(1_000), LAST_PID)
    assert table.tasks[612].rss_pages == 23
    assert "list /proc" in host.seen
    assert "keep /proc/612/stat" not in host.seen, "a sleeper's stat is not worth a descriptor"


def test_a_process_that_is_gone_leaves_and_its_descriptors_close(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    table.update(host, clock.advance(1000), LAST_PID)
    before = table._kept
    shutil.rmtree(host.root / "proc/4711")
    table.update(host, clock.advance(1000), LAST_PID + 1)
    assert 4711 not in table.tasks
    assert table._kept == before - 1


def test_a_successor_with_the_same_pid_is_another_process(host: Counting, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kept descriptors a pid may be taken over between two passes; the start time tells."""
    monkeypatch.setattr(proc_table, "descriptor_limit", lambda: 0)
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    first = table.tasks[4711]
    change(host, "/proc/4711/stat", lambda text: text.replace(" 420000 ", " 430000 "))
    change(host, "/proc/4711/schedstat", lambda text: "5 0 1\n")
    table.update(host, clock.advance(1000), LAST_PID + 1)
    assert table.tasks[4711] is not first
    assert table.tasks[4711].subject == "process:4711@430000"
    assert table.tasks[4711].cores is None or table.tasks[4711].cores < 1


@pytest.mark.parametrize("limit", [0, 3, 1000])
def test_figures_are_the_same_with_few_or_no_descriptors(
    host: Counting, table: Table, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc_table, "descriptor_limit", lambda: limit)
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    for _ in range(3):
        ran(host, 4711, cpu_ms=500)
        ran(host, 901, cpu_ms=100)
        table.update(host, clock.advance(1000), LAST_PID)
        assert {task.pid: round(task.cores or 0, 6) for task in table.ran} == {4711: 0.5, 901: 0.1}
    assert table._kept <= limit
    assert sum(1 for task in table.tasks.values() for kept in (task.schedstat, task.stat, task.io) if kept) == table._kept


def test_a_kernel_without_schedstat_reads_every_stat(host: Counting, table: Table) -> None:
    for file in host.root.glob("proc/*/schedstat"):
        file.unlink()
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    change(host, "/proc/4711/stat", lambda text: text.replace(" 9000 10 ", " 9050 10 "))
    table.update(host, clock.advance(1000), LAST_PID)
    assert table.tasks[4711].cores == pytest.approx(0.5)
    assert table.tasks[4711].waited_s is None


def test_threads_count_by_ticks_of_all_of_them(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    ran(host, 4800, cpu_ms=0, ticks=150)  # the other threads ran, the main one did not: its schedstat stays
    table.update(host, clock.advance(1000), LAST_PID)
    assert table.tasks[4800].cores == pytest.approx(1.5)


def test_a_process_that_becomes_threaded_goes_by_the_ticks_that_both_ends_have(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    change(host, "/proc/4711/stat", lambda text: text.replace(" 20 0 1 0 ", " 20 0 2 0 "))
    ran(host, 4711, cpu_ms=500)
    table.update(host, clock.advance(1000), LAST_PID)
    assert table.tasks[4711].cores == pytest.approx(0.5), "a server with a thread a request is known in every tick"
    ran(host, 4711, cpu_ms=500)
    table.update(host, clock.advance(1000), LAST_PID)
    assert table.tasks[4711].cores == pytest.approx(0.5)


def test_a_newborn_has_its_whole_time_at_once(host: Counting, table: Table) -> None:
    clock = FakeClock(mono_ms=4_300_000)
    table.update(host, clock.now(), LAST_PID)
    shutil.copytree(host.root / "proc/612", host.root / "proc/4812")
    change(host, "/proc/4812/stat", lambda text: text.replace(" 1203 ", " 430050 "))  # half a second after the pass
    change(host, "/proc/4812/schedstat", lambda text: "400000000 0 1\n")
    table.update(host, clock.advance(1000), LAST_PID + 1)
    assert table.tasks[4812].cores == pytest.approx(0.4)
    assert [task.pid for task in table.ran] == [4812]


def test_one_that_was_overlooked_is_not_taken_for_a_newborn(host: Counting, table: Table) -> None:
    clock = FakeClock(mono_ms=4_300_000)
    table.update(host, clock.now(), LAST_PID)
    shutil.copytree(host.root / "proc/4711", host.root / "proc/4812")
    table.update(host, clock.advance(1000), LAST_PID + 1)
    assert table.tasks[4812].cores is None, "90 s of CPU in one second would be absurd"


def test_io_is_a_rate_and_unknown_where_it_is_forbidden(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    task = table.tasks[901]
    for read_bytes, expected in ((81203200, None), (81303200, 50_000.0), (81303200, 0.0)):
        change(
            host,
            "/proc/901/io",
            lambda text, n=read_bytes: (
                text.replace("read_bytes: 812", "read_bytes: x812").split("read_bytes")[0]
                + f"read_bytes: {n}\nwrite_bytes: 9120768\n"
            ),
        )
        table.update(host, clock.advance(2000), LAST_PID)
        table.read_io(host, task)
        assert task.io_bytes_per_s == expected
    (host.root / "proc/4711/io").unlink()
    table.read_io(host, table.tasks[4711])
    assert table.tasks[4711].io_bytes_per_s is None
    host.seen.clear()
    table.read_io(host, table.tasks[4711])
    assert host.seen == [], "asked once"


def test_the_largest_are_found_among_sleepers_and_those_that_grew(host: Counting, table: Table) -> None:
    clock = FakeClock()
    table.update(host, clock.now(), LAST_PID)
    assert [task.pid for task in table.largest(3)] == [4800, 901, 1]
    change(host, "/proc/612/stat", lambda text: text.replace(" 170000000 2300 ", " 170000000 99999 "))
    ran(host, 612, cpu_ms=10)
    table.update(host, clock.advance(1000), LAST_PID)
    assert [task.pid for task in table.largest(3)] == [612, 4800, 901]
    shutil.rmtree(host.root / "proc/4800")
    table.update(host, clock.advance(1000), LAST_PID + 1)
    assert [task.pid for task in table.largest(3)] == [612, 901, 1]


def test_most_leaves_out_nothing_and_the_unknown() -> None:
    tasks = [Task(pid) for pid in range(5)]
    for task, cores in zip(tasks, (None, 0.0, 0.5, 0.25, 1.0), strict=True):
        task.cores = cores
    assert [task.pid for task in most(tasks, 2, "cores")] == [4, 2]
    assert [task.pid for task in most(tasks, 9, "cores")] == [4, 2, 3]


def test_the_limit_of_open_files_is_raised_and_some_are_left() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        room = descriptor_limit()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert raised == (32_768 if hard == resource.RLIM_INFINITY else min(hard, 32_768))
        assert room == raised - 768
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_real_processes_are_seen_running_sleeping_threaded_and_gone(table: Table) -> None:
    host, clock = LocalHost(), SystemClock()

    def update() -> None:
        table.update(host, clock.now(), int(host.read("/proc/loadavg").split()[4]))

    update()
    hog = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        with sleeper() as quiet, threaded(5) as many:
            update()
            assert table.tasks[hog.pid].start_ticks == host.start_ticks(hog.pid)
            until(lambda: update() is None and hog.pid in {task.pid for task in table.ran})
            assert quiet.pid in table.tasks
            assert table.tasks[many.pid].threads == 5
            os.kill(hog.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, hog.pid, os.WSTOPPED)
            update()
            update()
            assert hog.pid not in {task.pid for task in table.ran}
            assert table.tasks[hog.pid].cores == 0.0
    finally:
        hog.kill()
        hog.wait()
    update()
    assert not {hog.pid, quiet.pid, many.pid} & table.tasks.keys()
