"""Runs one command with limits: no shell, its own process group, a timeout that kills the group, capped output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final, cast

from stead.protocols import Completed

SUPERVISION: Final = frozenset(("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))  # between the agent and its supervisor alone
_DRAIN_S: Final = 0.5  # after the command ended, for what is in its pipes: a daemon it left behind may hold them open for ever


class _Command(asyncio.SubprocessProtocol):
    """Keeps the first `limit` bytes of each pipe; the rest is read and dropped, so that the command never waits for us."""

    def __init__(self, limit: int) -> None:
        self.kept = {1: bytearray(), 2: bytearray()}
        self.truncated = False
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self._limit = limit
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self.kept[fd]
        room = self._limit - len(kept)
        kept += data[:room]
        self.truncated = self.truncated or len(data) > room

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()

    def text(self, fd: int) -> str:
        return self.kept[fd].decode(errors="replace")


async def run(argv: Sequence[str], timeout_s: float, stdin: bytes, limit: int) -> Completed:
    """Run `argv` to its end or to `timeout_s`. See `LocalHost.run`."""
    if isinstance(argv, str) or not argv:
        raise ValueError("argv must be a non-empty list of strings")
    loop = asyncio.get_running_loop()
    transport, command = await loop.subprocess_exec(
        lambda: _Command(limit),
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env={**{name: value for name, value in os.environ.items() if name not in SUPERVISION}, "LC_ALL": "C"},
    )
    timed_out = False
    try:
        _feed(transport, stdin)
        async with asyncio.timeout(timeout_s):
            await command.exited.wait()
    except TimeoutError:
        timed_out = True
    finally:
        if not command.exited.is_set():
            _kill_group(transport.get_pid())
            await asyncio.shield(command.exited.wait())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(command.drained.wait(), _DRAIN_S)
        transport.close()
    rc = None if timed_out else transport.get_returncode()
    return Completed(rc=rc, out=command.text(1), err=command.text(2), truncated=command.truncated)


def _feed(transport: asyncio.SubprocessTransport, data: bytes) -> None:
    pipe = cast("asyncio.WriteTransport | None", transport.get_pipe_transport(0))
    if pipe is not None:
        pipe.write(data)
        pipe.close()  # after what is written has gone out; a command may end without reading it


def _kill_group(pid: int | None) -> None:
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)
