"""The file `series.db`: its tables, how it is opened, and what its refusals mean to a person.

`metrics_snapshots` is for people with an SQL shell as well: one row a metric, subject and interval, `resolution` in
seconds (the snapshot interval, 3600, 86400). Raw values are blocks of `stead.stats.blocks` whose ids are in `series`.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import IO, Final

from stead.host.sqlite_header import written_by
from stead.model.errors import SteadError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

VERSION: Final = 1
SNAPSHOT_COLUMNS: Final = (
    *("metric_id", "subject", "resolution", "start_ms", "end_ms", "count", "unknown", "min", "max", "avg", "p50", "p95", "p99"),
    *("violations", "good_s", "warning_s", "critical_s", "unknown_s", "sketch"),
)
PROCESSES_ONLY: Final = "subject >= 'process:' AND subject < 'process;'"
TABLES: Final = f"""
CREATE TABLE series (id INTEGER PRIMARY KEY, metric TEXT NOT NULL, subject TEXT NOT NULL, UNIQUE (metric, subject));
CREATE TABLE raw_pending (id INTEGER PRIMARY KEY, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, block BLOB NOT NULL);
CREATE TABLE raw_blocks (id INTEGER PRIMARY KEY, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, block BLOB NOT NULL);
CREATE INDEX raw_blocks_time ON raw_blocks (start_ms);
CREATE TABLE metrics_snapshots (
  metric_id TEXT NOT NULL, subject TEXT NOT NULL, resolution INTEGER NOT NULL, start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL, count INTEGER NOT NULL, unknown INTEGER NOT NULL, min REAL, max REAL, avg REAL,
  p50 REAL, p95 REAL, p99 REAL, violations INTEGER NOT NULL, good_s REAL NOT NULL, warning_s REAL NOT NULL,
  critical_s REAL NOT NULL, unknown_s REAL NOT NULL, sketch BLOB NOT NULL,
  PRIMARY KEY (metric_id, subject, resolution, start_ms)
) WITHOUT ROWID;
CREATE INDEX process_snapshots ON metrics_snapshots (start_ms) WHERE {PROCESSES_ONLY};
CREATE TABLE top_processes (start_ms INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL, processes TEXT NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_FIX_FULL: Final = "free some space; what is new stays in memory until then, an hour of it at most"
_FIX_READ_ONLY: Final = "make the state directory writable for stead, or give another with --state"
_FIX_DAMAGED: Final = "stop stead, move the file away and start again: a new one is made, and the ledger is not touched"


def open_writer(path: Path) -> sqlite3.Connection:
    """The writing connection, with its tables made. Raises SteadError: newer, damaged, read-only, full."""
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        _refuse_newer(path)
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        return db
    except (sqlite3.Error, OSError) as error:
        raise refusal(error, path) from error


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection for queries, which a writer does not block (WAL)."""
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
    db.execute("PRAGMA query_only = 1")
    db.execute("PRAGMA cache_size = -256")
    return db


def _refuse_newer(path: Path) -> None:
    """Before SQLite changes a byte of it."""
    version, _ = written_by(path)
    if version > VERSION:
        raise SteadError(
            f"the series were written by a newer stead (format {version}; this one knows {VERSION})",
            str(path),
            "install the newer stead again, or move the file away to begin anew",
            code="store.newer",
        )


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -512")
    db.execute("PRAGMA journal_size_limit = 1048576")
    if version == 0:
        db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    db.execute("BEGIN IMMEDIATE")  # a file or directory that can't be written shows here, not at the first flush
    db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '1')")
    db.execute("COMMIT")


def refusal(error: Exception, path: Path) -> SteadError:
    """What SQLite or the system refused, in words."""
    text = str(error).lower()
    where = str(path)
    if "full" in text or getattr(error, "errno", None) == 28:
        return SteadError("the disk is full: series can't be stored", where, _FIX_FULL, code="store.full")
    if isinstance(error, PermissionError) or any(word in text for word in ("readonly", "read-only", "unable to open")):
        return SteadError("the series can't be written", where, _FIX_READ_ONLY, code="store.read-only")
    if "locked" in text or "busy" in text:
        return SteadError(
            "another program holds the series' write lock",
            where,
            "end it (an open SQL shell?); stead tries again",
            code="store.busy",
        )
    if "not a database" in text or "malformed" in text or "no such table" in text:
        return SteadError("the series file is damaged", where, _FIX_DAMAGED, code="store.damaged")
    return SteadError(f"the series can't be stored: {error}", where, "look at the disk and the system's log", code="store.failed")


def lock(path: Path) -> IO[bytes]:
    """Be the one writer of this file until the result is closed (or the process ends). Raises SteadError when there is one."""
    try:
        held = os.fdopen(os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600), "r+b")
    except OSError as error:
        raise refusal(error, path) from error
    try:
        if sys.platform == "win32":
            msvcrt.locking(held.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise SteadError(
            "another stead agent writes these series", str(path), "stop it, or give this one its own --state", code="store.in-use"
        ) from None
    return held
