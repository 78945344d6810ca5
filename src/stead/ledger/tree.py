"""The log in the ledger: leaves, tiles, the right edge in memory, and the checkpoint that was signed last.

An entry's number `seq` is its place in the tree plus one. Everything here is what is durable; the store replaces tree and
checkpoint only after COMMIT returned.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from stead.ledger import tables
from stead.ledger.connect import Connection
from stead.ledger.errors import altered, as_stead_error, truncated
from stead.ledger.key_files import SEALED, KeyFiles
from stead.ledger.keys import KeyRow
from stead.ledger.leaf import Blob
from stead.ledger.pack import Bundles
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import ID_MAX, LogKey
from stead.model.record import StoredEntry
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import SigningKey, VerifierKey, parse_vkey
from stead.tlog.merkle import leaf_hashes
from stead.tlog.note import format_note, parse_note, sign_note, verified
from stead.tlog.strict import Malformed
from stead.tlog.tiles import WIDTH, TileTree, consistency_proof, inclusion_proof, root_at

COLUMNS: Final = "seq, id, type, subject, ts_ms, leaf"
_ENDING_MIN: Final = 6
ID: Final = re.compile(f"[0-9A-Za-z-]{{1,{ID_MAX}}}")  # or a part of one
_PACKED: Final = "SELECT seq, salt, data FROM bundled_blobs WHERE seq > ? AND seq <= ? ORDER BY seq"
_BESIDE: Final = (
    "SELECT seq, blobs.ref, salt, data FROM entries JOIN blobs ON blobs.ref = entries.blob"
    " WHERE seq > ? AND seq <= ? ORDER BY seq"
)


class LogReader:
    """The log of one ledger, to read. `_guard` is the connection's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin = ""
        self.checkpoint = b""
        self._guard = threading.RLock()
        self._db: Connection | None = None
        self.key_files = KeyFiles(path.parent / "keys")
        self._bundles = Bundles(path)
        self._tree = TileTree(self._tile)

    @property
    def log(self) -> LogReader:
        """The reading side of the log."""
        return self

    @property
    def size(self) -> int:
        """How many entries the checkpoint has signed for."""
        return self._tree.size

    def _log(self) -> TileTree:
        return self._tree

    def vkeys(self) -> tuple[str, ...]:
        """The log's keys that signed the newest checkpoint, newest first. Malformed: checkpoint or keys can't be read."""
        ids = {signature.key_id for signature in parse_note(self.checkpoint).signatures}
        return tuple(row.vkey for row in self._key_rows() if parse_vkey(row.vkey).id in ids)

    def keys(self) -> tuple[LogKey, ...]:
        """Every key that the log ever had, newest first: when it began, whether it signs, and how its secret is kept."""
        active = set(self.vkeys())
        places = {row.vkey: self.key_files.place(parse_vkey(row.vkey)) for row in self._key_rows()}
        return tuple(
            LogKey(row.vkey, row.since_ms, True, str(places[row.vkey]), places[row.vkey].suffix == SEALED)
            if row.vkey in active
            else LogKey(row.vkey, row.since_ms, False)
            for row in self._key_rows()
        )

    def _key_rows(self) -> list[KeyRow]:
        with self._guard, self._errors():
            return tables.get_keys(self._need())

    def leaves(self, start: int, end: int, most: int = sys.maxsize) -> Sequence[StoredEntry]:
        """The entries of indexes [start, end) that are there, in order, with their exact leaves: at most `most` bytes of them."""
        return self._entries("seq > ? AND seq <= ? ORDER BY seq", max(0, start), end, most=most)

    def blobs(self, start: int, end: int, most: int = sys.maxsize) -> Sequence[tuple[int, Blob]]:
        """What lies beside the leaves of indexes [start, end), as (index, blob), in order; erased ones are not there.

        The last one is that with which they have more than `most` bytes.
        """
        found: list[tuple[int, Blob]] = []
        with self._guard, self._errors():  # what is packed between the two would be missed or seen twice
            db = self._need()
            for sql, read in ((_PACKED, self._bundles.blob), (_BESIDE, self._blob)):
                with contextlib.closing(db.execute(sql, (max(0, start), end))) as cursor:
                    while most >= 0 and (row := cursor.fetchone()) is not None:
                        found.append((row[0] - 1, read(*row)))
                        most -= len(found[-1][1].data)
        return tuple(found)

    def _blob(self, _: int, ref: str, salt: bytes, data: bytes) -> Blob:
        return Blob(tables.typed(ref, str), tables.typed(salt, bytes), tables.typed(data, bytes))

    def entry(self, prefix: str) -> StoredEntry | None:
        """One entry by its id or a unique beginning or ending of it. SteadError `entry.ambiguous` when several fit."""
        if not ID.fullmatch(prefix):
            return None
        found = self._entries("id >= ? AND id < ? ORDER BY id LIMIT 2", prefix, prefix + "\U0010ffff")
        if not found and len(prefix) >= _ENDING_MIN:
            found = self._entries("id GLOB ? LIMIT 2", f"*{prefix}")
        if len(found) > 1 and found[0].id != prefix:
            what = f"several entries begin or end with {prefix}"
            raise SteadError(what, "", "give more of the id", code="entry.ambiguous", exit_code=EXIT_USAGE)
        return found[0] if found else None

    def blob(self, entry_id: str) -> Blob | None:
        """What lies beside an entry's leaf; None when nothing ever did, or it was erased."""
        sql = "SELECT 0, ref, salt, data FROM blobs WHERE ref = (SELECT blob FROM entries WHERE id = ?)"
        if rows := self._rows(sql, entry_id):
            return self._blob(*rows[0])
        sql = "SELECT seq, salt, data FROM bundled_blobs WHERE seq = (SELECT seq FROM entries WHERE id = ?)"
        rows = self._rows(sql, entry_id)
        return self._bundles.blob(*rows[0]) if rows else None

    def tile(self, level: int, index: int) -> bytes | None:
        """The joined hashes of a complete tile; None where there is none yet."""
        with self._guard, self._errors():
            return tables.get_tile(self._need(), level, index)

    def proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion proof of the entry at `index` in the tree of `size` leaves (default: all). ValueError: no such leaf."""
        with self._guard:
            return inclusion_proof(self._log(), index, size)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """The proof that the tree of `old` leaves begins that of `new` (default: all). ValueError: there was no such size."""
        with self._guard:
            return consistency_proof(self._log(), old, new)

    def root_at(self, size: int) -> bytes:
        """The root when there were `size` entries. ValueError: there never were so many."""
        with self._guard:
            return root_at(self._log(), size)

    def kept_checkpoint(self, role: str, name: str) -> tuple[int, bytes] | None:
        """Size and note of a checkpoint kept by `tables.put_checkpoint`."""
        with self._guard, self._errors():
            return tables.get_checkpoint(self._need(), role, name)

    def _restore(self) -> TileTree:
        """The tree from the complete tiles and the last leaves. SteadError `ledger.altered`: something is missing."""
        with self._guard, self._errors():
            db = self._need()
            size = tables.count_entries(db, self.path)
            tail = tables.get_leaves(db, size - size % WIDTH, size, self.path)
            try:
                return TileTree.restore(self._tile, size, leaf_hashes(tail))
            except Malformed as error:
                raise altered(str(error), self.path) from error

    def _tile(self, level: int, index: int) -> bytes:
        hashes = self.tile(level, index)
        if hashes is None:
            raise altered(f"tile {index} of level {level} of the ledger's tree is missing", self.path)
        return hashes

    def _need(self) -> Connection:
        if self._db is None:
            raise SteadError("the ledger is not open just now", "ledger.db", "see stead.log", code="ledger.closed")
        return self._db

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._guard, self._errors():
            return self._need().execute(sql, values).fetchall()

    def _entries(self, where: str, *values: Any, most: int = sys.maxsize) -> tuple[StoredEntry, ...]:
        """The entries that an SQL condition picks, with their leaves; the first of them that have `most` bytes."""
        with self._guard, self._errors():
            db = self._need()
            with contextlib.closing(db.execute(f"SELECT {COLUMNS} FROM entries WHERE {where}", values)) as cursor:  # noqa: S608
                return self._bundles.entries(db, iter(cursor.fetchone, None), most)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise as_stead_error(error, self.path) from error


def signed(tree: TileTree, origin: str, keys: Sequence[SigningKey]) -> bytes:
    """A checkpoint of the tree as it stands, signed by all keys, as the bytes of its note."""
    return format_note(sign_note(Checkpoint(origin, tree.size, tree.root()).text, keys))


def check_edge(tree: TileTree, origin: str, note: bytes, keys: Sequence[VerifierKey], path: Path) -> None:
    """SteadError unless the tree is what the ledger signed last: `ledger.truncated`, `ledger.altered`."""
    try:
        parsed = parse_note(note)
        head = parse_checkpoint(parsed.text)
        good = bool(verified(parsed, keys)) and head.origin == origin
    except Malformed as error:
        raise altered(f"the ledger's own checkpoint can't be read: {error}", path) from error
    if not good:
        raise altered("the ledger's own checkpoint is not signed by its keys", path)
    if tree.size < head.size:
        raise truncated(tree.size, head.size, path)
    if tree.size > head.size:
        raise altered(f"the ledger has {tree.size} entries and signed for {head.size}: some were added behind its back", path)
    if tree.root() != head.root:
        raise altered(f"the ledger's {tree.size} entries have another root than the one that it signed", path)
