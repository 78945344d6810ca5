from __future__ import annotations

from pathlib import Path

import pytest

from stead.host import LocalHost
from stead.probes import proc_threads
from stead.probes.proc_table import Task
from stead.probes.proc_threads import Threads, TooManyThreadsError
from tests.host.processes import threaded
from tests.probes.hosts import change, debian


def threaded_task(pid: int = 4800) -> Task:
    task = Task(pid)
    task.threads, task.waited_s = 3, 0.125
    return task


def test_a_single_thread_is_the_process_itself(tmp_path: Path) -> None:
    task = threaded_task()
    task.threads = 1
    assert Threads().waited(debian(tmp_path), task, 1000) == 0.125


def test_threads_that_came_count_whole_and_those_that_went_do_not(tmp_path: Path) -> None:
    host, threads, task = debian(tmp_path), Threads(), threaded_task()
    assert threads.waited(host, task, 1000) == 0.125, "the main thread's, for this once"
    (host.root / "proc/4800/task/4802/schedstat").unlink()
    change(host, "/proc/4800/task/4801/schedstat", lambda text: "3000000000 250000000 1\n")
    (host.root / "proc/4800/task/4803").mkdir()
    (host.root / "proc/4800/task/4803/schedstat").write_text("1 300000000 1\n")
    assert threads.waited(host, task, 1000) == pytest.approx(0.2 + 0.3)


def test_more_threads_than_are_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc_threads, "_MOST_THREADS", 5)
    host, threads = debian(tmp_path), Threads()
    threads.waited(host, threaded_task(), 1000)
    with pytest.raises(TooManyThreadsError, match="more than 5 threads"):
        threads.waited(host, threaded_task(), 1000)
    threads.keep(set())
    assert threads.waited(host, threaded_task(), 1000) == 0.125, "forgotten, and a new interval"


def test_real_threads() -> None:
    with threaded(4) as process:
        task, threads = threaded_task(process.pid), Threads()
        threads.waited(LocalHost(), task, 1000)
        waited = threads.waited(LocalHost(), task, 1000)
        assert waited is not None
        assert 0 <= waited < 60
        assert len(threads._before[process.pid]) == 4
