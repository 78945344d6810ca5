"""Which processes opted in for same-page merging, and how much memory that is.

Of newer kernels /proc/PID/ksm_stat says so itself. Before, it is told by what ksmd has seen of a process, by the flag of its
first mapping (PR_SET_MEMORY_MERGE gives it to all), and of QEMU by its name: it opts its guests' memory in unless told otherwise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stead.protocols import Host

_QEMU: Final = ("qemu-", "kvm")
_KERNEL_THREADS: Final = "2"  # kthreadd: the parent of all of them


class Member(NamedTuple):
    """A process that opted in: at most so many bytes (its anonymous memory), and what merging saves in it (None: not told)."""

    subject: str
    bytes: int
    profit: float | None


def opted_in(host: Host, page: int) -> tuple[Member, ...]:
    """Every process that opted in, the largest first. Raises OSError when /proc can't be listed."""
    found = []
    for pid in host.list("/proc"):
        if not pid.isdigit():
            continue
        try:
            stat = parse_ksm_stat(host.read(f"/proc/{pid}/ksm_stat", 4096).decode("ascii", "replace"))
            if not asks(host, pid, stat):
                continue
            sizes = host.read(f"/proc/{pid}/statm", 256).split()
            ticks = host.start_ticks(int(pid))
        except (OSError, ValueError):
            continue  # ended, or not ours to see
        if ticks is None or len(sizes) < 3:
            continue
        profit = stat.get("ksm_process_profit")
        anonymous = max(int(sizes[1]) - int(sizes[2]), 0) * page
        found.append(Member(f"process:{pid}@{ticks}", anonymous, None if profit is None else float(profit)))
    return tuple(sorted(found, key=lambda one: (-one.bytes, one.subject)))


def parse_ksm_stat(text: str) -> dict[str, int]:
    """The lines of /proc/PID/ksm_stat: numbers, and yes and no as 1 and 0 ("ksm_merge_any: yes", "ksm_rmap_items 12")."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.replace(":", " ").split()
        if len(fields) == 2:
            found[fields[0]] = {"yes": 1, "no": 0}[fields[1]] if fields[1] in ("yes", "no") else int(fields[1])
    return found


def find_ksmd(host: Host) -> int | None:
    """The pid of the kernel's thread; None where it can't be seen (a container)."""
    for pid in sorted(int(name) for name in host.list("/proc") if name.isdigit()):
        try:
            if host.read(f"/proc/{pid}/comm", 64).strip() == b"ksmd" and _parent(host, pid) == _KERNEL_THREADS:
                return pid
        except OSError:
            continue
    return None


def asks(host: Host, pid: str, stat: dict[str, int]) -> bool:
    """Did this process opt in? `stat`: its ksm_stat, as parsed. Raises OSError when it is gone."""
    if "ksm_mergeable" in stat:
        return bool(stat["ksm_mergeable"] or stat.get("ksm_merge_any"))
    if not stat:
        return False  # a thread of the kernel
    if stat.get("ksm_rmap_items") or stat.get("ksm_merging_pages"):
        return True
    if host.read(f"/proc/{pid}/comm", 64).decode("utf-8", "replace").startswith(_QEMU):
        return True
    flags = [line for line in host.read(f"/proc/{pid}/smaps", 4096).splitlines() if line.startswith(b"VmFlags:")]
    return bool(flags) and b"mg" in flags[0].split()


def _parent(host: Host, pid: int) -> str:
    fields = host.read(f"/proc/{pid}/stat", 4096).decode("utf-8", "replace").rpartition(")")[2].split()
    return fields[1] if len(fields) > 1 else ""
