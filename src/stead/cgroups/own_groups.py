"""Stead's own groups: one for each process that is placed, below `/stead`, which runs only when nobody else wants the CPU.

They are made when a process is put in, and removed when it is put back; then `/stead` goes too. `/stead` itself is the idle one
(cpu.idle, or the least weight where the kernel lacks that), because a group's weight counts among its siblings: what is
idle below an ordinary group would still take an ordinary group's share from everybody else.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stead.cgroups.owners import STEAD
from stead.cgroups.values import refusal
from stead.protocols import Host

if TYPE_CHECKING:
    from stead.cgroups.tree import Groups

TRIES: Final = 3  # another stead (one that restores) may take `/stead` away, empty as it is, while a group is made in it
ROUNDS: Final = 16  # how often what was started meanwhile is moved after the others


def own_path(pid: int, start_ticks: int | str) -> str:
    """The group of one very process."""
    return f"{STEAD}/{pid}-{start_ticks}"


def made(host: Host, groups: Groups, path: str, controller: str) -> str:
    """Make an own group in a controller's tree, with `/stead` above it as it has to be. Its folder. SteadError when refused."""
    above, folder = groups.folder(STEAD, controller), groups.folder(path, controller)
    if above is None or folder is None:
        raise refusal(OSError(errno.ENOENT, "no such tree"), path, f"a group with the {controller} controller")
    for tried in range(TRIES):
        try:
            _prepare(host, groups, above, folder, controller)
            break
        except OSError as error:
            if isinstance(error, FileNotFoundError) and tried < TRIES - 1:
                continue
            with contextlib.suppress(OSError):  # others are in it
                host.remove_folder(above)
            raise refusal(error, path, f"a group below {STEAD}") from error
    return folder


def _prepare(host: Host, groups: Groups, above: str, folder: str, controller: str) -> None:
    _make(host, above)
    _sweep(host, groups, above)
    if controller == "cpu":
        _make_idle(host, above)
    if groups.kind(controller) == "v2" and controller in groups.controllers:
        host.write(f"{above}/cgroup.subtree_control", f"+{controller}".encode("ascii"))
    _make(host, folder)


def passed_on(host: Host, groups: Groups) -> list[str]:
    """The controllers of version 2 that groups below the root have. A container's root passes none on while it has processes."""
    root = groups.unified("/")
    try:
        return [] if root is None else host.read(f"{root}/cgroup.subtree_control", 4096).decode("ascii", "replace").split()
    except OSError:
        return []


def _sweep(host: Host, groups: Groups, above: str) -> None:
    """Remove the groups of processes that have ended, once nothing is in them: another hand may have moved what was."""
    for path in groups.children(STEAD):
        name = path.rpartition("/")[2]
        pid, _, ticks = name.partition("-")
        if pid.isdigit() and str(host.start_ticks(int(pid))) != ticks:
            with contextlib.suppress(OSError):
                host.remove_folder(f"{above}/{name}")


def _make(host: Host, folder: str) -> None:
    if host.inode(folder) is None:
        with contextlib.suppress(FileExistsError):
            host.make_folder(folder)


def _make_idle(host: Host, folder: str) -> None:
    """Leave the CPU to everybody else; least weight where there is no idle."""
    for file, value in (("cpu.idle", b"1"), ("cpu.weight", b"1"), ("cpu.shares", b"2")):
        if host.inode(f"{folder}/{file}") is not None:
            if host.read(f"{folder}/{file}", 64).strip() != value:
                host.write(f"{folder}/{file}", value)
            return
    raise FileNotFoundError(errno.ENOENT, "the cpu controller is not enabled for groups below the root", folder)


def move(host: Host, folder: str, pid: int) -> None:
    """Move a process, with all its threads. ProcessLookupError when it is gone; SteadError when the kernel refuses."""
    try:
        host.write(f"{folder}/cgroup.procs", str(pid).encode("ascii"))
    except ProcessLookupError:
        raise
    except OSError as error:
        raise refusal(error, folder, f"process {pid}") from error


def descendants(host: Host, pid: int, but: Callable[[int], object] = lambda child: False) -> list[int]:
    """All that a process started and that lives, nearest first; what an ended one between them had started is not found.

    `but`: whoever this is true of is left out, with all that it started itself.
    Source: proc_pid_task(5), `children`; a kernel without it (CONFIG_PROC_CHILDREN) tells nothing.
    """
    found: dict[int, None] = {}
    waiting = [pid]
    while waiting:
        above = waiting.pop(0)
        for child in _children(host, above):
            if child != pid and child not in found and not but(child):
                found[child] = None
                waiting.append(child)
    return list(found)


def _children(host: Host, pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in host.list(f"/proc/{pid}/task"):
            children += [int(child) for child in host.read(f"/proc/{pid}/task/{thread}/children", 1 << 16).split()]
    return children


def emptied(host: Host, groups: Groups, path: str, back: str, controller: str) -> None:
    """Move everything in an own group back, remove it, and `/stead` with the last one. Nothing to do where it isn't."""
    folder, home = groups.folder(path, controller), groups.folder(back, controller)
    if folder is None or home is None:
        return
    if host.inode(folder) is not None:
        _move_all(host, folder, home)
        _remove(host, folder, path)
    above = groups.folder(STEAD, controller)
    if above is not None and host.inode(above) is not None:
        with contextlib.suppress(OSError):  # others are in it
            host.remove_folder(above)


def _move_all(host: Host, folder: str, home: str) -> None:
    for _ in range(ROUNDS):
        pids = [int(pid) for pid in host.read(f"{folder}/cgroup.procs").split()]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                move(host, home, pid)


def _remove(host: Host, folder: str, path: str) -> None:
    try:
        host.remove_folder(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise refusal(error, path, "the end of this group") from error


def has_own(host: Host, groups: Groups, controller: str) -> bool:
    """Are there groups of stead's own in a controller's tree? Where there are none, nothing is placed."""
    folder = groups.folder(STEAD, controller)
    return folder is not None and host.inode(folder) is not None
