"""Compress a file in place, and put the plain one back: each step leaves both forms or either, never neither.

The compressed form has no name until it was read back and compared by hash (O_TMPFILE): a crash leaves nothing of it. Then it
is named `<name>.gz` beside the plain one, which is taken by a rename, looked at once more (was it written? does a process have it
open?), and removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from stead.files import gz
from stead.files.openers import opener
from stead.files.paths import shown
from stead.files.quarantine import drop, grab, in_use, is_it, make_sure, put_back, settle, unlink_counted
from stead.files.rename import rename
from stead.files.way import Way, open_in, stat_in
from stead.model.errors import SteadError
from stead.protocols import Note

SUFFIX: Final = b".gz"
ROOM: Final = 1 << 20  # that is left free whatever happens
PLAIN: Final = b".plain"  # in quarantine: the plain form of one that is being compressed
OLD: Final = b".gz"  # in quarantine: the compressed form of one that was put back
_SLACK: Final = 4096


def packed_in(way: Way, identity: Mapping[str, str]) -> bool:
    """Does the compressed form of this very file, made by stead, stand where it belongs?"""
    try:
        descriptor = open_in(way.folder, way.name + SUFFIX)
    except OSError:
        return False
    try:
        return _is_of(descriptor, identity)
    finally:
        os.close(descriptor)


def pack(way: Way, quarantine: int, key: bytes, identity: dict[str, str], note: Note, stop: gz.Stop) -> None:
    """Make the compressed form the only one.

    Raises SteadError or OSError: then it is as it was, or both forms are there, and a second call or `unpack` goes on.
    """
    descriptor = open_in(way.folder, way.name)
    try:
        who = opener(descriptor)
        if who:
            raise in_use(shown(way.name), who)
        if not is_it(os.fstat(descriptor), identity):
            raise SteadError("it was changed since", shown(way.name), "it is looked at again later", code="files.changed")
        drop(quarantine, key + OLD)
        if packed_in(way, identity):  # an interrupted one, or one that somebody else made: only what was just read back counts
            _remove_packed(way, quarantine, key, identity, note)
        _make(way, descriptor, identity, note, stop)
        try:
            grab(way, quarantine, key + PLAIN, identity, note)
            make_sure(way, quarantine, key + PLAIN, descriptor, identity, note)
        except BaseException:
            _remove_packed(way, quarantine, key, identity, note)  # the plain one goes on, so this is a copy of what was
            raise
        settle(quarantine, way.folder)
        unlink_counted(quarantine, key + PLAIN, os.fstat(descriptor).st_blocks * 512, note)
    finally:
        os.close(descriptor)


def _make(way: Way, plain: int, identity: dict[str, str], note: Note, stop: gz.Stop) -> None:
    """The compressed form, proved, beside the plain one."""
    size = os.fstat(plain).st_size
    with _unnamed(way) as made:
        told = gz.compress(plain, made, gz.described(plain, identity), lambda: stop() or need_room(way.folder, 0))
        packed = os.fstat(made).st_size
        if packed > gz.WORTH * size + _SLACK:
            what = f"it hardly gets smaller: {packed} of {size} bytes"
            raise SteadError(what, shown(way.name), "leave it out of the rule, by `never`", code="files.not-worth")
        os.fsync(made)
        gz.expand(made, None, stop)
        gz.dress(made, told)
        _name(way, made, way.name + SUFFIX)
    name = shown(way.name + SUFFIX)
    note(f"compress {shown(way.name)} → {name}: {size} to {packed} bytes, read back with sha256 {told.sha256}")


@contextlib.contextmanager
def _unnamed(way: Way) -> Iterator[int]:
    """A file without a name on a way's file system: it is gone unless it is given one."""
    try:
        made = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=way.folder)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):
            what = "this file system has no files without a name, which a safe compression needs"
            raise SteadError(what, shown(way.name), "leave this mount out of the rules", code="files.unsupported") from error
        raise
    try:
        yield made
    finally:
        os.close(made)


