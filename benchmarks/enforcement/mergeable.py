"""What the kernel could merge: every page that was opted in for it, read and compared, as a reference that owes KSM nothing."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure import PAGE_BYTES

_PRESENT: Final = 1 << 63  # docs.kernel.org, admin-guide/mm/pagemap
_OF_FILE: Final = 1 << 61  # a page of a file, or shared memory: KSM takes anonymous ones only
_CHUNK_PAGES: Final = 256
KSM: Final = Path("/sys/kernel/mm/ksm")


class Pages(NamedTuple):
    """Pages of some processes: opted in and present, and how many of them could be spared."""

    opted_in: int
    spare: int


def mergeable(pids: Iterable[int]) -> Pages:
    """Compare every page. The kernel lets at most max_page_sharing pages be one, so of n equal ones it keeps n / that many."""
    limit = int((KSM / "max_page_sharing").read_text())
    copies = Counter(digest for pid in pids for digest in digests(pid))
    return Pages(copies.total(), sum(count - -(-count // limit) for count in copies.values() if count > 1))


def digests(pid: int) -> Iterator[int]:
    """A hash of each anonymous page of a process in the mappings that were opted in. Raises OSError when it is gone."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for start, end in opted_in(pid):
            first, count = start // PAGE_BYTES, (end - start) // PAGE_BYTES
            entries = struct.unpack(f"<{count}Q", os.pread(pagemap.fileno(), count * 8, first * 8))
            taken = [index for index, entry in enumerate(entries) if entry & _PRESENT and not entry & _OF_FILE]
            for run_start, run_length in stretches(taken):
                data = os.pread(memory.fileno(), run_length * PAGE_BYTES, start + run_start * PAGE_BYTES)
                yield from (hash(data[at : at + PAGE_BYTES]) for at in range(0, len(data), PAGE_BYTES))


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
