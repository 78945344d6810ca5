"""A group's values, read and written straight through its files. `units` does the same where systemd is the manager.

Reading never fails for a knob that isn't there: its value is None. Writing names what the kernel refused, and why it does so.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from stead.cgroups.knobs import KNOBS, MAX, place_of, shares_of_weight, texts_of, weight_of_shares
from stead.model.errors import SteadError
from stead.protocols import Host

if TYPE_CHECKING:
    from stead.cgroups.tree import Groups

FIRST_THAW_THEN: Final = (
    *("cpu_idle", "cpu_weight", "cpu_max_percent", "memory_low_bytes", "memory_high_bytes", "memory_max_bytes"),
    *("io_weight", "io_max", "io_latency", "pids_max", "frozen"),
)
FREEZING_S: Final = 2.0  # how long a group's tasks are waited for; one in the kernel's depths may take longer
_WHY: Final[dict[int, str]] = {
    errno.EBUSY: "it is busy: more is in use than this would allow, or it has processes of its own",
    errno.EPERM: "it is not stead's to set (a namespace, or a lock-down)",
    errno.EACCES: "it is not stead's to set",
    errno.ENOSPC: "the kernel has no room for it",
    errno.EINVAL: "this kernel does not take such a value here",
    errno.ENODEV: "there is no such device, or the group has just gone",
    errno.ERANGE: "the value is out of range",
    errno.EOPNOTSUPP: "this kernel does not support it here",
    errno.EROFS: "control groups are mounted read-only here",
}


def read_values(host: Host, groups: Groups, path: str, managed: bool = False) -> dict[str, Any]:
    """Each field of a group's limit; None where it is not to be had.

    `managed`: systemd enables a controller when a property asks for it, so what has no file yet has the kernel's default.
    """
    return {field: _value(host, groups, path, field, managed) for field in KNOBS}


def _value(host: Host, groups: Groups, path: str, field: str, managed: bool) -> Any:
    knob, place = KNOBS[field], place_of(groups, host, field, path)
    if place is None:
        return None
    version, folder = place
    try:
        return knob.parse(version, texts_of(host, folder, knob.files(version)))
    except FileNotFoundError:
        return knob.default if managed and not _enabled(host, folder, knob.controller) else None
    except (OSError, ValueError, KeyError, StopIteration, IndexError):
        return None


def _enabled(host: Host, folder: str, controller: str) -> bool:
    try:
        return controller in host.read(f"{folder}/cgroup.controllers", 4096).decode("ascii", "replace").split()
    except OSError:
        return host.inode(folder) is not None  # version 1: a group that is in the tree has its files


def uneven_shares(host: Host, groups: Groups, path: str) -> int | None:
    """Version 1's shares where no weight says them exactly; None: a weight does, or there are none."""
    place = place_of(groups, host, "cpu_weight", path)
    if place is None or place[0] != "v1":
        return None
    try:
        shares = int(host.read(f"{place[1]}/cpu.shares", 64))
    except (OSError, ValueError):
        return None
    return None if shares_of_weight(weight_of_shares(shares)) == shares else shares


async def write_values(host: Host, groups: Groups, path: str, want: Mapping[str, Any], shares: int | None = None) -> None:
    """Set these fields, thawing first and freezing last. `shares`: version 1's number, in place of the weight's own.

    SteadError for what the kernel refuses, with what was written before it left so; FileNotFoundError when the group is gone.
    """
    order = FIRST_THAW_THEN if want.get("frozen", True) else (FIRST_THAW_THEN[-1], *FIRST_THAW_THEN[:-1])
    for field in order:
        value = want.get(field)
        if value is None or (field == "cpu_weight" and want.get("cpu_idle")):
            continue
        place = place_of(groups, host, field, path)
        if place is None:
            raise SteadError(f"{path} has no {field}: {groups.lacks(field, path)}", path, code="cgroup.lacking")
        _write_field(host, place, path, field, value, shares)
        if field == "frozen":
            await _frozen(host, place, value)


def _write_field(host: Host, place: tuple[str, str], path: str, field: str, value: Any, shares: int | None) -> None:
    (version, folder), knob = place, KNOBS[field]
    try:
        written = knob.write(version, value, texts_of(host, folder, knob.files(version)))
        if field == "cpu_weight" and version == "v1" and shares is not None:
            written = (("cpu.shares", str(shares)),)
        for file, text in written:
            host.write(f"{folder}/{file}", text.encode("ascii"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV) and host.inode(folder) is None:
            raise FileNotFoundError(errno.ENOENT, f"the group {path} is gone", folder) from error
        raise refusal(error, path, f"{field} = {value}") from error


def refusal(error: OSError, path: str, what: str) -> SteadError:
    """What the kernel refused, in words, with its own name for it."""
    name = errno.errorcode.get(error.errno or 0, "an error")
    words = _WHY.get(error.errno or 0, error.strerror or str(error))
    return SteadError(f"the kernel refused {what} with {name}: {words}", path, "leave it as it is", code="cgroup.refused")


async def _frozen(host: Host, place: tuple[str, str], wanted: bool) -> None:
    """Wait for what was asked for to be so. It may last (a task deep in the kernel): then it comes about by itself."""
    loop = asyncio.get_running_loop()
    until = loop.time() + FREEZING_S
    version, folder = place
    file = "freezer.state" if version == "v1" else "cgroup.events"
    while loop.time() < until:
        try:
            text = host.read(f"{folder}/{file}", 4096).decode("ascii", "replace")
        except OSError:
            return
        is_frozen = text.strip() == "FROZEN" if version == "v1" else "frozen 1" in text.splitlines()
        if is_frozen == wanted or (version == "v1" and not wanted and text.strip() == "THAWED"):
            return
        await asyncio.sleep(0.01)


def tightens(field: str, now: Any, want: Any) -> bool:
    """Does this value give the group less than it has? Unknown counts as less."""
    if want == now:
        return False
    if field in ("cpu_idle", "frozen"):
        return bool(want)
    if field in ("io_max", "io_latency"):
        return bool(want)
    if want == MAX or now is None:
        return bool(want != MAX)
    return bool(now == MAX) or float(want) < float(now)
