"""`process`: one process as state: whether it is stopped, and whether it is there at all. Wanting it absent ends it.

Stopping (SIGSTOP) is put back exactly by SIGCONT. Ending can't be put back, so it is always asked; a person who decides sees
what it would give back at most, and the receipt says what it gave. The target may be a control group: then the step is for
the process in it that holds most memory, and for that very one. Never touched, whoever asks: the init system, threads of the
kernel, stead itself and what started it, and what a person sits in (a login shell, a display server, a multiplexer).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, Literal, cast

import msgspec

from stead.cgroups.insiders import Shield, protected_process, shielded
from stead.cgroups.tree import Groups
from stead.host.procfs import ProcessStat, parse_stat, read_meminfo
from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.model.session import session_group, session_program
from stead.protocols import Actuator, Host

GRACE_S: Final = 3.0  # between the asking signal and the one that can't be refused
DYING_S: Final = 5.0  # for the kernel to take its memory away
STOPPING_S: Final = 1.0
_LOOK_S: Final = 0.02
_NONE: Final = "a process that has ended can't be brought back, and what it held in memory is gone"
_MOST_READ: Final = 1000  # processes of a group that are looked at for the largest


class Process(msgspec.Struct, frozen=True):
    """`stopped` can be set (None leaves it); the rest is only ever read, and is of the largest process where a group is meant."""

    stopped: bool | None = None
    name: str | None = None
    memory_bytes: int | None = None  # resident and swapped: the most that its end can give back
    pid: int | None = None
    start_ticks: int | None = None
    forbidden: str | None = None  # why it is never touched, in words


class ProcessActuator:
    """Reads, stops, continues and ends processes."""

    name = "process"
    state = Process

    def __init__(self, host: Host, shield: Shield = Shield()) -> None:  # noqa: B008 (it never changes)
        self._eyes = Eyes(host, shield)

    async def read(self, host: Host, target: Target) -> Process | Absent:
        """The very process, or the largest of a group. ABSENT when it (or every process of the group) is gone."""
        if target.identity.get("boot_id") != host.boot_id:
            return ABSENT
        if target.kind == "cgroup":
            return self._eyes.largest(host, target) or ABSENT
        if target.kind != "process" or not target.name.isdigit():
            return ABSENT
        pid, ticks = int(target.name), target.identity.get("start_ticks", "")
        seen = self._eyes.seen(host, pid)
        return ABSENT if seen is None or str(seen.start_ticks) != ticks else seen

    def plan(self, target: Target, now: Process | Absent, want: Process | Absent) -> Step:
        """A stop, which is put back exactly, or an end, which is not. SteadError for what is never touched."""
        if isinstance(now, Absent):
            raise SteadError("a process that has ended can't be begun again", str(target), code="process.gone")
        if now.forbidden:
            what = f"{now.name} (pid {now.pid}) {now.forbidden}: it is neither stopped nor ended"
            raise SteadError(what, str(target), "choose another, or do it by hand", code="process.forbidden")
        if target.kind == "cgroup":
            identity = {"start_ticks": str(now.start_ticks), "boot_id": target.identity["boot_id"]}
            target = Target("process", str(now.pid), identity)
        labels = {"process": now.name or "", "pid": str(now.pid)}
        if isinstance(want, Absent):
            before = cast(Record, {"name": now.name, "memory_bytes": now.memory_bytes})
            note = f"ends {now.name} (pid {now.pid}), which gives back {_megabytes(now.memory_bytes)} at most"
            most_s = GRACE_S + DYING_S + 2.0
            return Step(self.name, target, before, None, "none", _NONE, duration_s=most_s, note=note, labels=labels)
        moved = want.stopped is not None and want.stopped != now.stopped
        before = {"stopped": now.stopped} if moved else {}
        wanted: Record = {"stopped": want.stopped} if moved else {}
        note = "it keeps its memory while it is stopped; its parent may notice" if want.stopped and moved else ""
        return Step(self.name, target, before, wanted, "exact", note=note, labels=labels)

    def met(self, now: Process | Absent, want: Process | Absent) -> bool:
        """Gone as wanted, or stopped as wanted. Its size is nobody's wish."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            return isinstance(now, Absent) and isinstance(want, Absent)
        return want.stopped in (None, now.stopped)

    async def write(self, host: Host, target: Target, want: Process | Absent) -> None:
        """Stop, continue or end that very process. ProcessLookupError when it is gone, PermissionError when refused."""
        if target.kind != "process" or target.identity.get("boot_id") != host.boot_id:
            raise ProcessLookupError(f"{target} is not a process of this boot")
        pid, ticks = int(target.name), int(target.identity.get("start_ticks", "-1"))
        if isinstance(want, Absent):
            return await self._end(host, pid, ticks)
        if want.stopped is None:
            return
        if want.stopped:  # to let one go on hurts nobody, whoever protects it by now
            self._check_allowed(host, pid)
        host.signal(pid, ticks, "stop" if want.stopped else "continue")
        await _until(STOPPING_S, lambda: _is_stopped(host, pid) == want.stopped)

    async def _end(self, host: Host, pid: int, ticks: int) -> None:
        """Ask, wait, end, wait; then say how much memory came back while it did."""
        self._check_allowed(host, pid)
        await _ended(host, pid, ticks)

    def _check_allowed(self, host: Host, pid: int) -> None:
        """Look again, right before it is touched: a plan may be an hour old."""
        seen = self._eyes.seen(host, pid)
        if seen is not None and seen.forbidden:
            what = f"{seen.name} (pid {pid}) {seen.forbidden}"
            raise SteadError(what, f"process:{pid}", "choose another", code="process.forbidden")


