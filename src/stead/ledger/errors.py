"""What SQLite and the file system say about the ledger, as one sentence for people: what, where, what to do."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Final

from stead.ledger import refusals
from stead.model.errors import SteadError

_FIXES: Final[dict[str, tuple[str, str]]] = {
    "ledger.full": ("the disk is full", "free some space there; what was recorded is safe, and stead goes on by itself"),
    "ledger.read-only": (
        "the ledger can't be written",
        "make the state directory writable, or choose another with --state or STEAD_STATE_DIR",
    ),
    "ledger.io": (
        "the disk failed to read or write the ledger",
        "check the disk (dmesg, smartctl); what was recorded before is safe",
    ),
    "ledger.damaged": (
        "the ledger is damaged",
        "keep a copy, move it away and start again, or restore it from a backup",
    ),
    "ledger.busy": ("another program has the ledger open", "end that program; while an agent runs, ask it by `stead`"),
    "ledger.failed": ("the ledger can't be used", "see stead.log"),
}
_RESTORE: Final = (
    "keep a copy of the state directory, and restore it from a backup that is not older than its witnesses' checkpoints;"
    " or begin a new log that says what happened: `stead ledger renew --reason …`"
)
_BY_SQLITE: Final = {
    sqlite3.SQLITE_FULL: "ledger.full",
    sqlite3.SQLITE_READONLY: "ledger.read-only",
    sqlite3.SQLITE_CANTOPEN: "ledger.read-only",
    sqlite3.SQLITE_PERM: "ledger.read-only",
    sqlite3.SQLITE_IOERR: "ledger.io",
    sqlite3.SQLITE_CORRUPT: "ledger.damaged",
    sqlite3.SQLITE_NOTADB: "ledger.damaged",
    sqlite3.SQLITE_BUSY: "ledger.busy",
    sqlite3.SQLITE_LOCKED: "ledger.busy",
}
_BY_ERRNO: Final = {
    errno.ENOSPC: "ledger.full",
    errno.EDQUOT: "ledger.full",
    errno.EROFS: "ledger.read-only",
    errno.EACCES: "ledger.read-only",
    errno.EPERM: "ledger.read-only",
    errno.EIO: "ledger.io",
}


def as_stead_error(error: sqlite3.Error | OSError, path: Path) -> SteadError:
    """The same error with what, where, and what to do."""
    if isinstance(error, OSError):
        code = _BY_ERRNO.get(error.errno or 0, "ledger.failed")
    else:
        code = _BY_SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "ledger.failed")
    what, fix = _FIXES[code]
    detail = "" if code in ("ledger.full", "ledger.busy") else f" ({error})"
    return SteadError(f"{what}{detail}", str(path), fix, code=code)


def altered(what: str, path: Path) -> SteadError:
    """`refusals.altered` of this host's own ledger, with what to do there."""
    return refusals.altered(what, str(path), _RESTORE)


def truncated(size: int, signed: int, path: Path) -> SteadError:
    """`refusals.truncated` of this host's own ledger, with what to do there."""
    return refusals.truncated(signed, size, str(path), _RESTORE)


def needs_reopening(error: SteadError) -> bool:
    """Is the handle not to be trusted any more? After a failed write or sync, what it holds may differ from the disk.

    A full disk is not among them: the transaction was rolled back, and reading goes on.
    """
    return error.problem.code in ("ledger.io", "ledger.damaged", "ledger.failed", "ledger.read-only")
