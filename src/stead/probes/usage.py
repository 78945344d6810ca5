"""What each unit and container takes: cores, and the memory that it works with. The base of advice about their limits.

Once a minute the groups are listed that a service, scope or container is (a slice is only a folder of others), at most 64 of
them, those with the most memory first: advice is made from days, and memory.stat is a sum over all CPUs for the kernel. Working
memory is what a group holds less the file pages that nobody has used for a while, as Kubernetes reckons it
(container_memory_working_set_bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stead.cgroups.memory import V1_FILES, V2_FILES, parse_flat
from stead.cgroups.tree import Groups
from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.reading import FIRST, RESET, SystemProbe, unknown
from stead.protocols import Host

_MOST_GROUPS: Final = 64
_MOST_LISTED: Final = 1024
_DEEPEST: Final = 6
_LEAVES: Final = (".service", ".scope")
_CONTAINERS: Final = ("docker", "kubepods", "machine", "lxc", "stead")


class Usage(SystemProbe):
    """Cores and working memory of units and containers."""

    name = "usage"
    interval_s = 60.0
    metrics = (
        MetricSpec("cgroup.cpu_cores", "cores", "Cores that a unit or container takes"),
        MetricSpec("cgroup.memory_bytes", "bytes", "Memory that it works with: what it holds less long unused file pages"),
    )

    def __init__(self) -> None:
        self._groups: Groups | None = None
        self._before: dict[str, tuple[int, int]] = {}  # subject → (mono_ms, CPU time in us)

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read the groups' files."""
        groups = self._groups = self._groups or Groups.of(host)
        if groups.version == "none":
            return unknown(self.metrics, "this host has no control groups")
        sized = [(memory, path) for path in leaves(groups) if (memory := working_bytes(host, groups, path)) is not None]
        sized.sort(reverse=True)
        samples: list[Sample] = []
        before, self._before = self._before, {}
        for memory, path in sized[:_MOST_GROUPS]:
            identity = groups.id_of(path)
            if identity is None:
                continue
            subject = f"cgroup:{path}@{identity}"
            samples.append(Sample("cgroup.memory_bytes", subject, float(memory)))
            used_us = cpu_us(host, groups, path)
            if used_us is not None:
                self._before[subject] = (now.mono_ms, used_us)
                samples.append(_cores(subject, before.get(subject), (now.mono_ms, used_us)))
        return Reading(tuple(samples))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Say that only Linux has it."""
        return unknown(self.metrics, f"{host.system} has no control groups")


def leaves(groups: Groups, path: str = "/", depth: int = _DEEPEST) -> Iterator[str]:
    """The groups that are a service, a scope or a container, topmost first."""
    for child in groups.children(path)[:_MOST_LISTED]:
        name = child.rpartition("/")[2]
        above = child.split("/")[1:-1]
        if name.endswith(_LEAVES) or (above and above[0].startswith(_CONTAINERS) and not name.endswith(".slice")):
            yield child
        elif depth:
            yield from leaves(groups, child, depth - 1)


def working_bytes(host: Host, groups: Groups, path: str) -> int | None:
    """What a group holds less its inactive file pages. None where memory is not counted, or the group is gone."""
    folder = groups.folder(path, "memory")
    if folder is None:
        return None
    current, stat, _ = V1_FILES if groups.kind("memory") == "v1" else V2_FILES
    try:
        fields = parse_flat(host.read(f"{folder}/{stat}", 1 << 16))
        held = int(host.read(f"{folder}/{current}", 64))
    except (OSError, ValueError):
        return None
    return max(0, held - fields.get(b"total_inactive_file", fields.get(b"inactive_file", 0)))


def cpu_us(host: Host, groups: Groups, path: str) -> int | None:
    """CPU time that a group has used, in microseconds: cpu.stat of version 2, cpuacct.usage (in ns) of version 1."""
    try:
        if groups.kind("cpuacct") == "v1":
            folder = groups.folder(path, "cpuacct")
            return None if folder is None else int(host.read(f"{folder}/cpuacct.usage", 64)) // 1000
        folder = groups.unified(path)
        return None if folder is None else parse_flat(host.read(f"{folder}/cpu.stat", 4096)).get(b"usage_usec")
    except (OSError, ValueError):
        return None


def _cores(subject: str, before: tuple[int, int] | None, now: tuple[int, int]) -> Sample:
    if before is None or now[0] <= before[0]:
        return Sample("cgroup.cpu_cores", subject, None, FIRST)
    if now[1] < before[1]:
        return Sample("cgroup.cpu_cores", subject, None, RESET)
    return Sample("cgroup.cpu_cores", subject, (now[1] - before[1]) / 1000 / (now[0] - before[0]))


def probe() -> Usage:
    """Make the probe."""
    return Usage()
