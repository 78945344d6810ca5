"""Who wrote a SQLite file, read from its bytes: opening it would change it (the journal mode, a checkpoint on closing)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MAGIC: Final = b"SQLite format 3\0"
_VERSION_AT: Final = 60
_APPLICATION_AT: Final = 68
_HEADER: Final = 100
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24


def written_by(path: Path) -> tuple[int, int]:
    """(user_version, application_id): the newest in the file or its write-ahead log. (0, 0) for no SQLite file. OSError."""
    try:
        with path.open("rb") as file:
            page = file.read(_HEADER)
    except FileNotFoundError:
        return 0, 0
    found = _of_page(page) if page.startswith(_MAGIC) else (0, 0)
    return _newest_in_wal(path.with_name(f"{path.name}-wal")) or found


def _of_page(page: bytes) -> tuple[int, int]:
    numbers = (page[at : at + 4] for at in (_VERSION_AT, _APPLICATION_AT))
    version, application = (int.from_bytes(number, "big", signed=True) for number in numbers)
    return version, application


def _newest_in_wal(path: Path) -> tuple[int, int] | None:
    """From the last first page of this generation of the log (its frames carry the header's salt)."""
    found = None
    try:
        with path.open("rb") as file:
            header = file.read(_WAL_HEADER)
            size, salt = int.from_bytes(header[8:12], "big"), header[16:24]
            while size and (frame := file.read(_FRAME_HEADER))[8:16] == salt and len(salt) == 8:
                page = file.read(_HEADER if frame[:4] == b"\0\0\0\1" else 0)
                found = _of_page(page) if len(page) == _HEADER else found
                file.seek(size - len(page), 1)
    except FileNotFoundError:
        return None
    return found
