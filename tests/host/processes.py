"""Real processes for tests, ended by pid."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_THREADS = (
    "import threading, sys\n"
    "hold = threading.Event()\n"
    "for _ in range({count} - 1): threading.Thread(target=hold.wait, daemon=True).start()\n"
    "print('up', flush=True); sys.stdin.read()\n"
)


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, in a session of its own."""
    process = subprocess.Popen(["sleep", "120"], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def threaded(count: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with so many threads, all waiting."""
    program = [sys.executable, "-S", "-c", _THREADS.format(count=count)]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def threads_of(pid: int) -> list[int]:
    """The ids of a process's threads."""
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))


def until(condition: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Wait until something is so; fail when it never is."""
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, "it never became so"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Ended: not there, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
