"""The demo from curtain to curtain: at most two minutes, and exit code 0 only if every fault was healed and verified."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

import msgspec

from stead.demo.faults import faults
from stead.demo.gauge import Gauge
from stead.demo.scene import Scene
from stead.demo.story import Echo, Healing, tell
from stead.model.errors import EXIT_FAILURE, EXIT_OK

LIMIT_S = 105.0  # what is left of 120 s is for the end
FAULT_S = 45.0
BASELINE_S = 3.0
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Report(msgspec.Struct, frozen=True):
    """What `-o json` prints."""

    healed: bool
    cleaned_up: bool
    took_s: float
    state: str
    faults: tuple[Healing, ...]


def run(state: str | None = None, output: str = "table", echo: Echo | None = None) -> int:
    """Play the demo; returns the exit code. Raises SteadError when it can't begin. Whatever happens, nothing is left running."""
    say: Echo = echo or _print
    tell_it: Echo = say if output == "table" else lambda line: None
    began_s = time.time()
    scene = Scene(state)
    healings: list[Healing] = []
    before = {number: signal.signal(number, _interrupt) for number in ENDS}
    try:
        _play(scene, healings, tell_it, began_s)
    except KeyboardInterrupt:
        tell_it("\ninterrupted: cleaning up")
    finally:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        cleaned_up = scene.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    complete = len(healings) == len(faults(scene))
    healed = complete and all(one.healed for one in healings)
    kept = str(scene.folder) if scene.kept else ""
    report = Report(healed, cleaned_up, round(time.time() - began_s, 1), kept, tuple(healings))
    _show(report, output, say)
    return EXIT_OK if healed and cleaned_up else EXIT_FAILURE


def _play(scene: Scene, healings: list[Healing], echo: Echo, began_s: float) -> None:
    echo("stead demo: a small real workload, three real faults, mode act on that workload only")
    scene.open()
    status = scene.status()
    running = ", ".join(f"{one.name} ({one.running} workers)" for one in status.workloads)
    echo(f"  agent pid {status.pid}, mode {status.mode}, ceiling 2; {running}; ready after {time.time() - began_s:.1f} s")
    gauge = Gauge(scene)
    gauge.start()
    try:
        time.sleep(BASELINE_S)
        for fault in faults(scene):
            deadline_s = min(time.time() + FAULT_S, began_s + LIMIT_S)
            healings.append(tell(fault, scene, gauge, echo, deadline_s))
    finally:
        gauge.stop()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(report: Report, output: str, say: Callable[[str], None]) -> None:
    if output == "json":
        say(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    say("")
    for line in table(report.faults):
        say(line)
    say(f"{'every fault was healed and verified' if report.healed else 'not every fault was healed'}; {report.took_s:g} s in all")
    say(
        f"kept: {report.state}"
        if report.state
        else ("nothing is left behind" if report.cleaned_up else "something is left running")
    )


def table(healings: Sequence[Healing]) -> list[str]:
    """The faults as aligned rows."""
    rows = [("fault", "remedy", "found", "acted", "verified", "before", "after", "")]
    for one in healings:
        seconds = [f"{value:.1f} s" if value is not None else "–" for value in (one.found_s, one.acted_s, one.verified_s)]
        values = [f"{value:g} {one.unit}" if value is not None else "–" for value in (one.before, one.after)]
        rows.append(
            (one.fault, one.playbook, seconds[0], seconds[1], seconds[2], values[0], values[1], "✓" if one.healed else "✗")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _print(line: str) -> None:
    print(line, flush=True)
