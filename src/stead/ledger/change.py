"""What one `commit` brings, put into the tables.

Changes that wait together are put together, their entries by one statement; only when something refuses one of them are they
put again, each under a savepoint, so that it falls alone and takes no number.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from stead.ledger import tables
from stead.ledger.connect import Connection
from stead.ledger.leaf import SALT_BYTES, leaf
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Approval
from stead.model.record import Entry, StoredEntry
from stead.tlog.keys import SigningKey
from stead.tlog.merkle import leaf_hashes

REFUSALS: Final = (
    *(SteadError, ValueError, TypeError, OverflowError, RecursionError),
    *(sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError),
)
Row = tuple[Any, ...]
_Blob = tuple[str, bytes, bytes]
_LEAF: Final = 5
Result = Sequence[StoredEntry] | SteadError
_INSERT: Final = "INSERT INTO entries (seq, id, type, subject, ts_ms, leaf, blob) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Change(msgspec.Struct, frozen=True):
    """Everything of one `commit`. `work` is run in the transaction, before the entries are put; SteadError refuses the change."""

    entries: Sequence[Entry]
    runs: Sequence[Run] = ()
    approvals: Sequence[Approval] = ()
    use_approvals: Sequence[str] = ()
    findings: Sequence[Finding] = ()
    holds: Sequence[Hold] = ()
    drop_holds: Sequence[tuple[str, str]] = ()
    meta: Sequence[tuple[str, str]] = ()
    work: Callable[[Connection], object] | None = None
    key: SigningKey | None = None  # a new key of the log, which signs from this transaction on
    scrub: bool = False  # something was erased: the write-ahead log is emptied too
    bare: bool = False  # nothing but entries: nothing else is looked at

    @property
    def beside(self) -> bool:
        """Is it `work` and nothing of the record?"""
        return self.work is not None and not (self.entries or self.approvals or self.use_approvals or self.meta or self.moves)

    @property
    def moves(self) -> bool:
        """Does it change what is kept in memory?"""
        return bool(self.runs or self.findings or self.holds or self.drop_holds)


class Put(NamedTuple):
    """What was put: each change's result, the hashes of the new leaves in order, and the changes that are more than entries."""

    results: list[Result]
    hashes: list[bytes]
    done: list[Change]


def put_together(db: Connection, changes: Sequence[Change], first: int, now_ms: int) -> Put:
    """Put changes that nothing refuses, their entries numbered from `first`. A refusal is raised: all must be put anew, apart."""
    rows: list[Row] = []
    blobs: list[_Blob] = []
    salts = _salts(changes)
    results: list[Result] = [_numbered(change, first + len(rows), salts, rows, blobs) for change in changes]
    done = [change for change in changes if not change.bare]
    for change in done:
        _put_states(db, change, now_ms)
    return Put(results, _put_entries(db, rows, blobs), done)


def put_apart(db: Connection, changes: Sequence[Change], first: int, now_ms: int, path: Path) -> Put:
    """Put changes each by itself: one that is refused falls alone."""
    put = Put([], [], [])
    for change in changes:
        rows: list[Row] = []
        blobs: list[_Blob] = []
        db.execute("SAVEPOINT change")
        try:
            result = _numbered(change, first + len(put.hashes), _salts([change]), rows, blobs)
            _put_states(db, change, now_ms)
            hashes = _put_entries(db, rows, blobs)
        except REFUSALS as error:
            db.execute("ROLLBACK TO change")
            put.results.append(_as_refusal(error, path))
        else:
            put.results.append(result)
            put.hashes.extend(hashes)
            put.done.append(change)
        db.execute("RELEASE change")
    return put


def _salts(changes: Sequence[Change]) -> Iterator[bytes]:
    """A fresh salt for every entry, from one call of the system."""
    data = os.urandom(SALT_BYTES * sum([len(change.entries) for change in changes]))
    return iter([data[at : at + SALT_BYTES] for at in range(0, len(data), SALT_BYTES)])


def _numbered(change: Change, first: int, salts: Iterator[bytes], rows: list[Row], blobs: list[_Blob]) -> Sequence[StoredEntry]:
    """The entries of a change as readers get them, from number `first` on; adds their rows, and what lies beside them."""
    stored = []
    for seq, entry in enumerate(change.entries, first):
        data, blob = leaf(entry, next(salts))
        ref = None
        if blob is not None:
            ref = blob.ref
            blobs.append((ref, blob.salt, blob.data))
        rows.append((seq, entry.id, entry.type, entry.subject, entry.ts_ms, data, ref))
        stored.append(StoredEntry(seq, entry.id, entry.type, entry.subject, entry.ts_ms, data))
    return stored


def _as_refusal(error: Exception, path: Path) -> SteadError:
    """Why a change was refused, for whoever brought it."""
    if isinstance(error, SteadError):
        return error
    return SteadError(f"an entry can't be recorded: {error}", str(path), "see stead.log", code="ledger.unfit")


def _put_states(db: Connection, change: Change, now_ms: int) -> None:
    """Everything but the entries themselves."""
    if change.work is not None:
        change.work(db)
    for approval in change.approvals:
        tables.put_approval(db, approval)
    for approval_id in change.use_approvals:
        tables.use_approval(db, approval_id, now_ms)
    for run in change.runs:
        tables.put_run(db, run)
    for finding in change.findings:
        tables.put_finding(db, finding)
    for hold in change.holds:
        tables.put_hold(db, hold)
    if change.drop_holds:
        tables.drop_holds(db, change.drop_holds)
    if change.meta:
        tables.put_meta(db, change.meta)


def _put_entries(db: Connection, rows: Sequence[Row], blobs: Sequence[_Blob]) -> list[bytes]:
    """Append rows and blobs; the hashes of the leaves."""
    if blobs:
        db.executemany("INSERT INTO blobs VALUES (?, ?, ?)", blobs)
    if rows:
        db.executemany(_INSERT, rows)
    return leaf_hashes([row[_LEAF] for row in rows])