def _name(way: Way, made: int, name: bytes) -> None:
    """Give it its name, durably; what has that name already is not replaced."""
    os.fsync(made)
    try:
        os.link(f"/proc/self/fd/{made}", name, dst_dir_fd=way.folder, follow_symlinks=True)  # linkat(2), AT_SYMLINK_FOLLOW
    except FileExistsError as error:
        what = "there is a file of that name already"
        raise SteadError(what, shown(name), "move it away, or leave both as they are", code="files.taken") from error
    settle(way.folder)


def unpack(way: Way, quarantine: int, key: bytes, identity: dict[str, str], note: Note, stop: gz.Stop) -> None:
    """Put the plain form back as it was, then remove the compressed one. A second call goes on where one was interrupted."""
    if not is_it(way.stat(), identity):
        if is_it(stat_in(quarantine, key + PLAIN), identity):
            put_back(way, quarantine, key + PLAIN, note)
            settle(way.folder, quarantine)
        else:
            _expand(way, identity, note, stop)
    drop(quarantine, key + OLD)
    if packed_in(way, identity):
        _remove_packed(way, quarantine, key, identity, note)


def _expand(way: Way, identity: Mapping[str, str], note: Note, stop: gz.Stop) -> None:
    source = open_in(way.folder, way.name + SUFFIX)
    try:
        plain = _trusted(source, identity, shown(way.name + SUFFIX))
        need_room(way.folder, plain.size)
        with _unnamed(way) as made:
            gz.expand(source, made, stop)
            gz.dress(made, plain)
            _name(way, made, way.name)
    finally:
        os.close(source)
    note(f"expand {shown(way.name + SUFFIX)} → {shown(way.name)}: {plain.size} bytes with sha256 {plain.sha256}")


def _trusted(source: int, identity: Mapping[str, str], name: str) -> gz.Plain:
    """What the plain form is to be: no more than the compressed file itself is. SteadError when the two differ.

    Whoever owns it can write into its head what he likes: another owner, a set-user-ID bit, capabilities.
    """
    found = gz.read_head(source)
    if found is None or found[0].identity != dict(identity) or str(found[0].size) != identity.get("bytes"):
        raise SteadError("this is not what stead made of it", name, "look at it yourself", code="files.changed")
    told, own = found[0], gz.described(source, dict(identity))
    if (told.mode, told.uid, told.gid) != (own.mode, own.uid, own.gid):
        what = f"it has another owner or mode than stead gave it: {own.uid}:{own.gid} {own.mode:04o}"
        fix = f"give it {told.uid}:{told.gid} {told.mode:04o} again if that is right, or unpack it with gunzip"
        raise SteadError(what, name, fix, code="files.changed")
    return msgspec.structs.replace(told, xattrs=own.xattrs)


def _remove_packed(way: Way, quarantine: int, key: bytes, identity: dict[str, str], note: Note) -> None:
    """Remove our compressed form; what was put in its place meanwhile stays."""
    rename(way.folder, way.name + SUFFIX, quarantine, key + OLD)
    descriptor = open_in(quarantine, key + OLD)
    try:
        ours = _is_of(descriptor, identity)
    finally:
        os.close(descriptor)
    if not ours:
        rename(quarantine, key + OLD, way.folder, way.name + SUFFIX)
        raise SteadError("it was exchanged in this very moment", shown(way.name + SUFFIX), code="files.changed")
    os.unlink(key + OLD, dir_fd=quarantine)
    settle(way.folder, quarantine)
    note(f"unlink {shown(way.name + SUFFIX)}")


def _is_of(descriptor: int, identity: Mapping[str, str]) -> bool:
    found = gz.read_head(descriptor)
    return found is not None and found[0].identity == dict(identity)


def need_room(folder: int, size: int) -> bool:
    """Refuse by name what would fill the file system. OSError ENOSPC; False: there is room."""
    sizes = os.fstatvfs(folder)
    free = sizes.f_bavail * sizes.f_frsize
    if free < size + ROOM:
        raise OSError(errno.ENOSPC, f"{f'it needs {size} bytes' if size else 'it grows'} beside it, and only {free} are free")
    return False
