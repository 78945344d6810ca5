"""The one connection to ledger.db: what the store needs of it, and the settings that make a commit durable.

There is one connection, in exclusive locking mode, for readers and writer alike: SQLite before 3.51.3 (3.50.7 and 3.44.6 have
the fix too) can corrupt a write-ahead log that several connections reset, and no supported distribution ships that fix. With
`synchronous=FULL` a transaction is on disk when COMMIT returns. What SQLite really does is read back, never assumed.

A write-ahead log that was left behind may hold what a sync that failed did not bring to the disk: the system takes such pages
for clean, shows them to the next process and lets later syncs succeed without them. So such a log is copied to a new file before
SQLite may believe it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from stead.ledger import durable
from stead.model.errors import SteadError

CACHE_KIB: Final = 512
_LOCK_WAIT_S: Final = 2.0
_SETTINGS: Final = (("locking_mode", "EXCLUSIVE", "exclusive"), ("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2))


class Cursor(Protocol):
    """What a statement answered."""

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...

    def close(self) -> None:
        """Let go of the rows that are left: until then the transaction reads on."""
        ...


class Connection(Protocol):
    """As much of sqlite3.Connection, in autocommit mode, as the store uses. Errors are sqlite3.Error with `sqlite_errorcode`."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement once for each row."""
        ...

    def close(self) -> None:
        """Let go of the file; the last connection moves the write-ahead log into it."""
        ...


Connect = Callable[[Path], Connection]
"""Opens a ledger's file for one writer; called again after an I/O error. The tests of power loss have their own."""


def connect(path: Path) -> Connection:
    """Open the file on this system, private to its owner. Raises sqlite3.Error or OSError."""
    renew_log(path)
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=_LOCK_WAIT_S)
    try:
        path.chmod(0o600)
    except BaseException:
        db.close()
        raise
    return db


def renew_log(path: Path) -> None:
    """Copy a write-ahead log that was left behind, so that all of it is on disk before it is read. Raises OSError."""
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or log.stat().st_size == 0:
        return
    beside = log.with_name(f"{log.name}.new")
    with log.open("rb") as old, beside.open("wb") as new:
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())
    beside.chmod(0o600)
    beside.replace(log)
    durable.settle([log])


def secure(db: Connection, path: Path) -> None:
    """Make commits durable and the connection the only one. SteadError `ledger.unsafe`: this file system or SQLite can't."""
    for name, wanted, _ in _SETTINGS:
        db.execute(f"PRAGMA {name}={wanted}").fetchall()
    for name, wanted, expected in _SETTINGS:
        found = db.execute(f"PRAGMA {name}").fetchone()[0]
        if found != expected:
            raise SteadError(
                f"SQLite keeps {name} at {found} where the ledger needs {wanted.lower()}",
                str(path),
                "put the state on a local file system, with --state or STEAD_STATE_DIR",
                code="ledger.unsafe",
            )
    db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    db.execute("PRAGMA secure_delete=ON").fetchall()  # what is erased one day must not be left where it once was


def read_only(path: Path) -> sqlite3.Connection:
    """Open the file for reading, without changing a byte of it or of its write-ahead log. Raises sqlite3.Error.

    A log that a killed agent left is read too, by an index that SQLite makes beside it. Without a log the file is taken as
    one that nobody changes, so that it can lie on a medium that can't be written.
    """
    left = path.with_name(f"{path.name}-wal")
    immutable = not left.exists() or left.stat().st_size == 0
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}",
        uri=True,
        check_same_thread=False,
        isolation_level=None,
        timeout=_LOCK_WAIT_S,
    )