async def _ended(host: Host, pid: int, ticks: int) -> None:
    before = read_meminfo(host).get("MemAvailable")

    def gone() -> bool:
        return host.start_ticks(pid) != ticks

    stopped = _is_stopped(host, pid)
    host.signal(pid, ticks, "terminate")
    if stopped:  # a stopped process hears the question only once it goes on
        _unless_gone(host, pid, ticks, "continue")
    if not await _until(GRACE_S, gone):
        _unless_gone(host, pid, ticks, "kill")
        if not await _until(DYING_S, gone):
            what = f"process {pid} was killed and is still there: it waits in the kernel, or its group is frozen"
            raise SteadError(what, f"process:{pid}", "undo what froze its group, or look at its state (ps -o stat,wchan)")
    after = read_meminfo(host).get("MemAvailable")
    if before is not None and after is not None:
        host.note(f"MemAvailable went from {_megabytes(before)} to {_megabytes(after)}: {_megabytes(after - before)} more")


def _unless_gone(host: Host, pid: int, ticks: int, name: Literal["continue", "kill"]) -> None:
    try:
        host.signal(pid, ticks, name)
    except ProcessLookupError:
        return


async def _until(seconds: float, holds: Callable[[], bool]) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not holds():
        if loop.time() >= until:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


class Eyes:
    """Looks at processes, and says which are never touched."""

    def __init__(self, host: Host, shield: Shield) -> None:
        self._host, self._shield = host, shield
        self._groups: Groups | None = None

    @property
    def groups(self) -> Groups:
        """The host's control groups, looked for when they are first needed."""
        if self._groups is None:
            self._groups = Groups.of(self._host)
        return self._groups

    def seen(self, host: Host, pid: int) -> Process | None:
        """One process as it is. None when it is gone, or a zombie: that holds no memory, and only its parent can end it."""
        ticks = host.start_ticks(pid)
        if ticks is None:
            return None
        if host.system != "linux":
            return _seen_elsewhere(host, pid, ticks)
        try:
            stat = parse_stat(host.read(f"/proc/{pid}/stat", 4096))
            held = stat.rss_pages * os.sysconf("SC_PAGE_SIZE") + _swapped(host, pid)
        except (OSError, ValueError, IndexError):
            return None
        return Process(stat.stopped, stat.name, held, pid, ticks, self._forbidden(host, pid, stat) or None)

    def largest(self, host: Host, target: Target) -> Process | None:
        """The process of a group that holds most memory, of those that may be touched; else the largest, with the reason."""
        if not self.groups.is_there(target):
            return None
        pids = self.groups.pids(target.name, deep=True)[:_MOST_READ]
        seen = [one for pid in pids if (one := self.seen(host, pid)) is not None]
        sits = session_group(target.name)
        if sits:
            why = f"is in a group that people sit in: {sits}"
            seen = [msgspec.structs.replace(one, forbidden=one.forbidden or why) for one in seen]
        return max(seen, key=lambda one: (not one.forbidden, one.memory_bytes or 0), default=None)

    def _forbidden(self, host: Host, pid: int, stat: ProcessStat) -> str:
        """Why nothing is ever done to it, in words; empty when something may be."""
        if pid == 1:
            return "is the init system"
        if stat.of_kernel:
            return "is a thread of the kernel"
        if pid in _own(host):
            return "is stead itself, or started it"
        program = session_program(stat.name)
        if program:
            return f"is {program}"
        if stat.tty and stat.session == pid:
            return "leads the session of a terminal that somebody may sit at"
        why = protected_process(host, self.groups, pid, self._shield)
        return f"is protected ({why})" if why else ""


def _seen_elsewhere(host: Host, pid: int, ticks: int) -> Process | None:
    psutil = host.psutil
    try:
        process = psutil.Process(pid)
        name, stopped = str(process.name()), process.status() == "stopped"
        held = int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return Process(None, None, None, pid, ticks, "is not ours to see")
    why = "belongs to stead or to what started it" if pid in (os.getpid(), os.getppid(), 1) else ""
    program = session_program(name)
    return Process(stopped, name, held, pid, ticks, why or (f"is {program}" if program else None))


def _own(host: Host) -> set[int]:
    """Our own process and all that it comes from: to stop those is to stop us."""
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = parse_stat(host.read(f"/proc/{pid}/stat", 4096)).parent
        except (OSError, ValueError, IndexError):
            break
    return found


def _is_stopped(host: Host, pid: int) -> bool | None:
    if host.system != "linux":
        return str(host.psutil.Process(pid).status()) == "stopped"
    try:
        return parse_stat(host.read(f"/proc/{pid}/stat", 4096)).stopped
    except (OSError, ValueError, IndexError):
        return None


def _swapped(host: Host, pid: int) -> int:
    """Bytes of it in swap: VmSwap of /proc/PID/status, in kB."""
    for line in host.read(f"/proc/{pid}/status", 1 << 16).splitlines():
        if line.startswith(b"VmSwap:"):
            return int(line.split()[1]) * 1024
    return 0


def _megabytes(size: int | None) -> str:
    return "an unknown size" if size is None else f"{size / 1e6:.0f} MB"


actuator: Callable[..., Actuator[Process]] = shielded(ProcessActuator)
