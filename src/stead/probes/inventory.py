"""What the machine is: its system, kernel, architecture, CPUs and memory. Facts, once an hour."""

from __future__ import annotations

import os
import shlex
import sys

from stead.host.procfs import parse_meminfo
from stead.model.observe import Fact, Now, Reading, Scalar
from stead.probes.reading import SystemProbe
from stead.protocols import Host


def parse_os_release(text: str) -> dict[str, str]:
    """Parse os-release: shell assignments."""
    values = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            try:
                values[name.strip()] = "".join(shlex.split(value))
            except ValueError:
                values[name.strip()] = value
    return values


class Inventory(SystemProbe):
    """The facts of one host."""

    name = "inventory"
    interval_s = 3600.0

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read os-release and /proc. A file that isn't there leaves its facts unknown (None)."""
        release = parse_os_release(_text(host, "/etc/os-release") or _text(host, "/usr/lib/os-release"))
        stat = [line for line in _text(host, "/proc/stat").splitlines() if line.startswith("cpu") and line[3:4].isdigit()]
        facts: dict[str, Scalar] = {
            "os.id": release.get("ID"),
            "os.version": release.get("VERSION_ID"),
            "os.name": release.get("PRETTY_NAME"),
            "kernel.release": _text(host, "/proc/sys/kernel/osrelease").strip() or None,
            "host.arch": os.uname().machine,
            "cpu.count": len(stat) or None,
            "memory.total_bytes": parse_meminfo(_text(host, "/proc/meminfo")).get("MemTotal"),
        }
        return _reading(host, facts)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read psutil's counts, and the system's own names where this process runs on it."""
        import platform

        here = {"win32": "windows"}.get(sys.platform, sys.platform) == host.system
        facts: dict[str, Scalar] = {
            "os.id": host.system,
            "os.version": platform.version() if here else None,
            "os.name": platform.platform() if here else None,
            "kernel.release": platform.release() if here else None,
            "host.arch": platform.machine() if here else None,
            "cpu.count": host.psutil.cpu_count(),
            "memory.total_bytes": host.psutil.virtual_memory().total,
        }
        return _reading(host, facts)


def _reading(host: Host, facts: dict[str, Scalar]) -> Reading:
    facts["host.name"] = host.name
    facts["host.boot_id"] = host.boot_id
    return Reading(facts=tuple(Fact(name, "host", value) for name, value in facts.items()))


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path).decode("utf-8", "replace")
    except OSError:
        return ""


def probe() -> Inventory:
    """Make the probe."""
    return Inventory()
