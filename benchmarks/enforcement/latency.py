"""A latency-critical server beside CPU hogs on the same cores: what each way of protecting it is worth, and costs the hogs.

    python -m benchmarks.enforcement.latency [--seconds 30] [--rounds 5] [--arms alone,nothing,nice,tuned,stead]

Each round runs every arm. Requests count that were due at least 3 s after the hogs' onset: whoever reacts has that long. The
99th percentile is the median of the rounds, beside the server's alone in the same run. What is left over for the hogs is all
cores less what everything else took.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.load import agent, running
from benchmarks.measure import TICKS_PER_S, Figure, cpu_s, publish

ONSET_S = 3.0
BEFORE_S = 5.0
RATE = 100.0
LOOPS = 150
SERVER, HOG = f"benchserver{os.getpid() % 1000}", f"benchhog{os.getpid() % 1000}"
PROGRAM = Path(__file__).with_name("server.py")
ARMS = ("alone", "nothing", "nice", "tuned", "stead")
CONFIG = """
agent: {interval_s: 1.0}
protect:
  - match: ["process:%s"]
    name: server
best_effort: ["process:%s"]
safety: {profile: balanced}
policy: %s
"""
POLICY = """
rules:
  - {name: the-benchmarks-own, then: allow, when: {target: ["process:%s"]}}
budget: {actions_per_hour: 1000}
"""


class Seen(msgspec.Struct, frozen=True):
    """One arm of one round."""

    p50_s: float
    p99_s: float
    hogs_share: float | None  # of the CPU that was left over


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[int, int]]:
    """The server under a name of its own; yields its pid and port."""
    name = folder / SERVER
    name.symlink_to(sys.executable)
    argv = [str(name), str(PROGRAM), "serve", str(LOOPS)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def hogs(folder: Path, nice: int, count: int) -> Iterator[list[int]]:
    """So many endless loops, each in a session of its own, as jobs of different people are."""
    name = folder / HOG
    name.symlink_to(shutil.which("dash") or "/bin/sh")
    argv = ["nice", "-n", str(nice), str(name), "-c", "while :; do :; done"]
    started = [subprocess.Popen(argv, start_new_session=True) for _ in range(count)]
    try:
        yield [one.pid for one in started]
    finally:
        for one in started:
            one.send_signal(signal.SIGKILL)
            one.wait()
        name.unlink()


@contextlib.contextmanager
def protected_by(arm: str, folder: Path) -> Iterator[None]:
    """What watches over the server in this arm."""
    if arm == "stead":
        policy = folder / "policy.yaml"
        policy.write_text(POLICY % HOG, encoding="utf-8")
        with agent(config=CONFIG % (SERVER, HOG, policy), mode="act"):
            time.sleep(BEFORE_S)
            yield
    elif arm == "tuned":
        with running(["tuned", "--no-dbus", "--no-socket", "-p", "latency-performance"]):
            time.sleep(BEFORE_S)
            yield
    else:
        yield


def busy_s() -> float:
    """CPU time of the whole machine that was neither idle nor waiting for IO."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S


def measure(arm: str, seconds: float) -> Seen:
    """Run one arm once."""
    with tempfile.TemporaryDirectory(prefix="stead-latency-") as made, contextlib.ExitStack() as stack:
        folder = Path(made)
        _, port = stack.enter_context(served(folder))
        stack.enter_context(protected_by(arm, folder))
        into, length_s = folder / "latencies", BEFORE_S + ONSET_S + seconds
        argv = [sys.executable, str(PROGRAM), "load", str(port), str(RATE), str(length_s), str(into)]
        generator = subprocess.Popen(argv)
        began = time.monotonic()
        time.sleep(BEFORE_S)
        pids = [] if arm == "alone" else stack.enter_context(hogs(folder, 19 if arm == "nice" else 0, 2 * (os.cpu_count() or 1)))
        onset_s = time.monotonic() - began + ONSET_S
        time.sleep(ONSET_S)
        mine, all_of_it, at = sum(map(cpu_s, pids)), busy_s(), time.monotonic()
        generator.wait(timeout=length_s + 120)
        taken, busy, wall = sum(map(cpu_s, pids)) - mine, busy_s() - all_of_it, time.monotonic() - at
        latencies = [float(line.split()[1]) for line in into.read_text().splitlines() if float(line.split()[0]) >= onset_s]
    left_over = (os.cpu_count() or 1) * wall - (busy - taken)
    return Seen(percentile(latencies, 0.5), percentile(latencies, 0.99), taken / left_over if pids else None)


def figures(rounds: dict[str, list[Seen]]) -> Iterator[Figure]:
    """Each arm beside the server alone."""
    alone = statistics.median(one.p99_s for one in rounds["alone"])
    yield Figure(
        "alone: p99", alone * 1000, "ms", note=f"p50 {1000 * statistics.median(s.p50_s for s in rounds['alone']):.2f} ms"
    )
    for arm, seen in rounds.items():
        if arm == "alone":
            continue
        ratios = sorted(one.p99_s / alone for one in seen)
        target = 1.2 if arm == "stead" else None
        said = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        yield Figure(f"{arm}: p99, times alone", statistics.median(ratios), "", target, said)
        lost = statistics.median(1 - (one.hogs_share or 0.0) for one in seen)
        yield Figure(f"{arm}: of the left-over CPU not used by the hogs", lost, "", 0.2 if arm == "stead" else None)


def main() -> int:
    """Run all rounds; exit code 1 when stead's target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS))
    options = parser.parse_args()
    arms = [arm for arm in options.arms.split(",") if arm != "tuned" or shutil.which("tuned")]
    if "tuned" in options.arms and "tuned" not in arms:
        print("skipped tuned: not installed (apt-get install tuned)")
    print("skipped ananicy: neither PyPI nor Debian has it")
    rounds: dict[str, list[Seen]] = {arm: [] for arm in arms}
    for number in range(options.rounds):
        for arm in arms:
            seen = measure(arm, options.seconds)
            rounds[arm].append(seen)
            share = "" if seen.hogs_share is None else f", hogs {seen.hogs_share:.0%} of what was left"
            print(f"round {number + 1} {arm}: p50 {1000 * seen.p50_s:.2f} ms, p99 {1000 * seen.p99_s:.2f} ms{share}", flush=True)
    return publish("enforcement_latency", "Latency-critical server beside CPU hogs", list(figures(rounds)))


if __name__ == "__main__":
    raise SystemExit(main())
