"""One process as /proc/PID/stat tells it: what drivers and actuators need to know before they touch it."""

from __future__ import annotations

from typing import Final, NamedTuple

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
