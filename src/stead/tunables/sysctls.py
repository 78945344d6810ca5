"""`sysctl:<name>`: one number below /proc/sys, of those that can be set and put back without harm.

Left out on purpose: what can make the host fail at once (overcommit, min_free_kbytes, pid_max), what can't be put back
(drop_caches, compact_memory), what belongs to security, and what takes a name or several numbers.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from stead.cgroups.kernel_owners import owner_of_sysctl
from stead.model.change import Step, Target
from stead.model.errors import SteadError
from stead.protocols import Host
from stead.tunables.state import Knobs, fields, step

_MIB: Final = 1 << 20
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")


class Sysctl(NamedTuple):
    """One number: the least and the most that stead sets, what it is for, and the one that it displaces."""

    low: int
    high: int
    why: str
    displaces: str = ""


# docs.kernel.org, admin-guide/sysctl: vm, kernel, net, fs
KNOWN: Final[dict[str, Sysctl]] = {
    "vm.swappiness": Sysctl(1, 200, "how soon anonymous memory is swapped, against dropping files (above 100: Linux 5.8)"),
    "vm.vfs_cache_pressure": Sysctl(10, 500, "how soon directory and inode caches are dropped; 0 would never drop any"),
    "vm.page-cluster": Sysctl(0, 6, "pages read ahead from swap, as a power of two"),
    "vm.watermark_scale_factor": Sysctl(10, 500, "how early kswapd begins, in ten-thousandths of memory"),
    "vm.compaction_proactiveness": Sysctl(0, 90, "how eagerly memory is compacted in the background"),
    "vm.dirty_bytes": Sysctl(8 * _MIB, 4096 * _MIB, "unwritten data at which writers wait", "vm.dirty_ratio"),
    "vm.dirty_background_bytes": Sysctl(
        4 * _MIB, 2048 * _MIB, "unwritten data at which writing begins", "vm.dirty_background_ratio"
    ),
    "vm.dirty_expire_centisecs": Sysctl(100, 12_000, "the age at which unwritten data is written"),
    "vm.dirty_writeback_centisecs": Sysctl(50, 6000, "how often unwritten data is looked for; 0 would never write any"),
    "vm.stat_interval": Sysctl(1, 120, "seconds between updates of the memory counters"),
    "vm.max_map_count": Sysctl(65_530, 1_048_576, "mappings that one process may have; never below the kernel's own"),
    "vm.zone_reclaim_mode": Sysctl(0, 1, "reclaim memory of the near node before taking a far one's"),
    "kernel.sched_autogroup_enabled": Sysctl(0, 1, "whether sessions or single processes share the CPU evenly"),
    "kernel.sched_cfs_bandwidth_slice_us": Sysctl(1000, 20_000, "the slice in which a CPU limit is handed out"),
    "kernel.numa_balancing": Sysctl(0, 1, "whether pages move to the node that uses them"),
    "net.core.somaxconn": Sysctl(128, 65_535, "connections that may wait for accept(); counts from the next listen()"),
    "net.core.netdev_max_backlog": Sysctl(300, 65_535, "packets that may wait for a CPU"),
    "net.core.rmem_max": Sysctl(65_536, 64 * _MIB, "the largest receive buffer that a program may ask for"),
    "net.core.wmem_max": Sysctl(65_536, 64 * _MIB, "the largest send buffer that a program may ask for"),
    "net.ipv4.tcp_max_syn_backlog": Sysctl(128, 65_535, "half-open connections that are remembered"),
    "net.ipv4.tcp_slow_start_after_idle": Sysctl(0, 1, "whether an idle connection begins slowly again"),
    "fs.inotify.max_user_watches": Sysctl(8192, 4_194_304, "files that one user may watch"),
    "fs.inotify.max_user_instances": Sysctl(128, 65_536, "watchers that one user may have"),
}
_DISPLACED: Final = {one.displaces: name for name, one in KNOWN.items() if one.displaces}


class Sysctls:
    """Single numbers below /proc/sys, in the agent's own network namespace."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def read(self, host: Host, name: str) -> Knobs:
        """The number as it is; None where this kernel has none such, or it is no single number."""
        known = KNOWN.get(name)
        displaces = known.displaces if known else ""
        return Knobs(value=_read(host, name), displaced=_read(host, displaces) if displaces else None)

    def plan(self, target: Target, now: Knobs, want: Knobs) -> Step:
        """The diff. SteadError for a sysctl that is not in the list or not here, a number out of its range, or another's."""
        wanted = fields(want)
        known, value = _known(target), wanted.get("value")
        if now.value is None:
            fix = "see /proc/sys for what there is"
            raise SteadError(f"this kernel has no {target.name}", str(target), fix, code="kernel.no-sysctl")
        strange = sorted(wanted.keys() - {"value", "displaced"})
        if strange:
            raise SteadError(f"a sysctl has no {', '.join(strange)}", str(target), "it has a value", code="kernel.field")
        if isinstance(value, int) and value != now.value and not known.low <= value <= known.high:
            what = f"{target.name} of {value} is outside of what stead sets"
            raise SteadError(what, str(target), f"give {known.low} to {known.high}: {known.why}", code="kernel.range")
        if value == now.value or value is None:
            return step(target, {}, {}, note=known.why)
        owner = owner_of_sysctl(self._host, target.name) or owner_of_sysctl(self._host, known.displaces)
        if owner:
            raise SteadError(f"{owner} sets {target.name} here", str(target), f"change it in {owner}", code="kernel.owned")
        before, after = {"value": now.value}, {"value": value}
        if known.displaces and now.value == 0:
            before, after = {**before, "displaced": now.displaced or 0}, {**after, "displaced": 0}
        return step(target, dict(before), dict(after), note=known.why)

    async def write(self, host: Host, name: str, want: Knobs) -> None:
        """Set it. What displaces another is put back by setting that other again: the kernel takes no 0 for it. OSError."""
        known = _known(Target("sysctl", name))
        if want.value is None:
            return
        if known.displaces and want.value == 0:
            host.write(_path(known.displaces), str(want.displaced or 0).encode())
        else:
            host.write(_path(name), str(want.value).encode())


def _known(target: Target) -> Sysctl:
    found = KNOWN.get(target.name)
    if found is not None:
        return found
    other = _DISPLACED.get(target.name)
    fix = f"set {other} instead, which displaces it" if other else f"set it by hand; stead sets {', '.join(KNOWN)}"
    raise SteadError(f"{target.name} is not among the sysctls that stead sets", str(target), fix, code="kernel.sysctl")


def _read(host: Host, name: str) -> int | None:
    if not _NAME.fullmatch(name):
        return None
    try:
        return int(host.read(_path(name), 256))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, ValueError):
        return None


def _path(name: str) -> str:
    return f"/proc/sys/{name.replace('.', '/')}"
