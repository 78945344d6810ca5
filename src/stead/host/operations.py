"""The door to the system for one write: all that is changed through it is noted, call by call, as it was really made.

An actuator is handed this in place of its host. What it changes through something else (a driver, a file of stead's own)
is told by whoever does it, through `note`. Secrets are taken out of command lines, and of what is written into files only
size and hash are kept; a knob under /proc or /sys is told with its value.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from stead.host.redaction import redact
from stead.protocols import Completed, Host, KeptFile, Lever, Note, Scheduler, SignalName

OPERATIONS_MAX: Final = 64
TEXT_MAX: Final = 300
KNOB_MAX: Final = 64


class NotedHost:
    """protocols.Host, with `operations`: what was changed through it since it was made, until `close`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._notes: list[str] = []
        self._left_out = 0
        self._open = True
        self.system: Literal["linux", "darwin", "windows"] = host.system
        self.name, self.boot_id = host.name, host.boot_id
        self.root: Path = host.root
        self.scheduler: Scheduler = NotedScheduler(host.scheduler, self.note)

    @property
    def operations(self) -> tuple[str, ...]:
        """What was done, in order; past a bound only how many more there were."""
        more = (f"and {self._left_out} more",) if self._left_out else ()
        return (*self._notes, *more)

    def note(self, operation: str) -> None:
        """Keep one operation. Nothing is kept once the write has ended."""
        if not self._open:
            return
        if len(self._notes) < OPERATIONS_MAX:
            self._notes.append(operation if len(operation) <= TEXT_MAX else operation[: TEXT_MAX - 1] + "…")
        else:
            self._left_out += 1

    def close(self) -> None:
        """The write has ended: what comes now belongs to nobody."""
        self._open = False

    @property
    def psutil(self) -> Any:
        """The module. What is changed by it can't be seen from here, and that is noted."""
        text = "used psutil, whose calls are not noted one by one"
        if text not in self._notes:
            self.note(text)
        return self._host.psutil

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """See protocols.Host."""
        return self._host.read(path, limit)

    def keep(self, path: str, once: int = 0) -> KeptFile:
        """See protocols.Host."""
        return self._host.keep(path, once)

    def list(self, path: str) -> list[str]:
        """See protocols.Host."""
        return self._host.list(path)

    def statvfs(self, path: str) -> Any:
        """See protocols.Host."""
        return self._host.statvfs(path)

    def start_ticks(self, pid: int) -> int | None:
        """See protocols.Host."""
        return self._host.start_ticks(pid)

    def inode(self, path: str) -> int | None:
        """See protocols.Host."""
        return self._host.inode(path)

    def make_folder(self, path: str) -> None:
        """See protocols.Host."""
        with noted(self.note, f"mkdir {path}"):
            self._host.make_folder(path)

    def remove_folder(self, path: str) -> None:
        """See protocols.Host."""
        with noted(self.note, f"rmdir {path}"):
            self._host.remove_folder(path)

    def place(self, path: str, data: bytes) -> None:
        """See protocols.Host. Noted with size and hash."""
        with noted(self.note, write_words(path, data)):
            self._host.place(path, data)

    def remove(self, path: str) -> None:
        """See protocols.Host."""
        with noted(self.note, f"remove {path}"):
            self._host.remove(path)

    def signal(self, pid: int, start_ticks: int, name: SignalName) -> None:
        """See protocols.Host."""
        with noted(self.note, f"signal(process {pid}, {name})"):
            self._host.signal(pid, start_ticks, name)

    def write(self, path: str, data: bytes) -> None:
        """See protocols.Host. Noted with the value of a knob, else with size and hash."""
        with noted(self.note, write_words(path, data)):
            self._host.write(path, data)

    async def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed:
        """See protocols.Host. Noted with its exit status; a command that only reads is noted too, as nobody can tell."""
        words = f"run {redact(argv)}" + (f" with {_digest(stdin)} as input" if stdin else "")
        try:
            completed = await self._host.run(argv, timeout_s, stdin, limit)
        except BaseException as error:
            self.note(f"{words}: {failure(error)}")
            raise
        self.note(f"{words}: killed after {timeout_s:g} s" if completed.rc is None else f"{words}: exit {completed.rc}")
        return completed


