"""stead.log: JSON lines with levels, rotated by size, 0640.

structlog renders. (`agent/__main__.py` keeps rich, which structlog loads wherever it is installed, out of the process: 7 MB.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from stead.model.config import LogConfig

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class RotatingFile:
    """An append-only file that moves to `.1`, `.2`, … when it grows beyond its limit."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self.path, self.max_bytes, self.keep = path, max_bytes, keep
        self.fd = -1
        self.size = 0

    def write(self, line: bytes) -> None:
        """Append one line. A full or vanished disk loses the line, never the agent."""
        try:
            if self.fd < 0 or self.size + len(line) > self.max_bytes:
                self._turn()
            written = os.write(self.fd, line)
            self.size += written
            if written < len(line):  # the disk became full in mid-line: the next line must not join it
                os.ftruncate(self.fd, self.size - written)
                self.size -= written
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _turn(self) -> None:
        if self.fd >= 0:
            self.close()
            for index in range(self.keep - 1, 0, -1):
                older = self.path.with_name(f"{self.path.name}.{index}")
                if older.exists():
                    older.rename(self.path.with_name(f"{self.path.name}.{index + 1}"))
            self.path.rename(self.path.with_name(f"{self.path.name}.1"))
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.size = os.fstat(self.fd).st_size


class FileLogger:
    """What structlog writes through."""

    def __init__(self, out: RotatingFile) -> None:
        self.out = out

    def msg(self, line: bytes) -> None:
        """Write one rendered line."""
        self.out.write(line + b"\n")

    debug = info = warning = error = critical = exception = msg


def open_log(path: Path, config: LogConfig) -> Any:
    """The agent's logger: `log.info("event", key=value)`."""
    out = RotatingFile(path, config.max_bytes, config.keep)
    return structlog.wrap_logger(
        FileLogger(out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[config.level]),
        cache_logger_on_first_use=True,
    )


def encode(value: Any, **_: Any) -> bytes:
    """One JSON object; what JSON has no word for is shown as text."""
    return msgspec.json.encode(value, enc_hook=str)
