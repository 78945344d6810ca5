"""A group of version 1 in this machine's real hierarchies, for one test, named so that nobody else's is touched."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


def needs_v1(*controllers: str) -> None:
    """Skip where this machine's controllers are not version 1's, or not ours to change."""
    for name in controllers:
        if not os.access(ROOT / name, os.W_OK) or not (ROOT / name / "cgroup.procs").exists():
            pytest.skip(f"no cgroup v1 hierarchy of {name} that we may change")


@contextlib.contextmanager
def v1_group(name: str, *controllers: str) -> Iterator[str]:
    """Make the group in each hierarchy; its path. Afterwards its processes have to have ended, and it is removed."""
    needs_v1(*controllers)
    path = f"/steadtest-{os.getpid()}-{name}"
    folders = [ROOT / controller / path[1:] for controller in controllers]
    for folder in folders:
        folder.mkdir()
    try:
        yield path
    finally:
        for folder in folders:
            _remove(folder)


def join(path: str, pid: int, *controllers: str) -> None:
    """Move a process into the group, in each hierarchy."""
    for controller in controllers:
        (ROOT / controller / path[1:] / "cgroup.procs").write_text(str(pid))


def _remove(folder: Path) -> None:
    for below in [one for one in folder.iterdir() if one.is_dir()]:
        _remove(below)
    for _ in range(100):  # a process that has just ended may still be counted
        try:
            return folder.rmdir()
        except OSError:
            time.sleep(0.02)
    folder.rmdir()
