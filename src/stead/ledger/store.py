"""The ledger on disk: one SQLite file, one writer thread, one connection; durable when `commit` returns.

WAL with `synchronous=FULL`: one fsync a transaction, shared by all commits that wait at that moment (group commit). There is
one connection, in exclusive locking mode, for readers and writer alike: SQLite before 3.51.3 can corrupt a WAL that
several connections reset, and no supported distribution ships that fix. Readers take the connection's lock; what the tick
asks for (live runs, open findings, holds) is kept in memory and needs no lock at all. A second agent on the same state is
refused by `agent.lock`. After an I/O error the file is closed and opened anew; nothing is retried on the broken handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from stead.ledger import tables
from stead.ledger.errors import as_stead_error, needs_reopening
from stead.ledger.read import LedgerReader
from stead.ledger.state_lock import StateLock
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Approval
from stead.model.record import Entry, StoredEntry
from stead.protocols import Clock

CACHE_KIB: Final = 512
GROUP_MAX: Final = 256
TRY_AGAIN_S: Final = 3.0


class Change(NamedTuple):
    """Everything of one `commit`."""

    entries: tuple[Entry, ...]
    runs: tuple[Run, ...] = ()
    approvals: tuple[Approval, ...] = ()
    use_approvals: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    holds: tuple[Hold, ...] = ()
    drop_holds: tuple[tuple[str, str], ...] = ()
    meta: tuple[tuple[str, str], ...] = ()


class _Waiting(NamedTuple):
    change: Change
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Sequence[StoredEntry]]


class LedgerStore(LedgerReader):
    """protocols.Ledger, and the reading side. Open it with `LedgerStore.open`; `close` ends its thread.

    `trouble` says why it can't be written now, and is empty while it can: after a failure it is tried anew every few seconds.
    `commits`, `transactions` and `write_s` count what it cost: calls, fsyncs, and seconds in the writer thread.
    """

    def __init__(self, path: Path, host_name: str, clock: Clock, lock: StateLock) -> None:
        super().__init__(path)
        self.host_name = host_name
        self.commits = self.transactions = 0
        self.write_s = 0.0
        self.trouble = ""
        self._clock, self._state_lock = clock, lock
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)

    @classmethod
    def open(cls, path: Path | str, host_name: str, clock: Clock) -> LedgerStore:
        """Open or make the ledger. SteadError: another agent has this state, a newer version, read-only, full, damaged."""
        place = Path(path)
        store = cls(place, host_name, clock, StateLock.take(place.parent))
        try:
            store._connect()
        except BaseException:
            store._state_lock.release()
            raise
        store._thread.start()
        return store

    async def commit(
        self,
        entries: Sequence[Entry],
        *,
        runs: Sequence[Run] = (),
        approvals: Sequence[Approval] = (),
        use_approvals: Sequence[str] = (),
        findings: Sequence[Finding] = (),
        holds: Sequence[Hold] = (),
        drop_holds: Sequence[tuple[str, str]] = (),
        meta: Mapping[str, str] | None = None,
    ) -> Sequence[StoredEntry]:
        """One transaction, on disk when this returns. SteadError: nothing of it was written, and readers see nothing of it."""
        if self._closed:
            raise SteadError("the ledger is closed", str(self.path), "start the agent again", code="ledger.closed")
        change = Change(
            tuple(entries),
            tuple(runs),
            tuple(approvals),
            tuple(use_approvals),
            tuple(findings),
            tuple(holds),
            tuple(drop_holds),
            tuple((meta or {}).items()),
        )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[StoredEntry]] = loop.create_future()
        self._queue.put(_Waiting(change, loop, done))
        return await done

    def close(self) -> None:
        """Write what waits, end the thread, let go of the file and of the state."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._disconnect()
        self._state_lock.release()

    def _connect(self) -> None:
        with self._errors():
            tables.refuse_foreign(self.path)
            db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=2.0)
            try:
                db.execute("PRAGMA locking_mode=EXCLUSIVE")
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
                db.execute("PRAGMA foreign_keys=ON")
                tables.prepare(db)
                self.path.chmod(0o600)
                db.execute("BEGIN IMMEDIATE")  # a directory that can't be written is found here, not at the first finding
                db.execute("INSERT OR REPLACE INTO meta VALUES ('opened_ms', ?)", (str(self._clock.now().unix_ms),))
                db.execute("COMMIT")
                self._attach(db)
            except BaseException:
                db.close()
                raise

    def _disconnect(self) -> None:
        with self._guard:
            db, self._db = self._db, None
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise as_stead_error(error, self.path) from error

    def _write_all(self) -> None:
        """The writer thread: take what waits, write it in one transaction, answer, and again."""
        ended = False
        while not ended:
            batch = []
            one = self._next()
            while one is not None:
                batch.append(one)
                if len(batch) >= GROUP_MAX or self._queue.empty():
                    break
                one = self._queue.get()
            ended = one is None
            if batch:
                self._write_batch(batch)

    def _next(self) -> _Waiting | None:
        """Wait for a change. While there is trouble, look now and then whether it is over, so that it is known without one."""
        while True:
            try:
                return self._queue.get(timeout=TRY_AGAIN_S if self.trouble else None)
            except queue.Empty:
                looked = Change((), meta=(("looked_ms", str(self._clock.now().unix_ms)),))
                self._try([looked])

    def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        began_s = time.perf_counter()
        results = self._try([waiting.change for waiting in batch])
        self.commits += len(batch)
        self.transactions += 1
        self.write_s += time.perf_counter() - began_s
        for waiting, result in zip(batch, results, strict=True):
            with contextlib.suppress(RuntimeError):  # its loop has ended; the entry is durable all the same
                waiting.loop.call_soon_threadsafe(_answer, waiting.done, result)

    def _try(self, changes: Sequence[Change]) -> list[Sequence[StoredEntry] | SteadError]:
        """All of them in one transaction; what goes wrong is everyone's result, and the `trouble` until a later one succeeds."""
        try:
            with self._guard, self._errors():
                if self._db is None:
                    self._connect()
                results = self._transact(changes)
            self.trouble = ""
            return results
        except SteadError as error:
            failed = error
            if needs_reopening(error):
                self._reopen()
        except Exception as error:
            failed = SteadError(f"the ledger failed: {error!r}", str(self.path), "see stead.log", code="ledger.failed")
        self.trouble = str(failed)
        return [failed] * len(changes)

    def _reopen(self) -> None:
        self._disconnect()
        with contextlib.suppress(SteadError):
            self._connect()

    def _transact(self, changes: Sequence[Change]) -> list[Sequence[StoredEntry] | SteadError]:
        """All changes in one transaction; one that is refused (an approval, a bad entry) falls alone."""
        db = self._need()
        results: list[Sequence[StoredEntry] | SteadError] = []
        db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                db.execute("SAVEPOINT change")
                try:
                    results.append(self._apply(db, change))
                except (SteadError, ValueError, TypeError, sqlite3.IntegrityError) as error:
                    db.execute("ROLLBACK TO change")
                    results.append(error if isinstance(error, SteadError) else _unfit(error, self.path))
                db.execute("RELEASE change")
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        for change, result in zip(changes, results, strict=True):
            if not isinstance(result, SteadError):
                self._remember(change.runs, change.findings, change.holds, change.drop_holds)
        return results

    def _apply(self, db: sqlite3.Connection, change: Change) -> Sequence[StoredEntry]:
        for approval in change.approvals:
            tables.put_approval(db, approval)
        for approval_id in change.use_approvals:
            tables.use_approval(db, approval_id, self._clock.now().unix_ms)
        stored = [tables.put_entry(db, entry, os.urandom(16)) for entry in change.entries]
        for run in change.runs:
            tables.put_run(db, run)
        for finding in change.findings:
            tables.put_finding(db, finding)
        for hold in change.holds:
            tables.put_hold(db, hold)
        tables.drop_holds(db, change.drop_holds)
        tables.put_meta(db, dict(change.meta))
        return stored


def _answer(done: asyncio.Future[Sequence[StoredEntry]], result: Sequence[StoredEntry] | SteadError) -> None:
    if done.done():
        return
    if isinstance(result, SteadError):
        done.set_exception(result)
    else:
        done.set_result(result)


def _unfit(error: Exception, path: Path) -> SteadError:
    return SteadError(f"an entry can't be recorded: {error}", str(path), "see stead.log", code="ledger.unfit")
