"""A compressed file that says what it was: gzip (RFC 1952) whose extra field holds owner, mode, times, attributes and hash.

`gunzip` and `zcat` read it like any other. What is needed to put the plain file back exactly travels with it, so nothing has to
be remembered elsewhere. Compression runs in pieces and can be stopped between them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from stead.model.errors import SteadError

LEVEL: Final = 6
WORTH: Final = 0.9  # of the plain size: what stays larger is left as it was
PIECE: Final = 1 << 20
SAMPLE: Final = 1 << 15
HEAD_MAX: Final = 1 << 17
_FIXED: Final = struct.Struct("<BBBBIBBH")  # ID1 ID2 CM FLG MTIME XFL OS XLEN (RFC 1952, 2.3)
_SUBFIELD: Final = b"sd"
_FEXTRA: Final = 4
_UNIX: Final = 3
_XLEN_MAX: Final = 65_535

Stop = Callable[[], bool]


class Plain(msgspec.Struct, frozen=True):
    """What a compressed file was. Times are nanoseconds since 1970; attributes are name → value."""

    identity: dict[str, str]
    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    size: int
    sha256: str
    xattrs: dict[str, bytes] = {}


def described(fd: int, identity: dict[str, str]) -> Plain:
    """What the plain file of this descriptor is; its hash is not known yet."""
    file = os.fstat(fd)
    attributes = {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    mode = file.st_mode & 0o7777
    return Plain(identity, mode, file.st_uid, file.st_gid, file.st_atime_ns, file.st_mtime_ns, file.st_size, "0" * 64, attributes)


def dress(fd: int, plain: Plain) -> None:
    """Give a file the owner, mode, attributes and times of the plain one. Raises OSError when one can't be given."""
    os.fchown(fd, plain.uid, plain.gid)
    os.fchmod(fd, plain.mode)
    for name, value in plain.xattrs.items():
        os.setxattr(fd, name, value)
    os.utime(fd, ns=(plain.atime_ns, plain.mtime_ns))


def compress(source: int, target: int, plain: Plain, stop: Stop) -> Plain:
    """Write the compressed form of one open file into another, and return what it was, with its hash. Raises InterruptedError."""
    head = _head(plain)
    _write(target, head)
    digest, crc, size, deflate = hashlib.sha256(), 0, 0, zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    for piece in _pieces(source, stop):
        digest.update(piece)
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        _write(target, deflate.compress(piece))
    _write(target, deflate.flush() + struct.pack("<II", crc, size & 0xFFFFFFFF))
    whole = msgspec.structs.replace(plain, sha256=digest.hexdigest())
    os.pwrite(target, _head(whole), 0)
    return whole


def promising(fd: int) -> bool:
    """Does a file look as if compressing it were worth it? Judged by three short pieces of it."""
    size = os.fstat(fd).st_size
    pieces = [os.pread(fd, SAMPLE, at) for at in (0, max(0, size // 2 - SAMPLE), max(0, size - SAMPLE))]
    return sum(len(zlib.compress(one, 1)) for one in pieces) < WORTH * sum(map(len, pieces))


def read_head(fd: int) -> tuple[Plain, int] | None:
    """What a compressed file was, and where its data begins; None when stead did not write it."""
    data = os.pread(fd, HEAD_MAX, 0)
    if len(data) < _FIXED.size + 4:
        return None
    one, two, method, flags, _, _, _, extra = _FIXED.unpack_from(data)
    subfield = data[_FIXED.size : _FIXED.size + 2]
    if (one, two, method, flags, subfield) != (0x1F, 0x8B, 8, _FEXTRA, _SUBFIELD) or len(data) < _FIXED.size + extra:
        return None
    try:
        return msgspec.msgpack.decode(data[_FIXED.size + 4 : _FIXED.size + extra], type=Plain), _FIXED.size + extra
    except msgspec.DecodeError:
        return None


def expand(source: int, target: int | None, stop: Stop) -> Plain:
    """Write the plain form into `target` (None: only check), and compare its hash. SteadError when it is not what it was.

    No more is written than what its head says that it was: who made it may not have been stead.
    """
    found = read_head(source)
    if found is None:
        raise SteadError("this was not compressed by stead", "", "", code="files.gz")
    plain, start = found
    digest, size = hashlib.sha256(), 0
    os.lseek(source, start, os.SEEK_SET)
    try:
        for piece in _inflated(source, stop):
            digest.update(piece)
            size += len(piece)
            if size > plain.size:
                break
            if target is not None:
                _write(target, piece)
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if size != plain.size or digest.hexdigest() != plain.sha256:
        raise _damaged("its size or hash differs")
    return plain


def _inflated(source: int, stop: Stop) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    for piece in _pieces(source, stop, rewind=False):
        while piece and not inflate.eof:
            yield inflate.decompress(piece, PIECE)
            piece = inflate.unconsumed_tail


def _damaged(why: str) -> SteadError:
    return SteadError(f"the compressed file is damaged: {why}", "", "restore it from a back-up", code="files.gz")


def _head(plain: Plain) -> bytes:
    told = msgspec.msgpack.encode(plain)
    if len(told) + 4 > _XLEN_MAX:
        raise SteadError("its extended attributes are too large to be kept with it", "", "leave it as it is", code="files.gz")
    extra = _SUBFIELD + struct.pack("<H", len(told)) + told
    return _FIXED.pack(0x1F, 0x8B, 8, _FEXTRA, plain.mtime_ns // 10**9 & 0xFFFFFFFF, 0, _UNIX, len(extra)) + extra


def _pieces(fd: int, stop: Stop, *, rewind: bool = True) -> Iterator[bytes]:
    if rewind:
        os.lseek(fd, 0, os.SEEK_SET)
    while piece := os.read(fd, PIECE):
        if stop():
            raise InterruptedError(errno.EINTR, "it was stopped")
        yield piece


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
