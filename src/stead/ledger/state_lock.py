"""One agent for one state: a lock on `agent.lock`, held as long as the process lives and let go by the system if it dies.

The agent's lock is exclusive. Commands that read the state themselves, because no agent runs, share theirs: several may, and
an agent that starts meanwhile waits for them.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import Final

from stead.ledger.errors import as_stead_error
from stead.model.errors import SteadError

READERS_END_S: Final = 20.0
_LOOK_AGAIN_S: Final = 0.05
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


class StateLock:
    """The lock on a state directory. Workers that the agent starts don't inherit it: its descriptor closes on exec."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @classmethod
    def take(cls, directory: Path) -> StateLock:
        """Take it for an agent, or say who has it. SteadError `state.in-use`, or that the directory can't be written."""
        try:
            fd = _opened(directory)
        except OSError as error:
            raise as_stead_error(error, directory) from error
        try:
            _lock_when_read(fd)
        except OSError as error:
            raise _in_use(fd, directory) from error
        try:
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(fd)
            raise as_stead_error(error, directory) from error
        return cls(fd)

    @classmethod
    def share(cls, directory: Path) -> StateLock:
        """Keep agents away while the state is read, where that can be. SteadError `state.in-use`: an agent has it."""
        try:
            fd = _opened(directory)
        except OSError as error:
            if error.errno in _READ_ONLY:  # a backup on such a medium, say: no agent can have it either
                return cls(None)
            raise as_stead_error(error, directory) from error
        try:
            _lock(fd, shared=True)
        except OSError as error:
            raise _in_use(fd, directory) from error
        return cls(fd)

    def release(self) -> None:
        """Let it go; the file stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _opened(directory: Path) -> int:
    return os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _in_use(fd: int, directory: Path) -> SteadError:
    """Who has it; closes the descriptor."""
    holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() if hasattr(os, "pread") else ""
    os.close(fd)
    who = f" (pid {holder})" if holder else ""
    return SteadError(
        f"another stead agent{who} is running on this state",
        str(directory),
        "use that one, stop it first, or give this one a state of its own with --state",
        code="state.in-use",
    )


def _lock_when_read(fd: int) -> None:
    """Lock for an agent; while only readers have it, wait for them. Raises OSError when an agent has it."""
    until_s = time.monotonic() + READERS_END_S
    while True:
        try:
            return _lock(fd)
        except OSError:
            if sys.platform == "win32" or time.monotonic() >= until_s:
                raise
            _lock(fd, shared=True)  # fails when an agent has it
            time.sleep(_LOOK_AGAIN_S)


def _lock(fd: int, *, shared: bool = False) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
