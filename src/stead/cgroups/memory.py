"""How much memory a control group holds, and how much of it the kernel could take back at once.

Sources: kernel cgroup-v2.rst (memory.current, memory.stat, memory.swap.max), cgroup-v1/memory.rst (usage_in_bytes, total_*).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, NamedTuple

from stead.cgroups.tree import Groups
from stead.host.procfs import page_bytes, read_meminfo
from stead.protocols import Host

PIECE_BYTES: Final = 16 << 20
_MAX: Final = b"max"
_UNLIMITED: Final = 1 << 60  # version 1 shows "no limit" as the largest multiple of a page


class GroupMemory(NamedTuple):
    """In bytes, of the group and all below it: what it holds, and of that what files back, and what only swap could."""

    size: int
    file: int  # page cache and slab that can be dropped or written back
    anonymous: int
    limit: int | None  # its own hard limit; None: it has none

    def reclaimable(self, swap_free: int) -> int:
        """What the kernel could take back without ending anything, given so much free swap."""
        return min(self.size, self.file + min(self.anonymous, swap_free))


def parse_flat(data: bytes) -> dict[bytes, int]:
    """The fields of a flat keyed file such as memory.stat and memory.events; what is no number is left out."""
    found: dict[bytes, int] = {}
    for line in data.splitlines():
        key, _, value = line.partition(b" ")
        if value.strip().isdigit():
            found[key] = int(value)
    return found


def memory_of(current: bytes, stat: bytes, limit: bytes) -> GroupMemory:
    """From the contents of a group's files, of either version. ValueError when they are torn."""
    return memory_in(int(current), parse_flat(stat), parse_limit(limit))


def parse_limit(limit: bytes) -> int | None:
    """A hard limit's file in bytes; None: there is none, or it says that there is none. ValueError when it is torn."""
    most = None if limit.strip() in (_MAX, b"") else int(limit)
    return None if most is None or most >= _UNLIMITED else most


def memory_in(size: int, fields: dict[bytes, int], limit: int | None = None) -> GroupMemory:
    """From what a group holds and the fields of its memory.stat, of either version."""
    total = b"total_" if b"total_rss" in fields else b""

    def field(name: bytes) -> int:
        return fields.get(total + name, 0)

    file = field(b"inactive_file") + field(b"active_file") + fields.get(b"slab_reclaimable", 0)
    anonymous = field(b"inactive_anon") + field(b"active_anon")
    return GroupMemory(size, file, anonymous, limit)


def read_memory(host: Host, groups: Groups, path: str) -> GroupMemory | None:
    """One group's memory as it is now. None where memory is not counted for groups, or the group is gone."""
    folder = groups.folder(path, "memory")
    if folder is None:
        return None
    names = V1_FILES if groups.kind("memory") == "v1" else V2_FILES
    try:
        current, stat = (host.read(f"{folder}/{name}", 1 << 16) for name in names[:2])
        return memory_of(current, stat, _read_or_nothing(host, f"{folder}/{names[2]}"))
    except (OSError, ValueError):
        return None


def hard_limit(host: Host, groups: Groups, path: str) -> int | None:
    """A group's own hard limit in bytes. None where it has none, where memory is not counted, or when it is gone."""
    folder = groups.folder(path, "memory")
    if folder is None:
        return None
    try:
        return parse_limit(_read_or_nothing(host, f"{folder}/{(V1_FILES if groups.kind('memory') == 'v1' else V2_FILES)[2]}"))
    except ValueError:
        return None


V1_FILES: Final = ("memory.usage_in_bytes", "memory.stat", "memory.limit_in_bytes")
V2_FILES: Final = ("memory.current", "memory.stat", "memory.max")


def swap_free(host: Host) -> int:
    """Free swap of the host in bytes; 0 when it has none, or does not say."""
    return read_meminfo(host).get("SwapFree", 0)


def working_set_bytes(host: Host, groups: Groups, path: str) -> int | None:
    """What a group uses less what could be reclaimed (its files in memory, and what swap has room for). None: unknown."""
    seen = read_memory(host, groups, path)
    return None if seen is None else seen.size - seen.reclaimable(swap_free(host))


async def take_back(host: Host, folder: str, size_bytes: int) -> None:
    """Have the kernel reclaim so many bytes of a group of version 2, as far as that is to be had.

    It is done at the caller's cost, a piece at a time: where a limit alone is lowered, whoever runs in the group does it next.
    """
    if host.inode(f"{folder}/memory.reclaim") is None:
        return  # a kernel before 5.19
    with contextlib.suppress(OSError):  # EAGAIN: there is no more to be had
        for left in range(size_bytes, page_bytes() - 1, -PIECE_BYTES):
            host.write(f"{folder}/memory.reclaim", str(min(left, PIECE_BYTES)).encode())
            await asyncio.sleep(0)


def _read_or_nothing(host: Host, path: str) -> bytes:
    """A file that the root group does not have."""
    try:
        return host.read(path, 64)
    except OSError:
        return b""
