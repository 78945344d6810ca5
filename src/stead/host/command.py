"""Runs one command with limits: no shell, its own process group, a timeout that kills the group, capped output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

from stead.protocols import Completed

_DRAIN_S: Final = 0.5  # after the command ended, for what it left in its pipes; a daemon it left behind may hold them open


class _Output:
    """One pipe's first `limit` bytes; the rest is read and dropped, so that the command never waits for us."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = bytearray()
        self.truncated = False

    async def take(self, stream: asyncio.StreamReader | None) -> None:
        if stream is None:
            return
        while chunk := await stream.read(1 << 16):
            room = self.limit - len(self.data)
            self.data += chunk[:room]
            self.truncated = self.truncated or len(chunk) > room

    def text(self) -> str:
        return self.data.decode(errors="replace")


async def run(argv: Sequence[str], timeout_s: float, stdin: bytes, limit: int) -> Completed:
    """Run `argv` to its end or to `timeout_s`. See `LocalHost.run`."""
    if isinstance(argv, str) or not argv:
        raise ValueError("argv must be a non-empty list of strings")
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    out, err = _Output(limit), _Output(limit)
    readers = [asyncio.ensure_future(out.take(process.stdout)), asyncio.ensure_future(err.take(process.stderr))]
    timed_out = False
    try:
        async with asyncio.timeout(timeout_s):
            await _feed(process.stdin, stdin)
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            await asyncio.shield(process.wait())
        await asyncio.wait(readers, timeout=_DRAIN_S)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        _close_pipes(process)
    rc = None if timed_out else process.returncode
    return Completed(rc=rc, out=out.text(), err=err.text(), truncated=out.truncated or err.truncated)


async def _feed(pipe: asyncio.StreamWriter | None, data: bytes) -> None:
    if pipe is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may end without reading its input
        pipe.write(data)
        await pipe.drain()
    pipe.close()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    """Let go of pipes that something the command left behind still holds open."""
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
