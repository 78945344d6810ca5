"""CPU and memory of a real agent with every probe, a tick of 1 s, at 150 and at 1,500 processes, beside what else shows them.

One agent observes; a second has an intent too, with a protected process and a contender that both work and whose memory may be
merged: then everything is on. Each figure is the median of three windows. All run at once, so that a noisy minute is noisy for
everybody; the first of the windows has the first look for files that may go, which comes each quarter of an hour.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from benchmarks.load import SHARES, agent, config_text, contending, everything_on, rivals, running, sleepers
from benchmarks.measure import Figure, Machine, publish, rss_bytes, tree_cpu_s

OBSERVING, ENFORCING = "stead agent", "stead agent, everything on"
TARGETS = {  # CPU-seconds an hour, by number of processes; 10.8 are 0.3 % of a core
    OBSERVING: {150: 8.0, 1500: 24.0},
    ENFORCING: {150: 10.8, 1500: 27.0},
}
RSS_TARGET_MB = 38 * 2**20 / 1e6  # 38 MiB at 1,500 processes with everything on; the product's own limit is 50 MB
WINDOWS = 3
WARM_UP_S = 15.0


class Measured(msgspec.Struct, frozen=True):
    """One program at one number of processes."""

    cpu_s_per_hour: tuple[float, ...]  # one a window
    rss_mb: float  # of the program itself

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
    return {name: Measured(tuple(used[name]), rss_bytes(pid) / 1e6) for name, pid in roots.items()}


def measure(total: int, window_s: float, interval_s: float, every_probe: bool, alone: bool) -> tuple[int, dict[str, Measured]]:
    """Run both agents, and rivals unless `alone`, among `total` processes: how many there were, and each."""
    with ExitStack() as stack:
        present = stack.enter_context(sleepers(total - len(SHARES)))
        stack.enter_context(contending())
        roots = {
            OBSERVING: stack.enter_context(agent(config=config_text(interval_s, every_probe)))[0].pid,
            ENFORCING: stack.enter_context(agent(config=everything_on(interval_s)))[0].pid,
        }
        for name, argv in {} if alone else rivals().items():
            roots[name] = stack.enter_context(running(argv)).pid
        time.sleep(WARM_UP_S)
        return present + len(SHARES), windows(roots, window_s)


def figures(total: int, present: int, found: Mapping[str, Measured]) -> list[Figure]:
    """One line a program, and the agents' memory."""
    mine = found[OBSERVING].median
    lines = []
    for name, one in found.items():
        target = TARGETS[name][total] if name in TARGETS else None
        times = f"{one.median / mine:.1f} times stead" if mine else ""
        lines.append(
            Figure(f"{name}, {total:,} processes", one.median, "CPU-s/h", target, spread(one, present) if target else times)
        )
    for name in TARGETS:
        lines.append(Figure(f"{name}, RSS, {total:,} processes", found[name].rss_mb, "MB", RSS_TARGET_MB))
    return lines


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
    parser.add_argument(
        "--processes", type=int, action="append", choices=sorted(TARGETS[OBSERVING]), help="only at this many processes"
    )
    parser.add_argument("--alone", action="store_true", help="without rivals")
    options = parser.parse_args(arguments)
    lines: list[Figure] = []
    for total in options.processes or sorted(TARGETS[OBSERVING]):
        lines += figures(total, *measure(total, options.window, options.interval, options.every_probe, options.alone))
    machine = Machine.here()
    slow = "the slow ones too" if options.every_probe else "slow ones at their own"
    how = f"all probes, {options.interval:g} s, {slow}, {WINDOWS} windows of {options.window:g} s"
    return publish("agent", f"Agent, {how} ({machine.cores} cores, load {machine.load_1m:.1f})", lines)


if __name__ == "__main__":
    raise SystemExit(main())
