"""CPU and memory of a real agent with every probe, a tick of 1 s, at 150 and at 1,500 processes, beside what else shows them.

Each figure is the median of three windows. All run at once, so that a noisy minute is noisy for everybody.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from benchmarks.load import agent, config_text, rivals, running, sleepers
from benchmarks.measure import Figure, Machine, publish, rss_bytes, tree_cpu_s, tree_rss_bytes

TARGETS = {150: 8.0, 1500: 24.0}  # CPU-seconds an hour, by number of processes
RSS_TARGET_MB = 32 * 2**20 / 1e6  # 32 MiB with the record in it; the whole agent may have 50 MB one day
WINDOWS = 3
WARM_UP_S = 15.0


class Measured(msgspec.Struct, frozen=True):
    """One program at one number of processes."""

    cpu_s_per_hour: tuple[float, ...]  # one a window
    rss_mb: float

    @property
    def median(self) -> float:
        """CPU-seconds an hour, the middle of the windows."""
        return statistics.median(self.cpu_s_per_hour)


def windows(roots: Mapping[str, int], window_s: float) -> dict[str, Measured]:
    """Watch process trees for some windows: name → root pid."""
    used: dict[str, list[float]] = {name: [] for name in roots}
    for _ in range(WINDOWS):
        started = time.monotonic()
        before = {name: tree_cpu_s(pid) for name, pid in roots.items()}
        time.sleep(window_s)
        for name, pid in roots.items():
            used[name].append((tree_cpu_s(pid) - before[name]) * 3600 / (time.monotonic() - started))
    return {name: Measured(tuple(used[name]), tree_rss_bytes(pid) / 1e6) for name, pid in roots.items()}


def measure(total: int, window_s: float, config: str, alone: bool) -> tuple[int, dict[str, Measured], float]:
    """Run the agent, and its rivals unless `alone`, among `total` processes: how many there were, each, the agent's RSS in MB."""
    with ExitStack() as stack:
        present = stack.enter_context(sleepers(total))
        process, _ = stack.enter_context(agent(config=config))
        roots = {"stead": process.pid}
        for name, argv in {} if alone else rivals().items():
            roots[name] = stack.enter_context(running(argv)).pid
        time.sleep(WARM_UP_S)
        found = windows(roots, window_s)
        return present, found, rss_bytes(process.pid) / 1e6


def figures(total: int, present: int, found: Mapping[str, Measured], rss_mb: float) -> list[Figure]:
    """One line a program, and the agent's memory."""
    mine = found["stead"].median
    lines = [Figure(f"stead agent, {total:,} processes", mine, "CPU-s/h", TARGETS[total], spread(found["stead"], present))]
    for name, rival in found.items():
        if name != "stead":
            times = f"{rival.median / mine:.1f} times stead" if mine else ""
            lines.append(Figure(f"{name}, {total:,} processes", rival.median, "CPU-s/h", None, times))
    return [*lines, Figure(f"stead agent RSS, {total:,} processes", rss_mb, "MB", RSS_TARGET_MB)]


def spread(measured: Measured, present: int) -> str:
    """The windows behind a median."""
    each = ", ".join(f"{value:.1f}" for value in measured.cpu_s_per_hour)
    return f"windows {each}; {present:,} processes present"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure at each number of processes and print one table."""
    parser = argparse.ArgumentParser(prog="benchmarks.agent", description=__doc__)
    parser.add_argument("--window", type=float, default=120.0, help="seconds a window")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two ticks")
    parser.add_argument("--every-probe", action="store_true", help="read the slow ones (mounts, control groups) at each tick too")
    parser.add_argument("--processes", type=int, action="append", choices=sorted(TARGETS), help="only at this many processes")
    parser.add_argument("--alone", action="store_true", help="without rivals")
    options = parser.parse_args(arguments)
    config = config_text(options.interval, options.every_probe)
    lines: list[Figure] = []
    for total in options.processes or sorted(TARGETS):
        lines += figures(total, *measure(total, options.window, config, options.alone))
    machine = Machine.here()
    slow = "the slow ones too" if options.every_probe else "slow ones at their own"
    how = f"all probes, {options.interval:g} s, {slow}, {WINDOWS} windows of {options.window:g} s"
    return publish("agent", f"Agent, {how} ({machine.cores} cores, load {machine.load_1m:.1f})", lines)


if __name__ == "__main__":
    raise SystemExit(main())
