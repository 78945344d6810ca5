"""What the tests of the store share: entries, a connection that can be held up or fail, and an independent look at a log."""

from __future__ import annotations

import base64
import hashlib
import itertools
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stead.ledger.connect import connect
from stead.ledger.store import LedgerStore
from stead.model.policy import Actor
from stead.model.record import Entry
from stead.testing import FakeClock

AGENT = Actor("agent", "stead")
ANN = Actor("user", "uid:1000")
NOW_MS = 1_700_000_000_000
_numbers = itertools.count(1)


def note(text: str = "x", bulk: bytes | None = None, subject: str = "s", **more: Any) -> Entry:
    """An entry with an id of its own."""
    number = next(_numbers)
    values: dict[str, Any] = {"type": "test.noted", "host": "host1", "ts_ms": NOW_MS + number, "actor": AGENT} | more
    return Entry(id=f"e{number:06d}", body={"about": subject, "text": text}, subject=subject, bulk=bulk, **values)


def opened(place: Path, **more: Any) -> LedgerStore:
    """The store in a directory, by a clock that stands still unless one is given."""
    return LedgerStore.open(place / "ledger.db", "host1", more.pop("clock", FakeClock()), **more)


def failure(code: int, words: str = "disk I/O error") -> sqlite3.OperationalError:
    """An error as SQLite raises it."""
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


class Watched:
    """A connection factory that keeps every statement by the number of its connection, and does `before` ahead of each."""

    def __init__(self, before: Callable[[str], None] = lambda sql: None) -> None:
        self.before = before
        self.statements: list[tuple[int, str]] = []
        self.opened = 0

    def __call__(self, path: Path) -> _Connection:
        self.opened += 1
        return _Connection(self, self.opened, connect(path))


class _Connection:
    def __init__(self, watched: Watched, number: int, db: Any) -> None:
        self._watched, self._number, self._db = watched, number, db

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        self._see(sql)
        return self._db.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        self._see(sql)
        return self._db.executemany(sql, parameters)

    def close(self) -> None:
        self._see("close")
        self._db.close()

    def _see(self, sql: str) -> None:
        self._watched.statements.append((self._number, sql))
        self._watched.before(sql)


class Gate:
    """Holds up the first statement that begins with these words, until it is opened."""

    def __init__(self, words: str) -> None:
        self.words, self.reached, self.open = words, threading.Event(), threading.Event()

    def __call__(self, sql: str) -> None:
        if sql.startswith(self.words):
            self.reached.set()
            assert self.open.wait(20)


# RFC 6962 and signed-note anew, with another Ed25519: nothing of this is stead's.


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def signed_by(note: bytes, vkey: str) -> bool:
    """Has this key signed the note?"""
    text, _, lines = note.decode().rpartition("\n\n")
    name, key_id, public = vkey.split("+", 2)
    for line in lines.splitlines():
        dash, signer, data = line.split(" ")
        raw = base64.b64decode(data)
        if dash == "—" and signer == name and raw[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:]).verify(raw[4:], f"{text}\n".encode())
            return True
    return False


def check_log(store: LedgerStore) -> None:
    """Everything that is there is what the newest checkpoint says, signed by the keys that the log names."""
    origin, size, root, *_ = store.checkpoint.decode().splitlines()
    entries = store.leaves(0, store.size + 10)
    assert [entry.seq for entry in entries] == list(range(1, store.size + 1))
    assert origin == store.origin and int(size) == store.size
    assert base64.b64decode(root) == tree_hash([entry.leaf for entry in entries])
    assert store.vkeys() and all(signed_by(store.checkpoint, vkey) for vkey in store.vkeys())