class NotedScheduler:
    """protocols.Scheduler, every setting of which is noted."""

    def __init__(self, scheduler: Scheduler, note: Note) -> None:
        self._scheduler, self._note = scheduler, note

    def nice(self, pid: int) -> int:
        """See protocols.Scheduler."""
        return self._scheduler.nice(pid)

    def set_nice(self, pid: int, nice: int) -> None:
        """See protocols.Scheduler."""
        with noted(self._note, f"setpriority(process {pid}, {nice})"):
            self._scheduler.set_nice(pid, nice)

    def policy(self, pid: int) -> tuple[str, int]:
        """See protocols.Scheduler."""
        return self._scheduler.policy(pid)

    def set_policy(self, pid: int, policy: str, priority: int) -> None:
        """See protocols.Scheduler."""
        with noted(self._note, f"sched_setscheduler(process {pid}, {policy}, {priority})"):
            self._scheduler.set_policy(pid, policy, priority)

    def affinity(self, pid: int) -> tuple[int, ...]:
        """See protocols.Scheduler."""
        return self._scheduler.affinity(pid)

    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None:
        """See protocols.Scheduler."""
        with noted(self._note, f"sched_setaffinity(process {pid}, {','.join(map(str, cpus))})"):
            self._scheduler.set_affinity(pid, cpus)

    def ionice(self, pid: int) -> tuple[str, int]:
        """See protocols.Scheduler."""
        return self._scheduler.ionice(pid)

    def set_ionice(self, pid: int, cls: str, level: int) -> None:
        """See protocols.Scheduler."""
        with noted(self._note, f"ioprio_set(process {pid}, {cls}, {level})"):
            self._scheduler.set_ionice(pid, cls, level)

    def autogroup(self, pid: int) -> int | None:
        """See protocols.Scheduler."""
        return self._scheduler.autogroup(pid)

    def set_autogroup(self, pid: int, nice: int) -> None:
        """See protocols.Scheduler."""
        with noted(self._note, write_words(f"/proc/{pid}/autogroup", str(nice).encode())):
            self._scheduler.set_autogroup(pid, nice)

    def uclamp(self, pid: int) -> tuple[int, int] | None:
        """See protocols.Scheduler."""
        return self._scheduler.uclamp(pid)

    def set_uclamp(self, pid: int, low: int | None, high: int | None) -> None:
        """See protocols.Scheduler."""
        with noted(self._note, f"sched_setattr(process {pid}, util_min {low}, util_max {high})"):
            self._scheduler.set_uclamp(pid, low, high)

    def lacks(self, lever: Lever) -> str:
        """See protocols.Scheduler."""
        return self._scheduler.lacks(lever)

    def rounded_nice(self, nice: int) -> int:
        """See protocols.Scheduler."""
        return self._scheduler.rounded_nice(nice)

    def rounded_ionice(self, cls: str, level: int) -> tuple[str, int]:
        """See protocols.Scheduler."""
        return self._scheduler.rounded_ionice(cls, level)

    def can_raise(self) -> bool:
        """See protocols.Scheduler."""
        return self._scheduler.can_raise()


@contextlib.contextmanager
def noted(note: Note, words: str) -> Iterator[None]:
    """Note a call once it has been made, and how it failed if it did."""
    try:
        yield
    except BaseException as error:
        note(f"{words}: {failure(error)}")
        raise
    note(words)


def write_words(path: str, data: bytes) -> str:
    """`write /proc/sys/vm/swappiness "10"`, `write /etc/x.conf 120 bytes sha256:…`: never the content of a file."""
    knob = path.startswith(("/proc/", "/sys/")) and len(data) <= KNOB_MAX
    text = data.decode("ascii", "replace").strip()
    return f'write {path} "{text}"' if knob and text.isascii() and text.isprintable() else f"write {path} {_digest(data)}"


def failure(error: BaseException) -> str:
    """How a call failed, in a word: the system's own name for it, else the exception's."""
    number = error.errno if isinstance(error, OSError) else None
    return errno.errorcode.get(number or 0, type(error).__name__)


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes sha256:{hashlib.sha256(data).hexdigest()}"
