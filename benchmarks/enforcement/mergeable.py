"""What the kernel could merge: every page that was opted in for it, read and compared, as a reference that owes KSM nothing."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure import PAGE_BYTES

_PRESENT: Final = 1 << 63  # docs.kernel.org, admin-guide/mm/pagemap
_OF_FILE: Final = 1 << 61  # a page of a file, or shared memory: KSM takes anonymous ones only
_FRAME: Final = (1 << 55) - 1
_CHUNK_PAGES: Final = 256
KSM: Final = Path("/sys/kernel/mm/ksm")


class Pages(NamedTuple):
    """Pages of some processes: opted in and present, how many of them could be spared, and how many are."""

    opted_in: int
    spare: int
    spared: int


def mergeable(pids: Iterable[int]) -> Pages:
    """Compare every page, and see which are one page of the machine already. OSError without CAP_SYS_ADMIN, or when one is gone.

    The kernel lets at most max_page_sharing pages be one, so of n equal ones it keeps n / that many.
    """
    limit = int((KSM / "max_page_sharing").read_text())
    copies: Counter[int] = Counter()
    frames: set[int] = set()
    empty = zero_frame()
    for pid in pids:
        for digest, frame in digests(pid, empty):
            copies[digest] += 1
            frames.add(frame)
    spare = sum(count - -(-count // limit) for count in copies.values() if count > 1)
    return Pages(copies.total(), spare, copies.total() - len(frames))


def digests(pid: int, empty: int) -> Iterator[tuple[int, int]]:
    """Of each anonymous page of a process in the mappings that were opted in: a hash, and the frame of memory that holds it.

    Pages that were only ever read are the kernel's `empty` one, and no use to merge.
    """
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for start, end in opted_in(pid):
            first, count = start // PAGE_BYTES, (end - start) // PAGE_BYTES
            entries = struct.unpack(f"<{count}Q", os.pread(pagemap.fileno(), count * 8, first * 8))
            taken = [
                i for i, entry in enumerate(entries) if entry & _PRESENT and not entry & _OF_FILE and entry & _FRAME != empty
            ]
            for run_start, run_length in stretches(taken):
                data = os.pread(memory.fileno(), run_length * PAGE_BYTES, start + run_start * PAGE_BYTES)
                for index in range(run_length):
                    yield hash(data[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]), entries[run_start + index] & _FRAME


def zero_frame() -> int:
    """The frame that all pages share which were read and never written. OSError without CAP_SYS_ADMIN."""
    with mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as fresh:
        assert fresh[0] == 0
        held = ctypes.c_char.from_buffer(fresh)
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            (entry,) = struct.unpack("<Q", os.pread(pagemap.fileno(), 8, ctypes.addressof(held) // PAGE_BYTES * 8))
        del held
    if not entry & _FRAME:
        raise PermissionError("frames of memory are told with CAP_SYS_ADMIN only")
    return int(entry & _FRAME)


def opted_in(pid: int) -> Iterator[tuple[int, int]]:
    """The mappings with the flag `mg`, from and to which address."""
    span = (0, 0)
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = line.split(" ", 1)[0]
        if "-" in head and not head.endswith(":"):
            low, _, high = head.partition("-")
            span = (int(low, 16), int(high, 16))
        elif line.startswith("VmFlags:") and "mg" in line.split():
            yield span


def stretches(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring indices as (first, length), none longer than a chunk."""
    begun = 0
    for at in range(1, len(indices) + 1):
        if at == len(indices) or indices[at] != indices[at - 1] + 1 or at - begun == _CHUNK_PAGES:
            yield indices[begun], at - begun
            begun = at
