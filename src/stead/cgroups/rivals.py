"""Other controllers that may run on this host, and what each of them sets: there stead yields.

A controller is told by the name of its process (15 characters, as the kernel keeps it). Some own values outright (a container
engine its groups, ananicy the priorities of what its rules name), some only end processes: those own nothing, but a plan for a
memory limit should know of them. Sources: each one's own manual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from stead.protocols import Host


class Rival(NamedTuple):
    """One controller. `knobs`: patterns of what it sets ("process.nice", "cgroup.memory_high_bytes", "kernel.ksm",
    "process.end"); `groups`: patterns of the control groups that it sets them on.
    """

    name: str
    processes: tuple[str, ...]
    knobs: tuple[str, ...]
    does: str
    groups: tuple[str, ...] = ("*",)


_KUBE: Final = ("/kubepods*", "/kubelet*", "*/kubepods*")
_PRIORITIES: Final = ("process.nice", "process.autogroup_nice", "process.ionice_*", "process.policy")
RIVALS: Final = (
    Rival("systemd-oomd", ("systemd-oomd",), ("process.end",), "kills by memory pressure and swap, where a unit asks for it"),
    Rival("earlyoom", ("earlyoom",), ("process.end",), "kills when little memory and swap are left"),
    Rival("nohang", ("nohang", "nohang-desktop"), ("process.end",), "kills by memory, swap and pressure"),
    Rival("oomd", ("oomd",), ("process.end", "cgroup.memory_high_bytes"), "kills, and sets memory.high by its plug-ins"),
    Rival("senpai", ("senpai",), ("cgroup.memory_high_bytes",), "lowers memory.high until pressure shows"),
    Rival("uresourced", ("uresourced",), ("cgroup.memory_low_bytes", "cgroup.cpu_weight", "cgroup.io_weight"),
          "gives the active user's session memory and weight", ("/user.slice*",)),
    Rival("ananicy", ("ananicy", "ananicy-cpp"), (*_PRIORITIES, "process.placement"), "sets priorities by rules, ever again"),
    Rival("system76-scheduler", ("system76-schedu",), _PRIORITIES, "sets priorities by rules, again and again"),
    Rival("gamemode", ("gamemoded",), _PRIORITIES, "sets a game's priorities while it runs"),
    Rival("cgrulesengd", ("cgrulesengd",), ("process.placement",), "moves processes into groups by /etc/cgrules.conf"),
    Rival("numad", ("numad",), ("process.cpus", "process.placement"), "binds processes to nodes"),
    Rival("TuneD", ("tuned",), ("sysctl.*", "kernel.*"), "sets sysctls, disks and CPUs by its profile"),
    Rival("ksmtuned", ("ksmtuned",), ("kernel.ksm",), "drives KSM"),
    Rival("uksmd", ("uksmd",), ("kernel.ksm",), "merges pages of processes"),
    Rival("irqbalance", ("irqbalance",), ("kernel.irq",), "spreads interrupts over CPUs"),
    Rival("thermald", ("thermald",), ("kernel.cpufreq",), "slows CPUs by temperature"),
    Rival("power-profiles", ("power-profiles-",), ("kernel.cpufreq",), "sets the CPUs' energy profile"),
    Rival("auto-cpufreq", ("auto-cpufreq",), ("kernel.cpufreq",), "sets the CPUs' frequency"),
    Rival("tlp", ("tlp",), ("kernel.cpufreq", "sysctl.vm.*"), "sets power saving"),
    Rival("kubelet", ("kubelet",), ("cgroup.*",), "sets the groups of pods", _KUBE),
    Rival("Docker", ("dockerd",), ("cgroup.*",), "sets the groups of containers", ("/docker*", "*/docker-*")),
    Rival("containerd", ("containerd",), ("cgroup.*",), "sets the groups of containers", ("*cri-containerd-*", "*nerdctl-*")),
    Rival("CRI-O", ("crio",), ("cgroup.*",), "sets the groups of containers", ("*crio-*",)),
    Rival("libvirt", ("libvirtd", "virtqemud"), ("cgroup.*",), "sets the groups of machines", ("/machine*",)),
)  # fmt: skip


def running(host: Host) -> dict[str, int]:
    """The controllers that run here: name → the first pid of each. Reads the name of every process."""
    by_process = {process: rival.name for rival in RIVALS for process in rival.processes}
    found: dict[str, int] = {}
    try:
        pids = sorted(int(name) for name in host.list("/proc") if name.isdigit())
    except OSError:
        return {}
    for pid in pids:
        try:
            name = by_process.get(host.read(f"/proc/{pid}/comm", 64).decode("utf-8", "replace").strip())
        except OSError:
            continue
        if name is not None:
            found.setdefault(name, pid)
    return found


def claimant(names: Iterable[str], knob: str, path: str = "") -> Rival | None:
    """Of the controllers of these names the one that sets this knob (on this group); None: it is nobody's."""
    present = frozenset(names)
    for rival in RIVALS:
        sets_it = rival.name in present and any(fnmatchcase(knob, pattern) for pattern in rival.knobs)
        if sets_it and (not path or any(fnmatchcase(path, pattern) for pattern in rival.groups)):
            return rival
    return None


def yielding(present: Mapping[str, int], knobs: Iterable[str], path: str = "") -> str:
    """Why stead yields, in words: one of these controllers (as `running` has them) sets one of these knobs. Empty: none does."""
    for knob in knobs:
        rival = claimant(present, knob, path)
        if rival is not None:
            where = f" of {path}" if path else ""
            pid, what = present[rival.name], knob.partition(".")[2]
            return f"{rival.name} runs here (process {pid}) and sets {what}{where}: stead yields"
    return ""


def killers(names: Iterable[str]) -> tuple[str, ...]:
    """Of the controllers of these names those that end processes when memory is short."""
    present = frozenset(names)
    return tuple(rival.name for rival in RIVALS if rival.name in present and "process.end" in rival.knobs)
