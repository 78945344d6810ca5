"""Does a process have this file open? The kernel says it without a search: a write lease is granted only on a file that
nobody else has open, mapped files included (fcntl(2), F_SETLEASE). Where a file system has no leases, /proc is searched.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from typing import Final

_IN_USE: Final = (errno.EAGAIN, errno.ETXTBSY, errno.EBUSY)


_STANDS_S: Final = 2.0  # a search through /proc takes a tenth of a second: its answer is used for so long, but never for a move


class _Search:
    """The newest search through /proc: (device, inode) → who has it open."""

    at_s = -_STANDS_S
    found: dict[tuple[int, int], str] = {}


def opener(fd: int, *, fresh: bool = True) -> str:
    """Who else has the file of this read-only descriptor open, in words; empty when nobody has.

    `fd` must be this process's only one for that file. Without `fresh`, what is known by a search may be two seconds old.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default, unlike SIGIO, should somebody open it just now
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        file = os.fstat(fd)
        key = (file.st_dev, file.st_ino)
        if error.errno in _IN_USE:
            return _searched(False).get(key) or _searched(True).get(key, "a process")
        found = _searched(fresh).get(key, "")
        if os.geteuid() != 0:
            return found or "perhaps a process of another user, which can't be told here"
        return found
    return ""


def _searched(fresh: bool) -> dict[tuple[int, int], str]:
    """What processes have open, by /proc/PID/fd; this one's own descriptors are left out."""
    if fresh or time.monotonic() - _Search.at_s > _STANDS_S:
        _Search.found = dict(_open_files())
        _Search.at_s = time.monotonic()
    return _Search.found


def _open_files() -> Iterator[tuple[tuple[int, int], str]]:
    own = str(os.getpid())
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd") if pid != own else []  # noqa: PTH208
        except OSError:
            continue
        for number in descriptors:
            link = f"/proc/{pid}/fd/{number}"
            try:
                if os.readlink(link).startswith("/"):  # noqa: PTH115 (no socket, no pipe; no file system is asked)
                    found = os.stat(link)  # noqa: PTH116
                    yield (found.st_dev, found.st_ino), f"{_name(pid)} (pid {pid})"
            except OSError:
                continue


def _name(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as comm:  # noqa: PTH123
            return comm.read(64).decode("utf-8", "replace").strip()
    except OSError:
        return "a process"
