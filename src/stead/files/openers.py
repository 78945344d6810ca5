"""Does a process have this file open? The kernel says it without a search: a write lease is granted only on a file that
nobody else has open, mapped files included (fcntl(2), F_SETLEASE). Where a file system has no leases, /proc is searched.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import Final

_IN_USE: Final = (errno.EAGAIN, errno.ETXTBSY, errno.EBUSY)


def opener(fd: int) -> str:
    """Who else has the file of this read-only descriptor open, in words; empty when nobody has.

    `fd` must be this process's only one for that file.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default, unlike SIGIO, should somebody open it just now
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        found = _searched(os.fstat(fd), fd)
        if error.errno in _IN_USE:
            return found or "a process"
        if os.geteuid() != 0:
            return found or "perhaps a process of another user, which can't be told here"
        return found
    return ""


def _searched(file: os.stat_result, own: int) -> str:
    """The first process that has it open, by /proc/PID/fd; empty when none is seen."""
    mine = str(os.getpid())
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
        except OSError:
            continue
        for number in descriptors:
            if (pid != mine or number != str(own)) and _is(f"/proc/{pid}/fd/{number}", file):
                return f"{_name(pid)} (pid {pid})"
    return ""


def _is(link: str, file: os.stat_result) -> bool:
    try:
        if not os.readlink(link).startswith("/"):  # noqa: PTH115 (a socket or a pipe; and no file system is asked)
            return False
        found = os.stat(link)  # noqa: PTH116
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino)


def _name(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as comm:  # noqa: PTH123
            return comm.read(64).decode("utf-8", "replace").strip()
    except OSError:
        return "a process"
