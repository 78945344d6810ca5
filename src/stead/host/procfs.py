"""Files of /proc that more than one layer reads: a process as /proc/PID/stat tells it, the host's memory, escaped names."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from stead.protocols import Host

_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD of include/linux/sched.h, in the flags of /proc/PID/stat


class ProcessStat(NamedTuple):
    """The fields of proc(5) that are needed; `tty` is 0 without a controlling terminal, `rss_pages` are pages."""

    name: str
    state: str
    parent: int
    session: int
    tty: int
    flags: int
    start_ticks: int
    rss_pages: int

    @property
    def stopped(self) -> bool:
        """Stopped by a signal (T); a tracer's stop (t) is the tracer's own affair."""
        return self.state == "T"

    @property
    def of_kernel(self) -> bool:
        """A thread of the kernel."""
        return bool(self.flags & _KERNEL_THREAD)


def parse_stat(data: bytes) -> ProcessStat:
    """Parse /proc/PID/stat; the name in it may hold anything, also parentheses and newlines. ValueError, IndexError when torn."""
    head, _, rest = data.rpartition(b")")
    fields = rest.split(None, 22)
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    parent, session, tty, flags = int(fields[1]), int(fields[3]), int(fields[4]), int(fields[6])
    return ProcessStat(name, fields[0].decode(), parent, session, tty, flags, int(fields[19]), int(fields[21]))


def parse_meminfo(text: str) -> dict[str, int]:
    """Parse /proc/meminfo into bytes by name. ValueError when a number is none."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if fields:
            sizes[name] = int(fields[0]) * (1024 if len(fields) > 1 else 1)
    return sizes


def read_meminfo(host: Host) -> dict[str, int]:
    """The host's memory in bytes by name (proc_meminfo(5)); nothing where the system does not say."""
    try:
        return parse_meminfo(host.read("/proc/meminfo", 1 << 16).decode("ascii", "replace"))
    except (OSError, ValueError):
        return {}


def page_bytes() -> int:
    """The size of a page of this machine."""
    return os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def unescaped(field: str) -> str:
    """A field of a mount table, where spaces, tabs, newlines and backslashes are \\ooo (proc_pid_mountinfo(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
