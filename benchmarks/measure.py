"""How everything here is measured: CPU time from /proc, memory from /proc, the machine beside the figures."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RESULTS = Path(__file__).parent / "results"


class Figure(msgspec.Struct, frozen=True):
    """One measured value beside what it should be. `target` None: measured for comparison only."""

    what: str
    value: float | None
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """How the value stands against its target."""
        if self.value is None:
            return "skipped"
        if self.target is None:
            return ""
        return "met" if self.value <= self.target else "MISSED"


class Machine(msgspec.Struct, frozen=True):
    """What the figures were measured on."""

    cores: int
    kernel: str
    python: str
    processes: int
    load_1m: float

    @classmethod
    def here(cls) -> Machine:
        """This one, now."""
        return cls(os.cpu_count() or 1, platform.release(), platform.python_version(), process_count(), os.getloadavg()[0])


def process_count() -> int:
    """How many processes there are."""
    return sum(1 for name in os.listdir("/proc") if name.isdigit())


def stat_fields(pid: int) -> list[str] | None:
    """/proc/PID/stat from the state onwards; None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(") ")[2].split()


def cpu_s(pid: int) -> float:
    """CPU time of one process and of those of its children that have ended: utime, stime, cutime, cstime."""
    fields = stat_fields(pid)
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_S if fields else 0.0


def tree(root: int) -> set[int]:
    """A process and all its living descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_fields(int(name))):
            parents[int(name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def tree_cpu_s(root: int) -> float:
    """CPU time of a process, its living descendants and those that have ended."""
    return sum(cpu_s(pid) for pid in tree(root))


def rss_bytes(pid: int) -> int:
    """Resident memory of one process."""
    fields = stat_fields(pid)
    return int(fields[21]) * PAGE_BYTES if fields else 0


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of (seconds, value), in values an hour."""
    return statistics.linear_regression([at for at, _ in points], [value for _, value in points]).slope * 3600


def table(title: str, figures: Iterable[Figure]) -> str:
    """The figures as text that reads well in a terminal and as Markdown."""
    rows = [("what", "measured", "target", ""), ("---", "---:", "---:", "---")]
    for each in figures:
        value = "-" if each.value is None else f"{each.value:,.4g} {each.unit}".rstrip()
        target = "" if each.target is None else f"≤ {each.target:.4g} {each.unit}".rstrip()
        rows.append((each.what, value, target, " ".join(filter(None, (each.verdict, each.note)))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join((f"## {title}", "", *lines, ""))


def publish(name: str, title: str, figures: Sequence[Figure]) -> int:
    """Print the table, keep it as JSON under benchmarks/results, and return 1 when a target was missed."""
    print(table(title, figures), flush=True)
    RESULTS.mkdir(exist_ok=True)
    kept = {"machine": msgspec.to_builtins(Machine.here()), "figures": msgspec.to_builtins(list(figures))}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    missed = [each.what for each in figures if each.verdict == "MISSED"]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0
