"""This machine, through one door: every path under a root directory, every command as an argv list with limits.

Imports stay light, because they are resident on every host: psutil, ctypes and asyncio come in on first use.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from stead.host.scheduler import LinuxScheduler

if TYPE_CHECKING:
    from stead.protocols import Completed, Host, KeptFile, Scheduler, SignalName

_CHUNK: Final = 1 << 16
_GONE_STATES: Final = ("Z", "X", "x")


class Kept:
    """A file read whole, again and again, by one descriptor: pread from 0 until the end, at most `limit` bytes."""

    __slots__ = ("fd", "limit")

    def __init__(self, fd: int, limit: int = 1 << 20) -> None:
        self.fd = fd
        self.limit = limit

    def read(self) -> bytes:
        """Read from the start. /proc hands out a page at a time, so it is read until it has no more. Raises OSError."""
        data = os.pread(self.fd, _CHUNK, 0)
        if not data:
            return data
        parts, size = [data], len(data)
        while size < self.limit:
            data = os.pread(self.fd, _CHUNK, size)
            if not data:
                break
            parts.append(data)
            size += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the descriptor; closing twice does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class KeptOnce:
    """A small file read by one system call. `read` is the bound C function itself: there may be thousands a second."""

    __slots__ = ("fd", "read")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.read: Callable[[], bytes] = functools.partial(os.pread, fd, size, 0)

    def close(self) -> None:
        """Close the descriptor; closing twice does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.read = functools.partial(os.pread, -1, 1, 0)  # the number may soon be another file's


class LocalHost:
    """protocols.Host on the running system. Paths are absolute and taken under `root` (for chroots and tests)."""

    def __init__(self, root: str | Path = "/") -> None:
        self.root = Path(root)
        self._prefix = "" if str(self.root) == "/" else str(self.root)
        self.system: Literal["linux", "darwin", "windows"] = _system()
        self.name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "localhost")
        self.boot_id = self._read_boot_id()
        self.scheduler: Scheduler = LinuxScheduler(self) if self.system == "linux" else _psutil_scheduler(self)

    @property
    def psutil(self) -> Any:
        """The psutil module, imported on first use. Raises ImportError where it isn't installed (Linux needs none)."""
        import psutil

        return psutil

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """Read a file's first `limit` bytes. Raises OSError."""
        fd = os.open(self._under_root(path), os.O_RDONLY)
        try:
            parts = []
            while limit > 0 and (data := os.read(fd, min(limit, _CHUNK))):
                parts.append(data)
                limit -= len(data)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            os.close(fd)

    def keep(self, path: str, once: int = 0) -> KeptFile:
        """Open a file to be read again and again. `once` > 0: by one call of at most so many bytes. Raises OSError."""
        fd = os.open(self._under_root(path), os.O_RDONLY)
        return KeptOnce(fd, once) if once else Kept(fd)

    def list(self, path: str) -> list[str]:
        """List the names in a directory. Raises OSError."""
        return os.listdir(self._under_root(path))  # noqa: PTH208 (names, and without a Path for each)

    def write(self, path: str, data: bytes) -> None:
        """Write an existing file (a knob of /proc or /sys takes its value in one write). Raises OSError."""
        fd = os.open(self._under_root(path), os.O_WRONLY | os.O_TRUNC)
        try:
            written = os.write(fd, data)
            if written != len(data):
                raise OSError(f"{path}: {written} of {len(data)} bytes written")
        finally:
            os.close(fd)

    def note(self, operation: str) -> None:
        """Something was changed by other means. Kept where a write is recorded (`operations.NotedHost`), and nowhere else."""

    def statvfs(self, path: str) -> Any:
        """Ask a file system for its sizes. Raises OSError; may hang on a dead network mount."""
        if not hasattr(os, "statvfs"):
            raise OSError("this system has no statvfs")
        return os.statvfs(self._under_root(path))

    def start_ticks(self, pid: int) -> int | None:
        """Read when a process started (clock ticks since boot): with pid and boot id, its identity. None: gone, or a zombie."""
        if self.system != "linux":
            return self._start_ticks_elsewhere(pid)
        try:
            stat = self.read(f"/proc/{pid}/stat", 4096).decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        return None if len(fields) < 20 or fields[0] in _GONE_STATES else int(fields[19])

    def inode(self, path: str) -> int | None:
        """Read the inode number of a file or directory, following no link at its end. None when nothing is there, or unseen."""
        try:
            return os.lstat(self._under_root(path)).st_ino
        except OSError:
            return None

    def make_folder(self, path: str) -> None:
        """Make one directory (a control group is made so), for its owner to write and all to read. Raises OSError."""
        os.mkdir(self._under_root(path), 0o755)  # noqa: PTH102 (errors as the kernel has them)

    def remove_folder(self, path: str) -> None:
        """Remove one empty directory; a control group may still show its files. Raises OSError."""
        os.rmdir(self._under_root(path))  # noqa: PTH106

    def place(self, path: str, data: bytes) -> None:
        """Make a small file, or replace it, in one go: readable by all, never seen half-written. Raises OSError."""
        whole = self._under_root(path)
        fd = os.open(f"{whole}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.replace(f"{whole}.new", whole)  # noqa: PTH105

    def remove(self, path: str) -> None:
        """Remove one file; none there is no error. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._under_root(path))  # noqa: PTH108

    def signal(self, pid: int, start_ticks: int, name: SignalName) -> None:
        """Send a signal to that very process. ProcessLookupError when it is gone, PermissionError when the system refuses."""
        from stead.host.signals import send

        send(self, pid, start_ticks, name)

    async def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed:
        """Run a command in its own process group, without a shell; past `timeout_s` the whole group is killed (rc None).

        Each of stdout and stderr is kept up to `limit` bytes. Raises OSError when the program can't be started.
        """
        from stead.host.command import run

        return await run(argv, timeout_s, stdin, limit)

    def _under_root(self, path: str) -> str:
        if not path.startswith("/") and self.system != "windows":
            raise ValueError(f"{path!r} is not an absolute path")
        if self._prefix and ".." in path.split("/"):
            raise ValueError(f"{path!r} leads out of the root {self._prefix}")
        return self._prefix + path

    def _read_boot_id(self) -> str:
        if self.system != "linux":
            return f"boot-{int(self.psutil.boot_time())}"
        try:
            return self.read("/proc/sys/kernel/random/boot_id", 64).decode("ascii", "replace").strip()
        except OSError:
            return "unknown"

    def _start_ticks_elsewhere(self, pid: int) -> int | None:
        psutil = self.psutil
        try:
            process = psutil.Process(pid)
            return None if process.status() == "zombie" else int(process.create_time() * 100)
        except psutil.NoSuchProcess:
            return None


def _psutil_scheduler(host: Host) -> Scheduler:
    from stead.host.psutil_scheduler import PsutilScheduler  # only where it is needed

    return PsutilScheduler(host)


def person_name(uid: int) -> str:
    """Name a uid as people know it; a uid that the system has no name for reads "uid:1000"."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"uid:{uid}"


def _system() -> Literal["linux", "darwin", "windows"]:
    if sys.platform == "win32":
        return "windows"
    return "darwin" if sys.platform == "darwin" else "linux"
