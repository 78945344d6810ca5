"""Who is in a control group, and what it can't do without: why a limit on it would hurt what must not be hurt.

A group is as protected as the most protected process in it or below it. A limit below what its processes use at this
moment and can't give back is no limit but a kill.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from stead.cgroups.knobs import MAX, place_of
from stead.cgroups.memory import working_set_bytes
from stead.host.procfs import parse_stat
from stead.model.intent import Intent, pattern_of
from stead.model.protection import BUILT_IN, names_group
from stead.model.session import session_program
from stead.protocols import Host

if TYPE_CHECKING:
    from stead.cgroups.tree import Groups

LEAST_CPU_PERCENT: Final = 1.0
Made = TypeVar("Made")


class Shield(NamedTuple):
    """What must not be touched besides the built-in names: the policy's patterns, stead's own processes, what the owner protects.

    `own`: pid, or "pid@start_ticks" → what it is.
    """

    patterns: Sequence[str] = ()
    own: Callable[[], Mapping[str, str]] = dict
    intent: Intent = Intent()


def shielded(make: Callable[[Host, Shield], Made]) -> Callable[..., Made]:
    """An actuator's factory, as plugins are made: of what the process offers it takes what is not to be touched."""

    def actuator(
        host: Host,
        protected: Sequence[str] = (),
        own: Callable[[], Mapping[str, str]] = dict,
        intent: Intent | None = None,
    ) -> Made:
        """`protected`: the policy's patterns; `own`: stead's own processes, pid → what it is."""
        return make(host, Shield(protected, own, intent or Intent()))

    return actuator


def protected_inside(host: Host, groups: Groups, path: str, shield: Shield) -> str:
    """Why the processes in a group (or below it) forbid changing it, naming the first such; empty when none does."""
    for pattern in shield.patterns:
        if names_group(pattern, path):
            return f"{path} is protected by the policy's pattern {pattern}"
    own = {str(os.getpid()): "stead itself", **shield.own()}
    for pid in groups.pids(path, deep=True):
        why = _protected(host, groups, pid, shield, own)
        if why:
            return f"{path} holds process {pid}, {why}"
    return ""


def protected_process(host: Host, groups: Groups, pid: int, shield: Shield) -> str:
    """What a process is that forbids touching it, in words; empty when it may be touched, or has ended."""
    return _protected(host, groups, pid, shield, {str(os.getpid()): "stead itself", **shield.own()})


def protected_in_session(host: Host, groups: Groups, session: int, shield: Shield, but: int) -> str:
    """Why the processes of a session, but for one, forbid weighing it down, naming the first such; empty when none does."""
    own = {str(os.getpid()): "stead itself", **shield.own()}
    for name in host.list("/proc"):
        try:
            if not name.isdigit() or int(name) == but or parse_stat(host.read(f"/proc/{name}/stat", 4096)).session != session:
                continue
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        why = _protected(host, groups, int(name), shield, own)
        if why:
            return f"process {name} is in it, {why}"
    return ""


def _protected(host: Host, groups: Groups, pid: int, shield: Shield, own: Mapping[str, str]) -> str:
    if pid <= 1:
        return "the init system" if pid else "which can't be seen from here (it is of another pid namespace)"
    try:
        stat = parse_stat(host.read(f"/proc/{pid}/stat", 4096))
    except (FileNotFoundError, ProcessLookupError):
        return own.get(str(pid), "")  # it has ended
    except (OSError, ValueError, IndexError) as error:
        return own.get(str(pid), f"of which nothing can be read ({error})")
    mine = own.get(str(pid)) or own.get(f"{pid}@{stat.start_ticks}")
    if mine:
        return mine
    if stat.of_kernel:
        return f"{stat.name}, a thread of the kernel"
    for pattern, what in BUILT_IN.items():
        if fnmatchcase(stat.name.lower(), pattern):
            return f"{stat.name}: {what}"
    return _named(host, groups, pid, stat.name, shield) if shield.patterns or shield.intent.protect else ""


def session_inside(host: Host, groups: Groups, path: str) -> str:
    """Why to freeze a group would shut a person out, by who is in it or below it, whatever its path says. Empty: nobody is."""
    for pid in groups.pids(path, deep=True):
        try:
            stat = parse_stat(host.read(f"/proc/{pid}/stat", 4096))
        except (OSError, ValueError, IndexError):
            continue  # it has just ended, or is refused for that already
        leads = "leads the session of a terminal that somebody may sit at" if stat.tty and stat.session == pid else ""
        what = session_program(stat.name) or leads
        if what:
            return f"{path} holds process {pid}, {stat.name}: {what}"
    return ""


def _named(host: Host, groups: Groups, pid: int, name: str, shield: Shield) -> str:
    """Is it part of what the policy or the owner wants protected, by itself or by a group that it is in?"""
    try:
        command = host.read(f"/proc/{pid}/cmdline", 4096).decode("utf-8", "replace").rstrip("\0").replace("\0", " ")
    except OSError:
        command = ""
    path = groups.path_of(pid) or "/"
    for text in shield.patterns:
        if pattern_of(text).fits_process(name, command) or names_group(text, path):
            return f"{name}, which the policy's pattern {text} protects"
    parts = path.strip("/").split("/")
    above = ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))]
    for one in shield.intent.protect:
        for pattern in map(pattern_of, one.match):
            if pattern.fits_process(name, command) or any(pattern.fits_group(path) for path in above):
                return f"{name}, which is to be protected ({one.title})"
    return ""


def too_tight(host: Host, groups: Groups, path: str, want: Mapping[str, Any], outgrown: float = 0.0) -> str:
    """Why these values would choke the group rather than limit it; empty when they would not.

    Unknown use forbids what would end processes (memory_max), and not what only slows or refuses. That may also be below what
    the group needs by a share `outgrown`, where it was not when it was planned.
    """
    percent = want.get("cpu_max_percent", MAX)
    if percent != MAX and float(percent) < LEAST_CPU_PERCENT:
        return f"{percent:g} % of a core is less than the {LEAST_CPU_PERCENT:g} % that anything needs to end what it began"
    pids = want.get("pids_max", MAX)
    if pids != MAX:
        running = _number(host, groups, "pids_max", path, "pids.current")
        if running is not None and int(pids) < running:
            return f"it runs {running} tasks now, and would start none with at most {pids}"
    for field in ("memory_high_bytes", "memory_max_bytes"):
        value = want.get(field, MAX)
        needed = None if value == MAX else working_set_bytes(host, groups, path)
        if value != MAX and needed is None and field == "memory_max_bytes":
            return "what it uses is not known, and a limit below that would end its processes"
        spared = outgrown if field == "memory_high_bytes" else 0.0
        if needed is not None and int(value) < needed * (1 - spared):
            limit, held = int(value) / (1 << 20), needed / (1 << 20)
            return f"{field} of {limit:.4g} MiB is below the {held:.4g} MiB that it uses and can't give back"
    return ""


def _number(host: Host, groups: Groups, field: str, path: str, file: str) -> int | None:
    place = place_of(groups, host, field, path)
    try:
        return None if place is None else int(host.read(f"{place[1]}/{file}", 64))
    except (OSError, ValueError):
        return None
