from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stead.host import LocalHost
from stead.probes import proc_threads
from stead.probes.proc_table import Task
from stead.probes.proc_threads import Threads, TooManyThreadsError
from stead.testing import FakeHost
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
    change(host, "/proc/4800/task/4801/schedstat", lambda text: "3000000000 250000000 1\n")
    (host.root / "proc/4800/task/4803").mkdir()
    (host.root / "proc/4800/task/4803/schedstat").write_text("1 300000000 1\n")
    task.threads = 4
    assert threads.waited(host, task, 1000) == pytest.approx(0.2 + 0.3)


REPLACED = """
import sys, threading
def begin():
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    return thread, end
thread, end = begin()
for line in sys.stdin:
    print(thread.native_id, flush=True)
    end.set()
    thread.join()
    thread, end = begin()
    print(thread.native_id, flush=True)
"""


def test_a_thread_that_ended_is_replaced_by_the_one_that_came() -> None:
    """Their number is the same: what tells is that the one that ended can't be read any more."""
    argv = [sys.executable, "-S", "-c", REPLACED]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        task, threads = threaded_task(process.pid), Threads()
        task.threads = 2
        while len(list(Path(f"/proc/{process.pid}/task").iterdir())) < 2:
            assert process.poll() is None
        threads.waited(LocalHost(), task, 1000)
        print(file=process.stdin, flush=True)
        old, new = (process.stdout.readline().strip() for _ in range(2))
        assert old in threads._known[process.pid]
        for _ in range(2):
            threads.waited(LocalHost(), task, 1000)
        assert threads._known[process.pid].keys() == {str(process.pid), new}
        threads.forget()
        process.stdin.close()
        process.kill()


def test_one_that_has_threads_only_at_times_counts_each_interval_once(tmp_path: Path) -> None:
    """A server with a thread a request: what its main thread waited while it was alone is not told again."""
    host, threads, task = debian(tmp_path), Threads(), threaded_task()
    main = "/proc/4800/task/4800/schedstat"
    threads.waited(host, task, 1000)
    on_cpu, delay = (int(word) for word in (host.root / main[1:]).read_text().split()[:2])
    alone = threaded_task()
    alone.threads, alone.cpu_ns, alone.delay_ns = 1, on_cpu, delay + 700_000_000
    assert threads.waited(host, alone, 1000) == 0.125
    change(host, main, lambda text: f"{on_cpu} {delay + 900_000_000} 1\n")
    (host.root / "proc/4800/task/4803").mkdir()
    (host.root / "proc/4800/task/4803/schedstat").write_text("1 50000000 1\n")
    for gone in ("4801", "4802"):
        (host.root / f"proc/4800/task/{gone}/schedstat").unlink()
        (host.root / f"proc/4800/task/{gone}").rmdir()
    task.threads = 2
    assert threads.waited(host, task, 1000) == pytest.approx(0.2 + 0.05)
    threads.forget()
    assert threads._kept == 0


def test_more_threads_than_are_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc_threads, "_MOST_THREADS", 5)
    host, threads = debian(tmp_path), Threads()
    threads.waited(host, threaded_task(), 1000)
    with pytest.raises(TooManyThreadsError, match="more than 5 threads"):
        threads.waited(host, threaded_task(), 1000)
    threads.keep(set())
    assert threads.waited(host, threaded_task(), 1000) == 0.125, "forgotten, and a new interval"


def test_threads_are_listed_only_when_their_number_changed_and_every_descriptor_closes(tmp_path: Path) -> None:
    listed: list[str] = []

    class Listing(FakeHost):
        def list(self, path: str) -> list[str]:
            listed.append(path)
            return super().list(path)

    debian(tmp_path)
    host, threads = Listing(tmp_path / "root"), Threads()
    task = threaded_task()
    for task.threads in (3, 3, 3, 4):
        threads.waited(host, task, 1000)
    assert listed == ["/proc/4800/task"] * 2
    assert threads._kept == 3
    threads.keep({1})
    assert threads._kept == 0


@pytest.mark.parametrize("kept", [0, 2])
def test_without_descriptors_to_spare_the_figures_are_the_same(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc_threads, "_MOST_KEPT", kept)
    host, threads = debian(tmp_path), Threads()
    threads.waited(host, threaded_task(), 1000)
    for tid in ("4801", "4802"):
        change(
            host,
            f"/proc/4800/task/{tid}/schedstat",
            lambda text: text.replace(text.split()[1], str(int(text.split()[1]) + 200_000_000)),
        )
    assert threads.waited(host, threaded_task(), 1000) == pytest.approx(0.4)
    assert threads._kept == kept


def test_real_threads() -> None:
    with threaded(4) as process:
        task, threads = threaded_task(process.pid), Threads()
        threads.waited(LocalHost(), task, 1000)
        waited = threads.waited(LocalHost(), task, 1000)
        assert waited is not None
        assert 0 <= waited < 60
        assert len(threads._known[process.pid]) == 4
