"""Logs and witnesses in memory: a log that can be forked, cut and rewritten with its own key, and a store of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stead.ledger import tables
from stead.model.record import Entry
from stead.tlog.checkpoint import Checkpoint
from stead.tlog.keys import COSIGNATURE, ED25519, SigningKey, new_signing_key
from stead.tlog.merkle import leaf_hash
from stead.tlog.note import format_note, sign_note
from stead.tlog.tiles import TileTree, consistency_proof, root_at
from stead.tlog.witness import AddCheckpoint, format_request

LOG = new_signing_key("box/ledger", ED25519, b"l" * 32)
WITNESS = new_signing_key("eye/witness", COSIGNATURE, b"w" * 32)


class Log:
    """A log of text leaves that signs whatever it is told to."""

    def __init__(self, leaves: Sequence[str] = (), key: SigningKey = LOG) -> None:
        self.key, self.origin = key, key.name
        self.leaves = list(leaves)
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._tree = TileTree(lambda level, index: self._tiles[level, index])

    @property
    def tree(self) -> TileTree:
        new = [leaf_hash(leaf.encode()) for leaf in self.leaves[self._tree.size :]]
        self._tiles |= {(tile.level, tile.index): tile.hashes for tile in self._tree.append(new)}
        return self._tree

    @property
    def size(self) -> int:
        return len(self.leaves)

    def root_at(self, size: int) -> bytes:
        return root_at(self.tree, size)

    def grow(self, count: int, word: str = "leaf") -> Log:
        self.leaves += [f"{word} {self.size + number}" for number in range(count)]
        return self

    @property
    def text(self) -> str:
        return Checkpoint(self.origin, self.size, self.tree.root()).text

    @property
    def note(self) -> bytes:
        return format_note(sign_note(self.text, [self.key]))

    def request(self, old: int) -> bytes:
        proof = consistency_proof(self.tree, old) if 0 < old < self.size else []
        return format_request(AddCheckpoint(old, tuple(proof), self.note))


class Rows:
    """As much of the store as a witness needs, on SQLite in memory."""

    def __init__(self) -> None:
        import sqlite3

        self.db = sqlite3.connect(":memory:", isolation_level=None)
        tables.prepare(self.db)
        self.fails: Exception | None = None
        self.commits = 0

    def kept_checkpoint(self, role: str, name: str) -> tuple[int, bytes] | None:
        return tables.get_checkpoint(self.db, role, name)

    async def commit(self, entries: Sequence[Entry], *, work: Callable[[Any], object] | None = None) -> Sequence[Any]:
        if self.fails is not None:
            raise self.fails
        self.commits += 1
        if work is not None:
            work(self.db)
        return ()
