"""The ledger on disk: one SQLite file, one writer thread, one connection; durable when `commit` returns.

WAL with `synchronous=FULL`: one fsync a transaction, shared by all commits that wait at that moment (group commit). Each
transaction also appends its leaves to the Merkle tree, keeps the tiles that became complete, and signs one checkpoint; tree and
checkpoint are replaced in memory only after COMMIT returned, so nobody is ever shown a root that a loss of power could take
back. Readers take the connection's lock; what the tick asks for (live runs, open findings, holds) is kept in memory and
needs no lock at all. A second agent on the same state is refused by `agent.lock`. After an I/O error the file is closed and
opened anew; nothing is retried on the broken handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from stead.ledger import opening, orders, pack, tables
from stead.ledger.change import REFUSALS, Change, Put, Result, put_apart, put_together
from stead.ledger.connect import Connect, Connection, connect, secure
from stead.ledger.errors import altered, needs_reopening
from stead.ledger.key_files import KeyFiles
from stead.ledger.keys import KeyRing, KeyRow, origin_of
from stead.ledger.read import LedgerReader
from stead.ledger.said import blob_of
from stead.ledger.state_lock import StateLock
from stead.ledger.tree import signed
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Actor, Approval
from stead.model.record import Entry, StoredEntry
from stead.protocols import Clock
from stead.tlog.keys import SigningKey, VerifierKey, parse_vkey
from stead.tlog.tiles import TileTree

GROUP_MAX: Final = 256
TRY_AGAIN_S: Final = 3.0
_Done = asyncio.Future[Sequence[StoredEntry]]
_Waiting = tuple[Change, _Done]


class LedgerStore(LedgerReader):
    """protocols.Ledger, and the reading side. Open it with `LedgerStore.open`; `close` ends its thread.

    `checkpoint` is the newest signed checkpoint that is durable; `after_commit` is called with it on the writer's thread, and
    must not raise. `stopped` is why nothing may be recorded at all (see `stop`). `trouble` says why nothing can be written
    now, and is empty while it can: after a failure it is tried anew every few seconds. `changes`, `transactions` and
    `write_s` count what it cost: commits, fsyncs, and seconds in the writer thread.
    """

    def __init__(self, path: Path, host_name: str, clock: Clock, lock: StateLock, connect: Connect, keys: KeyRing) -> None:
        super().__init__(path)
        self.host_name = host_name
        self.changes = self.transactions = 0
        self.write_s = 0.0
        self.trouble = ""
        self.stopped: SteadError | None = None
        self._remembers = False
        self.after_commit: Callable[[bytes], object] | None = None
        self.key_files = keys.files
        self._clock, self._state_lock, self._opener, self._ring = clock, lock, connect, keys
        self._signed_by: tuple[bytes, ...] = ()
        self._renewal = opening.Renewal()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)

    @classmethod
    def open(
        cls,
        path: Path | str,
        host_name: str,
        clock: Clock,
        *,
        connect: Connect = connect,
        keys: KeyRing | None = None,
        renewal: opening.Renewal | None = None,
    ) -> LedgerStore:
        """Open or make the ledger, with `keys/` beside it. SteadError: another agent has this state, a newer version,
        read-only, full, damaged, not what it signed last (`ledger.altered`, `ledger.truncated`), or a key can't be used.

        `renewal` is what a new log says of the ones before it; without one it says that their database was not there.
        """
        place = Path(path)
        ring = keys or KeyRing(KeyFiles(place.parent / "keys"))
        said = renewal or opening.lost(place)
        store = cls(place, host_name, clock, StateLock.take(place.parent), connect, ring)
        store._renewal = said
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
        work: Callable[[Connection], object] | None = None,
    ) -> Sequence[StoredEntry]:
        """One transaction, on disk when this returns. SteadError: nothing of it was written, and readers see nothing of it.

        `work` is called in the transaction, on the writer's thread, with the connection: what it writes is durable with the
        rest, and a SteadError from it refuses all of it. It may be called twice; only the last call counts.
        """
        if not (runs or approvals or use_approvals or findings or holds or drop_holds or meta or work):
            return await self._submit(Change(tuple(entries), bare=True))
        change = Change(
            tuple(entries),
            tuple(runs),
            tuple(approvals),
            tuple(use_approvals),
            tuple(findings),
            tuple(holds),
            tuple(drop_holds),
            tuple(meta.items()) if meta else (),
            work,
        )
        return await self._submit(change)

    def stop(self, why: SteadError, *, remembers: bool = False) -> None:
        """Record and sign nothing more: a witness, say, knows a newer ledger than this. Readers go on.

        With `remembers` what is no part of the record is still written: `work` without entries, say what was cosigned for others.
        """
        self.stopped, self.trouble, self._remembers = why, str(why), remembers

    @property
    def remembers(self) -> bool:
        """May what is no part of the record be written?"""
        return self.stopped is None or self._remembers

    def go_on(self) -> None:
        """Record and sign again after `stop`."""
        self.stopped, self.trouble = None, ""

    async def rotate_key(self, by: Actor) -> VerifierKey:
        """Give the log a new key; the old one goes on signing for the overlap. SteadError: a key was just being changed."""
        now_ms = self._clock.now().unix_ms
        old = self._ring.signers(now_ms)[0]
        with self._errors():
            new = await asyncio.to_thread(self._ring.make, self.origin)
        order = orders.ordered(self.host_name, by, now_ms)
        place, until_ms = self.key_files.place(new.verifier), now_ms + self._ring.overlap_ms
        try:
            await self._submit(orders.rotation(old, new, place, until_ms, order, now_ms))
        except SteadError:
            with self._guard:
                if self._db is not None:  # else nobody knows yet what is durable: the next opening looks, and cleans up
                    self._ring.discard(new)
            raise
        return new.verifier

    async def erase(self, entry_id: str, by: Actor, reason: str = "") -> StoredEntry:
        """Erase what lies beside an entry, for good, with its copies. Returns the entry that says so.

        SteadError `blob.none`: nothing is there; `blob.in-use`: the run or finding that it is about has not ended.
        """
        entry = self.entry(entry_id)
        try:
            ref = blob_of(entry.leaf) if entry is not None else ""
        except ValueError as error:
            raise altered(f"entry {entry_id}: {error}", self.path) from None
        order = orders.ordered(self.host_name, by, self._clock.now().unix_ms)
        return (await self._submit(orders.erasure(entry.id if entry else entry_id, ref, reason, order)))[0]

    async def tidy(self, keep_days: float = pack.KEEP_DAYS) -> pack.Tidied:
        """Make old entries smaller, and drop runs and findings that ended so long ago: some of it a call, see `pack.tidy`.

        SteadError: nothing was changed, because it can't be written, or is not what it should be.
        """
        before_ms = self._clock.now().unix_ms - pack.kept_ms(keep_days)
        done: list[pack.Tidied] = []
        await self.commit((), work=lambda db: done.append(pack.tidy(db, self.path, before_ms)))
        return done[-1]

    def close(self) -> None:
        """Write what waits, end the thread, let go of the file and of the state."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._disconnect()
        self._state_lock.release()

    def _submit(self, change: Change) -> _Done:
        """Hand a change to the writer; the future tells what became of it. SteadError: it takes none."""
        if self._closed:
            raise SteadError("the ledger is closed", str(self.path), "start the agent again", code="ledger.closed")
        if (why := self._refused([change])) is not None:
            raise SteadError.of(why.problem)
        done: _Done = asyncio.get_running_loop().create_future()
        self._queue.put((change, done))
        return done

    def _connect(self) -> None:
        with self._errors():
            tables.refuse_foreign(self.path)
            db = self._db = self._opener(self.path)
            try:
                secure(db, self.path)
                self._load(db)
            except BaseException:
                self._disconnect()
                raise

    def _load(self, db: Connection) -> None:
        """Bring the file up to date, look whether it is what it signed last, and read what is kept in memory."""
        now_ms = self._clock.now().unix_ms
        db.execute("BEGIN IMMEDIATE")  # a directory that can't be written is found here, not at the first finding
        version = tables.prepare(db)
        tables.put_meta(db, [("opened_ms", str(now_ms))])
        if version == tables.VERSION:
            tree = self._restore()
            origin, note = opening.own_checkpoint(db, tree, self._ring, now_ms, self.path)
            db.execute("COMMIT")
        else:
            tree, origin, note = self._begin(db, now_ms)
        self._ring.adopt(rows := tables.get_keys(db), now_ms)
        self.key_files.clean(parse_vkey(row.vkey) for row in rows)
        self._tree, self.origin, self.checkpoint, self._signed_by = tree, origin, note, ()
        self._attach(db)

    def _begin(self, db: Connection, now_ms: int) -> tuple[TileTree, str, bytes]:
        """The first key and checkpoint, over the leaves of an older version if there are any; ends the transaction."""
        former, tree = self.key_files.origins(), TileTree(self._tile)
        key = self._ring.make(origin_of(self.host_name, former))
        try:
            opening.adopt_leaves(db, tree, self.path)
            if former:
                said = opening.renewed(key.name, former, self.host_name, now_ms, self._renewal)
                self._renewal.carry(db)
                opening.note_former(db, tree, said)
            note = signed(tree, key.name, (key,))
            opening.put_identity(db, key.name, tree.size, note, KeyRow(key.verifier.text, now_ms, None))
        except (sqlite3.Error, SteadError):
            with contextlib.suppress(OSError):
                self._ring.discard(key)
            raise
        db.execute("COMMIT")  # it may be durable although it fails: then the next opening needs the key, else it cleans it away
        return tree, key.name, note

    def _disconnect(self) -> None:
        with self._guard:
            db, self._db = self._db, None
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()

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
        results = self._try([change for change, _ in batch])
        self.changes += len(batch)
        self.transactions += 1
        self.write_s += time.perf_counter() - began_s
        waiting = [done for _, done in batch]
        for loop in {done.get_loop() for done in waiting}:
            with contextlib.suppress(RuntimeError):  # its loop has ended; the entry is durable all the same
                loop.call_soon_threadsafe(_answer, loop, waiting, results)

    def _try(self, changes: Sequence[Change]) -> list[Result]:
        """All of them in one transaction; what goes wrong is everyone's result, and the `trouble` until a later one succeeds."""
        if (why := self._refused(changes)) is not None:
            return [why] * len(changes)
        try:
            with self._guard, self._errors():
                if self._db is None:
                    self._connect()
                results = self._transact(changes)
            self.trouble = str(self.stopped or "")
            return results
        except SteadError as error:
            failed = error
            if needs_reopening(error):
                self._reopen()
        except Exception as error:
            failed = SteadError(f"the ledger failed: {error!r}", str(self.path), "see stead.log", code="ledger.failed")
        self.trouble = str(failed)
        return [failed] * len(changes)

    def _refused(self, changes: Sequence[Change]) -> SteadError | None:
        """Why these may not be written at all."""
        return None if self._remembers and all(change.beside for change in changes) else self.stopped

    def _reopen(self) -> None:
        with self._guard, contextlib.suppress(SteadError):
            self._disconnect()
            self._connect()

    def _transact(self, changes: Sequence[Change]) -> list[Result]:
        """All changes in one transaction; one that is refused (an approval, a bad entry) falls alone."""
        try:
            return self._write(changes, put_together)
        except REFUSALS:
            return self._write(changes, functools.partial(put_apart, path=self.path))

    def _write(self, changes: Sequence[Change], put_all: Callable[..., Put]) -> list[Result]:
        db, tree, now_ms = self._need(), self._tree.copy(), self._clock.now().unix_ms
        db.execute("BEGIN IMMEDIATE")
        try:
            put = put_all(db, changes, tree.size + 1, now_ms)
            made = [change.key for change in put.done if change.key is not None]
            keys = (*made, *self._ring.signers(now_ms))
            note = self._grow(db, tree, put.hashes, keys)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        self._tree, self.checkpoint, self._signed_by = tree, note, tuple(key.public for key in keys)
        for change in put.done:
            if change.moves:
                self._remember(change.runs, change.findings, change.holds, change.drop_holds)
        self._tidy(db, put.done, made, now_ms)
        return put.results

    def _grow(self, db: Connection, tree: TileTree, hashes: Sequence[bytes], keys: Sequence[SigningKey]) -> bytes:
        """Append to the tree, and sign it if it grew or who signs has changed. Returns the newest checkpoint."""
        if not hashes and tuple(key.public for key in keys) == self._signed_by:
            return self.checkpoint
        if tiles := tree.append(hashes):
            tables.put_tiles(db, tiles)
        note = signed(tree, self.origin, keys)
        tables.put_checkpoint(db, "own", "", tree.size, note)
        return note

    def _tidy(self, db: Connection, done: Sequence[Change], made: Sequence[SigningKey], now_ms: int) -> None:
        """What follows a transaction that is durable. A failure here takes nothing back; the next start makes up for it."""
        if self.after_commit is not None:
            with contextlib.suppress(Exception):
                self.after_commit(self.checkpoint)
        if made or self._ring.expired(now_ms):
            with contextlib.suppress(OSError, sqlite3.Error, SteadError, ValueError):
                self._ring.adopt(tables.get_keys(db), now_ms, made)
        if any(change.scrub for change in done):
            with contextlib.suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _answer(loop: asyncio.AbstractEventLoop, waiting: Sequence[_Done], results: Sequence[Result]) -> None:
    """Tell those who wait on this loop, on its thread."""
    for done, result in zip(waiting, results, strict=True):
        if done.done() or done.get_loop() is not loop:
            continue
        if isinstance(result, SteadError):
            done.set_exception(result)
        else:
            done.set_result(result)
