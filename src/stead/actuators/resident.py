"""`resident`: how much memory a control group holds. Wanting less makes the kernel take back what can be had again.

On version 2 by memory.reclaim, a piece at a time, so that the agent never waits long in one call; on version 1 by
memory.force_empty, which takes all that can be taken. Nothing is limited: what the group needs it reads again. So nothing can
be put back, and nothing has to be. The kernel's own counting and the group's own growth move the size, so a size is met
when it is not larger than wanted, within a twentieth and 4 MiB.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final, cast

import msgspec

from stead.cgroups.insiders import Shield, protected_inside, shielded
from stead.cgroups.memory import read_memory, swap_free
from stead.cgroups.tree import Groups
from stead.host.procfs import page_bytes
from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.model.session import session_group
from stead.protocols import Actuator, Host

PIECE_BYTES: Final = 16 << 20
SLACK_BYTES: Final = 4 << 20
_SLACK_SHARE: Final = 0.05
_DURATION_S: Final = 10.0
_NONE: Final = "what was taken back is read or computed again when the group needs it; nothing else can bring it back"


class Resident(msgspec.Struct, frozen=True):
    """A size in bytes. `floor_bytes` is only ever read: what of it can't be taken back (so a size that was seen has one)."""

    size_bytes: int
    floor_bytes: int | None = None


class ResidentActuator:
    """Reads sizes, and has the kernel reclaim."""

    name = "resident"
    state = Resident

    def __init__(self, host: Host, shield: Shield = Shield()) -> None:  # noqa: B008 (it never changes)
        self._host, self._shield = host, shield

    async def read(self, host: Host, target: Target) -> Resident | Absent:
        """The group's size. ABSENT when it is gone; SteadError where the system does not count the memory of groups."""
        groups = Groups.of(host)
        if not groups.is_there(target):
            return ABSENT
        seen = read_memory(host, groups, target.name)
        if seen is None:
            if not groups.is_there(target):
                return ABSENT
            raise _not_counted(target)
        return Resident(seen.size, seen.size - seen.reclaimable(swap_free(host)))

    def plan(self, target: Target, now: Resident | Absent, want: Resident | Absent) -> Step:
        """What will be: never below what can't be taken back. SteadError when nothing can, or where people sit in it."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("the memory of a group can't be absent", str(target), "end its processes", code="resident.absent")
        sits = session_group(target.name)
        if sits:
            raise SteadError(f"{sits}, and memory is not taken from that", str(target), code="resident.session")
        before = {"size_bytes": now.size_bytes, "floor_bytes": now.floor_bytes}
        if want.floor_bytes is not None:  # as it was seen: nothing to do
            return Step(self.name, target, cast(Record, before), cast(Record, msgspec.structs.asdict(want)), "none", _NONE)
        groups = Groups.of(self._host)
        _check_can(self._host, groups, target)
        why = protected_inside(self._host, groups, target.name, self._shield)
        if why:
            raise SteadError(why, str(target), "take it from another", code="resident.protected")
        floor = now.floor_bytes or 0
        size = -(-max(want.size_bytes, floor) // page_bytes()) * page_bytes()
        wanted = Resident(size)
        if self.met(now, wanted):
            what = f"only {_megabytes(now.size_bytes - floor)} of its {_megabytes(now.size_bytes)} could be taken back"
            raise SteadError(what, str(target), "limit it, or give the host swap", code="resident.nothing")
        note = f"of {_megabytes(now.size_bytes)}, {_megabytes(now.size_bytes - floor)} could be taken back"
        if groups.kind("memory") == "v1":
            note += "; cgroup version 1 takes all of that at once"
        return Step(
            self.name, target, cast(Record, before), {"size_bytes": size}, "none", _NONE, duration_s=_DURATION_S, note=note
        )

    def met(self, now: Resident | Absent, want: Resident | Absent) -> bool:
        """Not larger than wanted. A size that was once seen is nobody's wish, and met by any."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        return want.floor_bytes is not None or now.size_bytes <= want.size_bytes * (1 + _SLACK_SHARE) + SLACK_BYTES

    async def write(self, host: Host, target: Target, want: Resident | Absent) -> None:
        """Reclaim until it is so, or the kernel has no more to give (SteadError then)."""
        if isinstance(want, Absent):
            raise SteadError("the memory of a group can't be absent", str(target), code="resident.absent")
        groups = Groups.of(host)
        if not groups.is_there(target):
            raise FileNotFoundError(errno.ENOENT, "this very group is gone", target.name)
        if want.floor_bytes is not None:
            return
        why = protected_inside(host, groups, target.name, self._shield)  # again: a yes may have come minutes after the plan
        if why:
            raise SteadError(why, str(target), "take it from another", code="resident.protected")
        folder = groups.folder(target.name, "memory")
        if groups.kind("memory") == "v1":
            host.write(f"{folder}/memory.force_empty", b"0")
            return
        await _reclaim(host, f"{folder}", want.size_bytes, target)


async def _reclaim(host: Host, folder: str, size_bytes: int, target: Target) -> None:
    """Ask for a piece at a time: other work of the agent comes between. EAGAIN: the kernel gave less than the piece."""
    excess = int(host.read(f"{folder}/memory.current", 64)) - size_bytes
    while excess > 0:
        try:
            host.write(f"{folder}/memory.reclaim", str(min(excess, PIECE_BYTES)).encode())
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            left = int(host.read(f"{folder}/memory.current", 64)) - size_bytes
            if left <= 0:
                return
            what = f"the kernel could take no more back: {_megabytes(left)} are left above what was wanted"
            raise SteadError(what, str(target), "limit it, or give the host swap", code="resident.no-more") from error
        await asyncio.sleep(0)
        excess = min(excess - PIECE_BYTES, int(host.read(f"{folder}/memory.current", 64)) - size_bytes)


def _check_can(host: Host, groups: Groups, target: Target) -> None:
    folder = groups.folder(target.name, "memory")
    if folder is None or not groups.kind("memory"):
        raise _not_counted(target)
    name = "memory.force_empty" if groups.kind("memory") == "v1" else "memory.reclaim"
    if host.inode(f"{folder}/{name}") is None:
        what = "this kernel has no memory.reclaim (it came with Linux 5.19)" if name == "memory.reclaim" else f"no {name} here"
        raise SteadError(what, str(target), "limit it by memory.high instead", code="resident.kernel")


def _not_counted(target: Target) -> SteadError:
    return SteadError(
        "the memory of groups is not counted here (no memory controller for it)", str(target), code="resident.controller"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


actuator: Callable[..., Actuator[Resident]] = shielded(ResidentActuator)
