"""What one `commit` brings, made ready and put into the tables.

Leaves are encoded before the transaction begins. Changes that wait together are put together, entries by one statement;
only when something refuses one of them are they put again, each under a savepoint, so that it falls alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from stead.ledger import tables
from stead.ledger.connect import Connection
from stead.ledger.leaf import SALT_BYTES, leaf
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Approval
from stead.model.record import Entry, StoredEntry
from stead.tlog.keys import SigningKey
from stead.tlog.merkle import leaf_hash

REFUSALS: Final = (SteadError, ValueError, TypeError, sqlite3.IntegrityError)
Row = tuple[Any, ...]
_NOTHING_MORE: Final = ((), (), (), (), (), (), (), None, None, False)
Result = Sequence[StoredEntry] | SteadError
_INSERT: Final = "INSERT INTO entries (seq, id, type, subject, ts_ms, leaf, blob) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Change(NamedTuple):
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

    @property
    def moves(self) -> bool:
        """Does it change what is kept in memory?"""
        return bool(self.runs or self.findings or self.holds or self.drop_holds)


class Prepared(NamedTuple):
    """A change with its entries as rows but for their numbers, the hashes of their leaves, and what lies beside these."""

    change: Change
    rows: list[Row]
    hashes: list[bytes]
    blobs: list[tuple[str, bytes, bytes]]
    bare: bool  # nothing but entries


def prepare(changes: Sequence[Change], path: Path) -> list[Prepared | SteadError]:
    """Encode the entries of changes; one that has an entry which can't be a leaf is refused."""
    salts = _salts(sum([len(change.entries) for change in changes]))
    return [_prepared(change, salts, path) for change in changes]


def _salts(count: int) -> Iterator[bytes]:
    """So many fresh salts, from one call of the system."""
    data = os.urandom(SALT_BYTES * count)
    return iter([data[at : at + SALT_BYTES] for at in range(0, len(data), SALT_BYTES)])


def _prepared(change: Change, salts: Iterator[bytes], path: Path) -> Prepared | SteadError:
    rows: list[Row] = []
    hashes: list[bytes] = []
    blobs: list[tuple[str, bytes, bytes]] = []
    try:
        for entry in change.entries:
            data, blob = leaf(entry, next(salts))
            hashes.append(leaf_hash(data))
            ref = None
            if blob is not None:
                ref = blob.ref
                blobs.append((ref, blob.salt, blob.data))
            rows.append((entry.id, entry.type, entry.subject, entry.ts_ms, data, ref))
    except REFUSALS as error:
        return as_refusal(error, path)
    return Prepared(change, rows, hashes, blobs, change[1:] == _NOTHING_MORE)


def put_together(db: Connection, ready: Sequence[Prepared], first: int, now_ms: int) -> list[Result]:
    """Put changes that nothing refuses, their entries numbered from `first`. A refusal is raised: all must be put anew, apart."""
    rows: list[Row] = []
    results: list[Result] = []
    for one in ready:
        if not one.bare:
            _put_states(db, one.change, now_ms)
        results.append(_numbered(one, first + len(rows), rows))
    _put_entries(db, rows, [blob for one in ready for blob in one.blobs])
    return results


def put_apart(db: Connection, ready: Sequence[Prepared], first: int, now_ms: int, path: Path) -> list[Result]:
    """Put changes each by itself: one that is refused falls alone and takes no number."""
    results: list[Result] = []
    for one in ready:
        db.execute("SAVEPOINT change")
        try:
            _put_states(db, one.change, now_ms)
            rows: list[Row] = []
            result = _numbered(one, first, rows)
            _put_entries(db, rows, one.blobs)
        except REFUSALS as error:
            db.execute("ROLLBACK TO change")
            results.append(as_refusal(error, path))
        else:
            results.append(result)
            first += len(rows)
        db.execute("RELEASE change")
    return results


def as_refusal(error: Exception, path: Path) -> SteadError:
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


def _put_entries(db: Connection, rows: Sequence[Row], blobs: Sequence[tuple[str, bytes, bytes]]) -> None:
    if blobs:
        db.executemany("INSERT INTO blobs VALUES (?, ?, ?)", blobs)
    if rows:
        db.executemany(_INSERT, rows)


def _numbered(one: Prepared, first: int, rows: list[Row]) -> list[StoredEntry]:
    """The entries of a change as readers get them, from number `first` on; adds their rows."""
    entries = []
    for seq, row in enumerate(one.rows, first):
        rows.append((seq, *row))
        entries.append(StoredEntry(seq, *row[:5]))
    return entries
