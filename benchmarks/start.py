"""How soon the agent serves its first sample, and what `stead --help` costs. Medians of several cold processes."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import agent
from benchmarks.measure import Figure, publish
from stead.model.messages import GetMetrics, MetricList
from stead.wire import Door


def first_sample_s() -> float:
    """Seconds from starting the process until the socket answers with a value that was observed."""
    started = time.monotonic()
    with agent() as (_, socket):
        door = Door(socket)
        while not any(metric.value is not None for metric in door.ask(GetMetrics(), MetricList).metrics):
            time.sleep(0.005)
        served = time.monotonic() - started
        door.close()
    return served


def command_cpu_s(*arguments: str) -> float:
    """CPU time of one run of the command line, its start included."""
    command = str(Path(sys.executable).parent / "stead")
    quiet = os.open(os.devnull, os.O_WRONLY)
    try:
        pid = os.posix_spawn(command, [command, *arguments], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1)])
    finally:
        os.close(quiet)
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"stead {' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both."""
    parser = argparse.ArgumentParser(prog="benchmarks.start", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="how often each is started")
    times = parser.parse_args(arguments).times
    served = [first_sample_s() for _ in range(times)]
    spent = [command_cpu_s("--help") for _ in range(times + 1)][1:]  # the first compiles
    return publish(
        "start",
        f"Start, median of {times}",
        [
            Figure("agent: start to first sample served", statistics.median(served), "s", 2.0),
            Figure("stead --help", statistics.median(spent), "CPU-s", 0.15),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
