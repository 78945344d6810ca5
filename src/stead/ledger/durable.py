"""Files that are whole or not there: written beside their place, renamed into it, and on disk before anything relies on them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def put(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all, its directories with it; on disk only after `settle`. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(AttributeError):  # Windows has no modes of files
                os.fchmod(file.fileno(), mode)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def settle(paths: Iterable[Path]) -> None:
    """Have these files, and their names in their directories, on disk when this returns. Raises OSError."""
    folders: set[Path] = set()
    for path in paths:
        _sync(path, os.O_RDONLY)
        folders.update((path.parent, path.parent.parent))
    for folder in folders:
        sync_names(folder)


def sync_names(folder: Path) -> None:
    """Have the names in a directory on disk when this returns, where the system can do that. Raises OSError."""
    if os.name != "nt":
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
