"""From a crossing sample to the setting: is it decided in the same tick, and how much CPU until the setting is applied?

The agent's own wiring, stores and actuators, in this process, in mode act; one scripted probe stands for all others, so that the
figure is the road's alone. The target of each round is a real child process, whose priority is really lowered.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Figure, publish
from stead.agent.wiring import Wired, wire
from stead.config import load_config
from stead.flow.observe import Watch
from stead.model.config import ProbeConfig
from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample
from stead.protocols import Host

METRIC: Final = "infra.process_cpu_cores"
CATALOG: Final = f"""
metrics:
  - metric_id: {METRIC}
    category: infra
    description: Cores that one process takes
    unit: cores
    recommended_interval_seconds: 1
    thresholds: {{good: {{upper: 0.9}}, warning: {{lower: 0.9}}}}
    for: 0
    playbooks: [calm-cpu-hog]
"""
POLICY: Final = """
rules:
  - {name: all, then: allow, when: {undo: [exact]}}
budget: {actions_per_hour: 1000}
"""
TICK_MS: Final = 1000
APPLIED_S: Final = 5.0


class Scripted:
    """A probe that says how many cores each process takes."""

    name, interval_s, timeout_s, blocking = "scripted", 1.0, 1.0, False
    metrics: tuple[MetricSpec, ...] = (MetricSpec(METRIC, "cores", "Cores that one process takes"),)

    def __init__(self) -> None:
        self.cores: dict[str, float] = {}

    def read(self, host: Host, now: Now) -> Reading:
        """Say it."""
        samples = tuple(Sample(METRIC, subject, cores) for subject, cores in self.cores.items())
        return Reading(samples, tuple(Fact("process", subject, "hog: hog") for subject in self.cores))


class Round:
    """What one crossing took."""

    def __init__(self) -> None:
        self.same_tick = False
        self.cpu_ms = 0.0
        self.wall_ms = 0.0


async def crossing(wired: Wired, probe: Scripted, now: Now) -> tuple[Round, Now]:
    """Start a child, let it look calm for some ticks, then cross; wait until it is nice 19."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    measured = Round()
    try:
        subject = f"process:{child.pid}@{wired.host.start_ticks(child.pid)}"
        probe.cores = {subject: 0.1}
        for _ in range(5):
            now = Now(now.unix_ms + TICK_MS, now.mono_ms + TICK_MS)
            await wired.road.tick(now)
        probe.cores = {subject: 1.0}
        now = Now(now.unix_ms + TICK_MS, now.mono_ms + TICK_MS)
        began_cpu_s, began_s = time.process_time(), time.monotonic()
        await wired.road.tick(now)
        measured.same_tick = any(
            run.decision and run.decision.at_ms == now.unix_ms and str(child.pid) == run.proposal.steps[0].target.name
            for run in (*wired.road.runs.values(), *wired.road.recent)
            if run.proposal.steps
        )
        while wired.host.scheduler.nice(child.pid) != 19 or wired.host.scheduler.autogroup(child.pid) not in (19, None):
            if time.monotonic() - began_s > APPLIED_S:
                raise RuntimeError(f"nothing was applied: {[(run.state, run.reason) for run in wired.road.runs.values()]}")
            await asyncio.sleep(0.001)
        measured.cpu_ms = (time.process_time() - began_cpu_s) * 1000
        measured.wall_ms = (time.monotonic() - began_s) * 1000
    finally:
        child.kill()
        child.wait()
    probe.cores = {}
    return measured, now


async def rounds(state: Path, times: int) -> list[Round]:
    """Several crossings on one agent."""
    (state / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (state / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (state / "stead.yaml").write_text(f"catalog: {state}/catalog.yaml\npolicy: {state}/policy.yaml\n", encoding="utf-8")
    config, paths = load_config(config_path=str(state / "stead.yaml"), state_dir=str(state / "state"), environ={})
    wired = wire(config, paths, first_mode="act", environ={})
    probe = Scripted()
    wired.road.plugged.observer.watches[:] = [Watch(probe, ProbeConfig(), TICK_MS)]
    found = []
    try:
        now = wired.clock.now()
        await wired.road.start(now)
        for _ in range(times + 1):
            measured, now = await crossing(wired, probe, now)
            found.append(measured)
        await wired.road.stop(now)
    finally:
        wired.close()
    return found[1:]  # the first imports what is imported late


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure some crossings."""
    parser = argparse.ArgumentParser(prog="benchmarks.decision", description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="how many crossings")
    times = parser.parse_args(arguments).times
    if sys.platform != "linux":
        parser.error("it lowers a process's priority, on Linux only")
    with tempfile.TemporaryDirectory(prefix="stead-bench-") as state:
        found = asyncio.run(rounds(Path(state), times))
    late = sum(not each.same_tick for each in found)
    walls = statistics.median(each.wall_ms for each in found)
    return publish(
        "decision",
        f"From a crossing sample to the setting, median of {times}",
        [
            Figure("crossings not decided in the same tick", float(late), "of all", 0.0),
            Figure(
                "CPU from the sample to the setting applied", statistics.median(each.cpu_ms for each in found), "CPU-ms", 10.0
            ),
            Figure("time from the sample to the setting applied", walls, "ms", None, "its durable commits included"),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
