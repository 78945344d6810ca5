"""The way to a file, opened folder by folder without following a link, and the file as it is there now.

Whoever exchanges a folder on the way for a link gets nothing: each is opened by its name in the one before (openat(2) with
O_NOFOLLOW), and all that follows is done relative to the last one's descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from stead.files.paths import parts, shown
from stead.model.errors import SteadError

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_ONLY: Final = "it is read-only for stead: give it to the unit as ReadWritePaths (docs/how-to/disk.md), or mount it so"
_LINK_ERRORS: Final = (errno.ELOOP, errno.ENOTDIR)


class Way(NamedTuple):
    """An open folder with its path, the name in it, its mount and device, and the outermost folder of the way on both.

    `owners`: each folder of the way with the uid that it belongs to.
    """

    folder: int
    at: bytes
    name: bytes
    top: bytes
    mount: str
    device: int
    owners: tuple[tuple[bytes, int], ...] = ()

    @property
    def read_only(self) -> bool:
        """Is this mount read-only for this process?"""
        return bool(os.fstatvfs(self.folder).f_flag & os.ST_RDONLY)

    def stat(self) -> os.stat_result | None:
        """The file itself, no link followed; None when there is none."""
        return stat_in(self.folder, self.name)


def stat_in(folder: int, name: bytes) -> os.stat_result | None:
    """One name in an open folder; None when there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_in(folder: int, name: bytes, flags: int = os.O_RDONLY) -> int:
    """Open a regular file of an open folder: no link, no device, no pipe, and its time of access stays. Raises OSError."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", shown(name))
        flags |= os.O_CLOEXEC | os.O_NONBLOCK
        try:
            return os.open(f"/proc/self/fd/{handle}", flags | os.O_NOATIME)
        except PermissionError:
            return os.open(f"/proc/self/fd/{handle}", flags)
    finally:
        os.close(handle)


def mount_of(descriptor: int) -> str:
    """The id of the mount that an open file or folder was reached by (proc(5), /proc/PID/fdinfo): a rename must stay on it."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as info:  # noqa: PTH123
        return next((line.partition(":")[2].strip() for line in info if line.startswith("mnt_id:")), "")


@contextlib.contextmanager
def open_way(root: str, path: bytes, owners: Collection[int] | None) -> Iterator[Way]:
    """The way to a path below `root`. SteadError: a folder is a link, or belongs to none of `owners` (None: whoever it is).

    FileNotFoundError when a folder is not there.
    """
    *folders, name = parts(path)
    folder = os.open(root or "/", _FOLDER)
    try:
        way, device = b"", os.fstat(folder).st_dev
        mount, top, met = mount_of(folder), b"/", []
        for part in folders:
            way += b"/" + part
            below = _enter(folder, part, way)
            os.close(folder)
            folder, file = below, os.fstat(below)
            met.append((way, file.st_uid))
            foreign = stranger(met[-1:], owners)
            if foreign is not None:
                raise foreign
            found = mount_of(folder)
            if (found, file.st_dev) != (mount, device):
                mount, device, top = found, file.st_dev, way
        yield Way(folder, way, name, top, mount, device, tuple(met))
    finally:
        os.close(folder)


def stranger(folders: Iterable[tuple[bytes, int]], owners: Collection[int] | None) -> SteadError | None:
    """The refusal of the first folder that belongs to none of `owners` (None: whoever it is)."""
    for way, owner in folders if owners is not None else ():
        if owners is not None and owner not in owners:
            what = f"this folder belongs to uid {owner}, and its owner may change it at any time"
            return SteadError(what, shown(way), "name that user in the rule's `owners`, if its files may go", code="files.owner")
    return None


def _enter(folder: int, part: bytes, way: bytes) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK_ERRORS:
            fix = "name the folder that the link leads to in the rule"
            raise SteadError("a folder on the way is a symbolic link", shown(way), fix, code="files.link") from error
        raise
