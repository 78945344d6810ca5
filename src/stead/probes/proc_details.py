"""What is told of the few processes that anybody looks at: their command with its secrets taken out, owner and descriptors."""

from __future__ import annotations

from typing import Final

from stead.host import redact
from stead.host.procfs import page_bytes
from stead.model.observe import Now, ProcessUse
from stead.probes.proc_table import Task
from stead.protocols import Host

_FRESH_MS: Final = 30_000
_MOST_CHARACTERS: Final = 200


def command_line(data: bytes, name: str) -> str:
    """Render /proc/PID/cmdline, redacted, printable and short. A kernel's thread has none and reads "[name]"."""
    arguments = data.rstrip(b"\0").decode("utf-8", "replace").split("\0")
    if arguments == [""]:
        return f"[{name}]"
    return printable(redact(arguments))[:_MOST_CHARACTERS]


def printable(text: str) -> str:
    """Replace what a terminal would obey: a process chooses its own name and arguments."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def parse_uid(status: str) -> int:
    """Find the effective uid in /proc/PID/status; -1 when it isn't there."""
    for line in status.splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return -1


class Details:
    """Reads them for one task, at most each 30 seconds and when it became another program."""

    def __init__(self) -> None:
        self._page_bytes = page_bytes()

    def use(self, host: Host, task: Task, now: Now) -> ProcessUse:
        """Make the value that is shown of a process."""
        self._refresh(host, task, now)
        return ProcessUse(
            pid=task.pid,
            start_ticks=task.start_ticks,
            name=printable(task.name),
            command=task.command,
            uid=task.uid,
            cpu_cores=task.cores,
            rss_bytes=task.rss_pages * self._page_bytes,
            io_bytes_per_s=task.io_bytes_per_s,
            threads=task.threads,
            descriptors=task.descriptors,
            state=task.state,
        )

    def words(self, host: Host, task: Task, now: Now) -> str:
        """Name a process for people: "sh: sh -c while :; do :; done"."""
        self._refresh(host, task, now)
        return f"{printable(task.name)}: {task.command}"

    def _refresh(self, host: Host, task: Task, now: Now) -> None:
        if task.details_ms is not None and now.mono_ms - task.details_ms < _FRESH_MS:
            return
        task.details_ms = now.mono_ms
        task.command = task.command or f"[{task.name}]"
        try:
            task.command = command_line(host.read(f"/proc/{task.pid}/cmdline", 4096), task.name)
            task.uid = parse_uid(host.read(f"/proc/{task.pid}/status", 8192).decode("utf-8", "replace"))
            task.descriptors = len(host.list(f"/proc/{task.pid}/fd"))
        except OSError:  # gone, or not ours to see
            task.descriptors = None
