"""Quarantine: a file is moved into a folder that only root can enter, on its own mount, and can be moved back as it was.

A rename changes neither contents nor owner, mode, times, attributes or inode, so the way back is exact, and neither way has a
middle: after a power cut the file is here or there. Beside it lies where it came from, for people without stead. Where the folder
is, `places` says.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from stead.files.openers import opener
from stead.files.paths import shown
from stead.files.places import GRANT
from stead.files.rename import rename
from stead.files.way import READ_ONLY, Way, open_in, stat_in
from stead.model.errors import SteadError
from stead.protocols import Note

ORIGIN: Final = b".json"
_ORPHAN_S: Final = 3600.0


class Origin(msgspec.Struct, frozen=True):
    """Where a quarantined file came from: what lies beside it."""

    path: str
    identity: dict[str, str]
    category: str
    bytes: int
    at_ms: int


def key_of(path: bytes, identity: Mapping[str, str]) -> bytes:
    """The name that this very file has in quarantine."""
    said = "\0".join(f"{name}={value}" for name, value in sorted(identity.items()))
    return hashlib.sha256(path + b"\0" + said.encode()).hexdigest()[:32].encode()


def is_it(file: os.stat_result | None, identity: Mapping[str, str]) -> bool:
    """Is this the file that is meant: the same inode (where that is known), size and time of its last change?"""
    if file is None or not stat.S_ISREG(file.st_mode):
        return False
    seen = {"inode": str(file.st_ino), "mtime_ns": str(file.st_mtime_ns), "bytes": str(file.st_size)}
    return {"mtime_ns", "bytes"} <= identity.keys() and all(seen.get(name) == value for name, value in identity.items())


def put(way: Way, quarantine: int, key: bytes, origin: Origin, note: Note) -> None:
    """Move a file into quarantine. SteadError when it is open or not the one that is meant; then it is where it was."""
    descriptor = open_in(way.folder, way.name)
    try:
        who = opener(descriptor)
        if who:
            raise in_use(shown(way.name), who)
        _write_origin(quarantine, key, origin)
        try:
            grab(way, quarantine, key, origin.identity, note)
            make_sure(way, quarantine, key, descriptor, origin.identity, note)
        except BaseException:
            if stat_in(quarantine, key) is None:
                drop(quarantine, key + ORIGIN)
            raise
    finally:
        os.close(descriptor)
    settle(quarantine, way.folder)


def give_back(way: Way, quarantine: int, key: bytes, note: Note) -> None:
    """Move a file back to where it was. SteadError when something else is there by now: that is never replaced."""
    put_back(way, quarantine, key, note)
    settle(way.folder, quarantine)
    drop(quarantine, key + ORIGIN)


def purge(quarantine: int, key: bytes, identity: Mapping[str, str], note: Note) -> None:
    """Remove a quarantined file for good, and say by how much the file system has more room. SteadError: it is open."""
    if not is_it(stat_in(quarantine, key), identity):
        raise SteadError("this is not what was moved here", shown(key), "look at it yourself", code="files.identity")
    descriptor = open_in(quarantine, key)
    try:
        who = opener(descriptor)
        used = os.fstat(descriptor).st_blocks * 512
    finally:
        os.close(descriptor)
    if who:
        raise in_use(shown(key), who)
    unlink_counted(quarantine, key, used, note)
    drop(quarantine, key + ORIGIN)
    drop_orphans(quarantine)


def items(quarantine: int) -> Iterator[tuple[bytes, Origin]]:
    """What is in an open quarantine: names and origins."""
    for name in sorted(os.listdir(quarantine)):
        if name.endswith(ORIGIN.decode()):
            key = os.fsencode(name)[: -len(ORIGIN)]
            origin = read_origin(quarantine, key)
            if origin is not None and is_it(stat_in(quarantine, key), origin.identity):
                yield key, origin


def grab(way: Way, quarantine: int, key: bytes, identity: Mapping[str, str], note: Note) -> None:
    """Take a file by one rename and look at what was taken; if it is not the one that is meant, it goes back at once."""
    try:
        rename(way.folder, way.name, quarantine, key)
    except OSError as error:
        raise _explained(error, way) from error
    note(f"rename {shown(way.name)} → quarantine/{key.decode()}")
    taken = stat_in(quarantine, key)
    if is_it(taken, identity) and taken is not None and taken.st_nlink == 1:
        return
    put_back(way, quarantine, key, note)
    what = "another file was put in its place, or it was changed, in this very moment"
    raise SteadError(what, shown(way.name), "it is where it was; it is looked at again later", code="files.changed")


def make_sure(way: Way, quarantine: int, key: bytes, plain: int, identity: Mapping[str, str], note: Note) -> None:
    """After a grab, when nobody finds it at its path any more. SteadError, and it is back, if it was opened or changed just then.

    `plain` is its descriptor, opened before. Who has it open is asked first: only then does its content stay as it is.
    """
    who = opener(plain)
    now, taken = os.fstat(plain), stat_in(quarantine, key)
    same = taken is not None and (taken.st_dev, taken.st_ino) == (now.st_dev, now.st_ino) and is_it(now, identity)
    if who or not same:
        put_back(way, quarantine, key, note)
        settle(way.folder, quarantine)
        raise in_use(shown(way.name), who or "somebody who changed it")


def put_back(way: Way, quarantine: int, key: bytes, note: Note) -> None:
    """The rename back, which replaces nothing."""
    try:
        rename(quarantine, key, way.folder, way.name)
    except FileExistsError as error:
        what = f"something else is at its path by now, so it stays in quarantine as {key.decode()}"
        raise SteadError(what, shown(way.name), "move one of the two by hand", code="files.taken") from error
    except OSError as error:
        raise _explained(error, way) from error
    note(f"rename quarantine/{key.decode()} → {shown(way.name)}")


def unlink_counted(folder: int, name: bytes, used: int, note: Note) -> None:
    """Remove a name, and say how much room the file system had before and has after."""
    before = os.fstatvfs(folder)
    os.unlink(name, dir_fd=folder)
    after = os.fstatvfs(folder)
    os.fsync(folder)
    freed = (after.f_bfree - before.f_bfree) * after.f_frsize
    note(f"unlink {shown(name)}: it held {used} bytes; the file system has {freed} more free, by statvfs")


def settle(*folders: int) -> None:
    """Make what was renamed outlive a power cut: the folder that gained the name first."""
    for folder in folders:
        os.fsync(folder)


def read_origin(quarantine: int, key: bytes) -> Origin | None:
    """What lies beside a quarantined file; None when that is missing or torn."""
    try:
        descriptor = open_in(quarantine, key + ORIGIN)
    except OSError:
        return None
    try:
        return msgspec.json.decode(os.read(descriptor, 1 << 16), type=Origin)
    except (msgspec.DecodeError, OSError):
        return None
    finally:
        os.close(descriptor)


def in_use(where: str, who: str) -> SteadError:
    """The refusal of an open file."""
    return SteadError(f"it is open: {who} has it", where, "it is looked at again later", code="files.open")


def drop_orphans(quarantine: int) -> None:
    """Remove what lies beside files that are no longer there: a crash may leave it."""
    for name in os.listdir(quarantine):
        file = stat_in(quarantine, os.fsencode(name))
        if name.endswith(ORIGIN.decode()) and file is not None:
            newest = os.fstat(quarantine).st_mtime
            if stat_in(quarantine, os.fsencode(name)[: -len(ORIGIN)]) is None and newest - file.st_mtime > _ORPHAN_S:
                drop(quarantine, os.fsencode(name))


def _write_origin(quarantine: int, key: bytes, origin: Origin) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(key + ORIGIN, flags, 0o600, dir_fd=quarantine)
    try:
        data = msgspec.json.encode(origin)
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except BaseException:
        drop(quarantine, key + ORIGIN)
        raise
    finally:
        os.close(descriptor)


def drop(folder: int, name: bytes) -> None:
    """Remove a name, if it is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _explained(error: OSError, way: Way) -> OSError | SteadError:
    where = shown(way.at + b"/" + way.name)
    if error.errno == errno.EXDEV:
        what = "it is on another mount than its quarantine, and a move would be a copy"
        return SteadError(what, where, GRANT, code="files.device")
    if error.errno == errno.EROFS:
        return SteadError(READ_ONLY, where, GRANT, code="files.read-only")
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        what = "this file system can't rename without replacing"
        return SteadError(what, where, "leave this mount out of the rules", code="files.unsupported")
    return error
