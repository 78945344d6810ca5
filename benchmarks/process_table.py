"""CPU time of stead's process table beside psutil's, on the same processes, in the same run.

Starts N sleeping processes by one forking parent, makes interleaved passes with both, prints a table and, as its last line,
one JSON object. Ends what it started. Usage: python benchmarks/process_table.py [N] [passes]
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable

import psutil

from benchmarks.measure import Figure, publish
from stead.host import LocalHost, SystemClock
from stead.probes.process import Processes

FIELDS = ["pid", "name", "cpu_times", "memory_info", "num_threads"]


def start_sleepers(count: int) -> int:
    """Fork a parent that forks `count` sleepers and sleeps too; return its pid, the pid of their process group."""
    ready, done = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.setpgid(0, 0)
        for _ in range(count):
            if os.fork() == 0:
                os.close(ready)
                os.close(done)
                signal.pause()
                os._exit(0)
        os.write(done, b"!")
        os.close(done)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
        signal.pause()
        os._exit(0)
    os.close(done)
    os.read(ready, 1)
    os.close(ready)
    return parent


def cpu_ms(action: Callable[[], object]) -> float:
    """CPU milliseconds, user and system, of one call."""
    before = time.process_time_ns()
    action()
    return (time.process_time_ns() - before) / 1e6


def psutil_pass() -> None:
    """The whole table as psutil reads it, with its objects kept between passes."""
    for _ in psutil.process_iter(FIELDS):
        pass


def main() -> int:
    """Measure and print; 1 when the figure that stead holds is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_500
    passes = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    parent = start_sleepers(count)
    try:
        host, clock, probe = LocalHost(), SystemClock(), Processes()
        probe.read(host, clock.now())
        psutil_pass()
        ours, theirs = [], []
        for _ in range(passes):
            time.sleep(1.0)
            ours.append(cpu_ms(lambda: probe.read(host, clock.now())))
            theirs.append(cpu_ms(psutil_pass))
        total = len(os.listdir("/proc")) and sum(1 for name in os.listdir("/proc") if name.isdigit())
        probe.close()
    finally:
        os.killpg(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return publish(
        "process_table",
        f"Process table, {total:,} processes, CPU a pass, median of {passes}",
        [
            Figure("stead", mine, "ms", None, f"{mine * 1000 / total:.2f} us a process"),
            Figure("psutil", other, "ms", None, f"{other * 1000 / total:.2f} us a process"),
            Figure("stead, as a part of psutil's", mine / other, "", 1 / 12, f"1/{other / mine:.1f}"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
