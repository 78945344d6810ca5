"""Units whose processes are alike, and could be merged if they opted in: many of one program, each with memory of its own.

How many of their pages are equal nobody knows before they are compared, so what is told is the most that merging could save.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from stead.cgroups.owners import unit_in
from stead.probes.ksm_members import asks, parse_ksm_stat
from stead.protocols import Host

LEAST_PROCESSES: Final = 4
LEAST_BYTES: Final = 64 << 20


def alike_bytes(host: Host, page: int) -> dict[str, int]:
    """Unit → bytes that its processes of one program hold beyond the largest of them, of units that did not opt in.

    Empty where there are no units. Raises OSError when /proc can't be listed.
    """
    held: dict[tuple[str, str], list[int]] = defaultdict(list)
    asked: set[str] = set()
    for pid in host.list("/proc"):
        if not pid.isdigit():
            continue
        try:
            unit = _unit(host.read(f"/proc/{pid}/cgroup", 4096).decode("utf-8", "replace"))
            if unit is None:
                continue
            stat = parse_ksm_stat(host.read(f"/proc/{pid}/ksm_stat", 4096).decode("ascii", "replace"))
            name = host.read(f"/proc/{pid}/comm", 64).decode("utf-8", "replace").strip()
            sizes = host.read(f"/proc/{pid}/statm", 256).split()
            anonymous = max(int(sizes[1]) - int(sizes[2]), 0) * page
            opted = asks(host, pid, stat)
        except (OSError, ValueError, IndexError):
            continue  # ended, or not ours to see
        if opted:
            asked.add(unit)
        held[unit, name].append(anonymous)
    found: dict[str, int] = defaultdict(int)
    for (unit, _), sizes_bytes in held.items():
        if unit not in asked and len(sizes_bytes) >= LEAST_PROCESSES:
            found[unit] += sum(sizes_bytes) - max(sizes_bytes)
    return {unit: size for unit, size in found.items() if size >= LEAST_BYTES}


def _unit(text: str) -> str | None:
    """The service that owns a process, by /proc/PID/cgroup; None for what is no service, or not as a whole."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd") and (found := unit_in(path)) is not None:
            unit, whole = found
            return unit if whole and unit.endswith(".service") else None
    return None
