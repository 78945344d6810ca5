"""Parsers of kernel files that more than one probe reads."""

from __future__ import annotations


def parse_schedstat(text: str) -> float:
    """Sum the seconds that tasks waited for a CPU, over the cpu lines of /proc/schedstat."""
    waited_ns = [int(line.split()[8]) for line in text.splitlines() if line.startswith("cpu")]
    if not waited_ns:
        raise ValueError("no cpu line")
    return sum(waited_ns) / 1e9


def parse_loadavg_tasks(text: str) -> tuple[int, int]:
    """Parse /proc/loadavg's counts: tasks that run or wait for a CPU now, and the last pid that was handed out."""
    fields = text.split()
    return int(fields[3].partition("/")[0]), int(fields[4])


def available_bytes(sizes: dict[str, int]) -> int:
    """Take MemAvailable, or what came before it: free, buffers and cache. Raises KeyError when neither is there."""
    if "MemAvailable" in sizes:
        return sizes["MemAvailable"]
    return sizes["MemFree"] + sizes["Buffers"] + sizes["Cached"]
