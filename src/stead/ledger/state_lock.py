"""One agent for one state: a lock on `agent.lock`, held as long as the process lives and let go by the system if it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stead.ledger.errors import as_stead_error
from stead.model.errors import SteadError


class StateLock:
    """The lock on a state directory. Workers that the agent starts don't inherit it: its descriptor closes on exec."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    @classmethod
    def take(cls, directory: Path) -> StateLock:
        """Take it, or say who has it. SteadError `state.in-use`, or that the directory can't be written."""
        path = directory / "agent.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_stead_error(error, directory) from error
        try:
            _lock(fd)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() if hasattr(os, "pread") else ""
            os.close(fd)
            who = f" (pid {holder})" if holder else ""
            raise SteadError(
                f"another stead agent{who} is running on this state",
                str(directory),
                "use that one, stop it first, or give this one a state of its own with --state",
                code="state.in-use",
            ) from error
        try:
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(fd)
            raise as_stead_error(error, directory) from error
        return cls(fd)

    def release(self) -> None:
        """Let it go; the file stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _lock(fd: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
