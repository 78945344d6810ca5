"""The rival of benchmarks.ledger: a bare hash chain with group commit, written as well as one can.

64 producers await durability, one writer thread drains the queue, one transaction and one fsync a group, SQLite in WAL with
`synchronous=FULL`: rows of the same columns, the same indexes and the same leaf bytes as stead's, each with
sha256(chain of the row before ‖ leaf). It has no tree, no signature, no proofs, no blobs, no runs and no findings; who may write
its file can change any row and hash all later ones again.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple

from stead.ledger.leaf import leaf
from stead.model.record import Entry

GROUP_MAX = 256
SALT = bytes(16)
SCHEMA = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, subject TEXT NOT NULL,
                      ts_ms INTEGER NOT NULL, leaf BLOB NOT NULL, chain BLOB NOT NULL);
CREATE INDEX entries_subject ON entries (subject, seq);
"""


class _Waiting(NamedTuple):
    entry: Entry
    done: asyncio.Future[int]


class HashChain:
    """Open it with a path; `append` is durable when it returns; `close` writes what waits."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.transactions, self._loop, self._seq, self._chain = 0, loop, 0, bytes(32)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(SCHEMA)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="chain", daemon=True)
        self._thread.start()

    async def append(self, entry: Entry) -> int:
        """Its sequence number, once it is on disk."""
        done: asyncio.Future[int] = self._loop.create_future()
        self._queue.put(_Waiting(entry, done))
        return await done

    def close(self) -> None:
        """Write what waits, end the thread, close the file."""
        self._queue.put(None)
        self._thread.join()
        self._db.close()

    def _write_all(self) -> None:
        while (one := self._queue.get()) is not None:
            batch = [one]
            while len(batch) < GROUP_MAX and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    self._queue.put(None)
                    break
                batch.append(more)
            self._write(batch)

    def _write(self, batch: list[_Waiting]) -> None:
        rows, first = [], self._seq + 1
        for entry, _ in batch:
            data = leaf(entry, SALT)[0]
            self._chain = hashlib.sha256(self._chain + data).digest()
            self._seq += 1
            rows.append((self._seq, entry.id, entry.type, entry.subject, entry.ts_ms, data, self._chain))
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")
        self.transactions += 1
        self._loop.call_soon_threadsafe(_answer, batch, first)


def _answer(batch: list[_Waiting], first: int) -> None:
    for seq, waiting in enumerate(batch, first):
        if not waiting.done.done():
            waiting.done.set_result(seq)
