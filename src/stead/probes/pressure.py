"""Pressure stall information: the share of time in which work stood still for want of CPU, memory or IO.

The host's is read each second, that of the top-level control groups each ten. `avg10` is the kernel's own exponential
average: it closes its windows every two seconds, so differences of its totals over one second would jump.
"""

from __future__ import annotations

from typing import Final

from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.reading import Source, SystemProbe, unknown
from stead.protocols import Host

_RESOURCES: Final = ("cpu", "memory", "io")
_KINDS: Final = ("some", "full")
_MOST_GROUPS: Final = 32
_ROOTS: Final = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_WORDS: Final = {"some": "at least one task", "full": "all tasks that had work"}


def parse_pressure(text: str) -> dict[str, float]:
    """Parse a pressure file into avg10 percentages by kind: "some" and, where there is one, "full"."""
    averages = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        fields = dict(field.split("=", 1) for field in rest.split())
        averages[kind] = float(fields["avg10"])
    if "some" not in averages:
        raise ValueError("no line for some")
    return averages


def _specs(prefix: str, suffix: str) -> tuple[MetricSpec, ...]:
    return tuple(
        MetricSpec(
            f"{prefix}{resource}_{kind}{suffix}", "percent", f"Time in which {_WORDS[kind]} stood still for want of {resource}"
        )
        for resource in _RESOURCES
        for kind in _KINDS
    )


class Pressure(SystemProbe):
    """The whole host's pressure."""

    name = "pressure"
    metrics = _specs("infra.psi_", "")

    def __init__(self) -> None:
        self._sources = {resource: Source(f"/proc/pressure/{resource}") for resource in _RESOURCES}

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc/pressure."""
        samples: list[Sample] = []
        for resource, source in self._sources.items():
            samples += _pressure(source, host, "host", f"infra.psi_{resource}_", "")
        return Reading(tuple(samples))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Say that only Linux has it."""
        return unknown(self.metrics, f"{host.system} has no pressure stall information")


class GroupPressure(SystemProbe):
    """The pressure of each top-level control group (version 2), at most 32 of them."""

    name = "cgroup_pressure"
    interval_s = 10.0
    metrics = _specs("cgroup.", "_percent")

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, Source]] = {}

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read the pressure files below the control group root."""
        root = next((root for root in _ROOTS if _is_version_2(host, root)), None)
        if root is None:
            return unknown(self.metrics, "no control groups of version 2")
        groups = [
            name
            for name in sorted(host.list(root))
            if "." not in name or name.rpartition(".")[2] in ("slice", "scope", "service")
        ]
        self._follow(root, groups)
        samples: list[Sample] = []
        for name, sources in self._sources.items():
            for resource, source in sources.items():
                samples += _pressure(source, host, f"cgroup:/{name}", f"cgroup.{resource}_", "_percent")
        known = tuple(sample for sample in samples if sample.value is not None)
        if samples and not known:
            return unknown(self.metrics, samples[0].reason)
        return Reading(known)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Say that only Linux has it."""
        return unknown(self.metrics, f"{host.system} has no control groups")

    def _follow(self, root: str, names: list[str]) -> None:
        """Keep the files of the groups that are there, and let go of the others."""
        present = set(names[:_MOST_GROUPS])
        for name in [name for name in self._sources if name not in present]:
            for source in self._sources.pop(name).values():
                source.close()
        for name in present - self._sources.keys():
            self._sources[name] = {resource: Source(f"{root}/{name}/{resource}.pressure") for resource in _RESOURCES}


def _is_version_2(host: Host, root: str) -> bool:
    try:
        host.read(f"{root}/cgroup.controllers", 4096)
    except OSError:
        return False
    return True


def _pressure(source: Source, host: Host, subject: str, prefix: str, suffix: str) -> list[Sample]:
    try:
        averages = parse_pressure(source.text(host))
    except (OSError, ValueError, KeyError):
        reason = "this kernel has no pressure stall information here"
        return [Sample(f"{prefix}{kind}{suffix}", subject, None, reason) for kind in _KINDS]
    return [
        Sample(f"{prefix}{kind}{suffix}", subject, averages.get(kind), "" if kind in averages else "this kernel has no such line")
        for kind in _KINDS
    ]


def probe() -> Pressure:
    """Make the host's probe."""
    return Pressure()


def group_probe() -> GroupPressure:
    """Make the control groups' probe."""
    return GroupPressure()
