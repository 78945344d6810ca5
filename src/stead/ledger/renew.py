"""The way on when a ledger can't go on: a new log of the same host, which says after which one, and why.

Rolled back, forked, rewritten, truncated: the old log must sign nothing more, because whatever it signed would contradict
what it signed before. The new one has a name and a key of its own (`<host>/ledger/2`); its first entry holds the last known
checkpoints of the old one. What still binds the host is carried over (runs with their leases, holds, approvals, findings), and
so is what this host cosigned for others. The old database stays beside, under its number, for whoever wants to know.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from stead.ledger import durable
from stead.ledger.connect import Connection, connect, read_only
from stead.ledger.errors import as_stead_error
from stead.ledger.keys import KeyRing
from stead.ledger.opening import Renewal
from stead.ledger.standing import Standing, generation
from stead.ledger.state_lock import StateLock
from stead.ledger.store import LedgerStore
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.policy import Actor
from stead.protocols import Clock
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.note import parse_note
from stead.tlog.strict import Malformed

NAME: Final = "ledger.db"
DRAFT: Final = "renewing"
CARRIED: Final = ("runs", "findings", "holds", "approvals")
REASON_MAX: Final = 1000
_LOGS: Final = ("-wal", "-shm")
_WITNESSED: Final = "SELECT role, name, size, note FROM checkpoints WHERE role = 'witnessed'"
_OWN: Final = "SELECT note FROM checkpoints WHERE role IN ('own', 'cosigned') ORDER BY size DESC"


class Renewed(msgspec.Struct, frozen=True):
    """What a renewal did: the new log, the old database's new place, what was carried over, and what could not be read."""

    origin: str
    checkpoint: str
    former: str  # origin of the old log; empty where nothing of it was left
    former_size: int  # of its newest checkpoint that is known
    kept: str  # where the old database is now; empty: there was none
    carried: dict[str, int]
    unreadable: tuple[str, ...] = ()


def renew(state: Path, host_name: str, clock: Clock, keys: KeyRing, reason: str, by: Actor) -> Renewed:
    """Begin a new log. SteadError: an agent runs on this state, it can't be written, or there is nothing to renew."""
    path, standing = state / NAME, Standing(state)
    if not reason.strip() or len(reason) > REASON_MAX:
        what = f"a renewal needs a reason, of {REASON_MAX} characters at most"
        raise SteadError(what, "--reason", "say what happened", code="ledger.reason", exit_code=EXIT_USAGE)
    if not path.exists() and not standing.kept.exists():
        raise SteadError("there is no ledger to renew", str(path), "start the agent: it makes one", code="ledger.none")
    lock = StateLock.take(state)
    try:
        old = _Old(path, standing)
        origin, note = _begin(
            state, old.host_name or host_name, clock, keys, Renewal(by, old.said(reason.strip(), standing), old.carry)
        )
        kept = _swap(path, state / DRAFT / NAME, generation(old.newest.origin)[1] if old.newest else 1)
        standing.renewed(note)
    except (OSError, sqlite3.Error) as error:
        raise as_stead_error(error, path) from error
    finally:
        shutil.rmtree(state / DRAFT, ignore_errors=True)
        lock.release()
    newest = old.newest
    return Renewed(
        origin,
        note.decode(),
        newest.origin if newest else "",
        newest.size if newest else 0,
        str(kept or ""),
        old.carried,
        tuple(old.unreadable),
    )


def _begin(state: Path, host_name: str, clock: Clock, keys: KeyRing, renewal: Renewal) -> tuple[str, bytes]:
    """Make the new log in a folder of its own, with the keys of the state. Its origin, and its checkpoint."""
    folder = state / DRAFT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    store = LedgerStore.open(folder / NAME, host_name, clock, keys=keys, renewal=renewal)
    try:
        origin, note = store.origin, store.checkpoint
    finally:
        store.close()
    log = folder / f"{NAME}-wal"
    if log.exists() and log.stat().st_size:  # the last close moves all of it into the file, or says nothing when it can't
        raise OSError(errno.EIO, "the new ledger stayed in its write-ahead log", str(log))
    return origin, note


class _Old:
    """The old log, as far as it can still be read: it may be damaged, or gone."""

    def __init__(self, path: Path, standing: Standing) -> None:
        self.path = path
        self.carried: dict[str, int] = {}
        self.unreadable: list[str] = []
        self.checkpoints = [text for text in (standing.kept_text(),) if _parsed(text)]
        with self._read() as db:
            for row in self._rows(db, "checkpoints", _OWN):
                text = bytes(row[0]).decode("utf-8", "replace")
                if text not in self.checkpoints and _parsed(text):
                    self.checkpoints.append(text)
        self.checkpoints.sort(key=_size, reverse=True)

    @property
    def newest(self) -> Checkpoint | None:
        """Its newest checkpoint that is known."""
        return _parsed(self.checkpoints[0]) if self.checkpoints else None

    @property
    def host_name(self) -> str:
        """The host in its origin: whatever the host is called by now, the new log follows the old one by name."""
        return generation(self.newest.origin)[0].removesuffix("/ledger") if self.newest else ""

    def said(self, reason: str, standing: Standing) -> dict[str, Any]:
        """What the new log's first entry says of this one."""
        body: dict[str, Any] = {"checkpoints": self.checkpoints, "reason": reason}
        if (stopped := standing.why_stopped()) is not None:
            body["stopped"] = {"code": stopped.problem.code, "what": stopped.problem.what}
        return body

    def carry(self, new: Connection) -> None:
        """Copy what still binds this host, in the new log's first transaction."""
        with self._read() as db:
            for table in CARRIED:
                rows = self._rows(db, table, f"SELECT * FROM {table}")  # noqa: S608 - our own names
                names = [str(row[1]) for row in self._rows(db, table, f"PRAGMA table_info({table})")]
                into = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
                if rows:
                    new.executemany(into, rows)
                self.carried[table] = len(rows)
            witnessed = self._rows(db, "checkpoints", _WITNESSED)
            new.executemany("INSERT INTO checkpoints (role, name, size, note) VALUES (?, ?, ?, ?)", witnessed)
            self.carried["witnessed"] = len(witnessed)

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection | None]:
        if not self.path.exists():
            yield None
            return
        db = read_only(self.path)
        try:
            yield db
        finally:
            db.close()

    def _rows(self, db: Connection | None, table: str, sql: str) -> list[Any]:
        try:
            return [] if db is None else db.execute(sql).fetchall()
        except sqlite3.Error as error:
            self.unreadable.append(f"{table}: {error}")
            return []


def _parsed(text: str) -> Checkpoint | None:
    try:
        return parse_checkpoint(parse_note(text.encode()).text)
    except Malformed:
        return None


def _size(text: str) -> int:
    found = _parsed(text)
    return found.size if found else -1


def _swap(path: Path, draft: Path, number: int) -> Path | None:
    """Put the new database in the old one's place, which stays under its number. A crash leaves one of them there."""
    kept = None
    if path.exists():
        _fold(path)
        kept = _free(path.with_name(f"ledger.{number}.db"))
        os.link(path, kept)
        for suffix in _LOGS:
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                beside.rename(kept.with_name(kept.name + suffix))
    draft.replace(path)
    durable.sync_names(path.parent)
    return kept


def _fold(path: Path) -> None:
    """Move the old write-ahead log into the old file, if it still can be: the new file must not meet it."""
    with contextlib.suppress(sqlite3.Error):
        db = connect(path)
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.close()


def _free(path: Path) -> Path:
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return found
