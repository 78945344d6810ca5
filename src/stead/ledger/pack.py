"""Old entries take less room: their leaves are packed in groups, and what has lain for long leaves the tables of the present.

A complete group of 256 leaves becomes one row of `bundles`: zlib (RFC 1950) over an entry bundle of C2SP tlog-tiles, so the exact
bytes come back. The rows of `entries` stay, with their columns and an empty leaf. What is kept beside those leaves moves
to `bundled_blobs`, each deflated by itself (RFC 1951), so that each can still be erased. Runs and findings that ended long
ago are dropped from their tables: their entries keep them. Nothing here touches the tree, and all of it happens in the
transaction that the caller has open: the power may fail at any moment.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from stead.ledger.connect import Connection
from stead.ledger.errors import altered
from stead.ledger.leaf import BLOB_MAX_BYTES, LEAF_MAX_BYTES, Blob, blob_of
from stead.ledger.tables import typed
from stead.model.errors import SteadError
from stead.model.record import StoredEntry
from stead.tlog.strict import Malformed
from stead.tlog.tiles import WIDTH, bundle, unbundle

RECENT: Final = WIDTH  # so many of the newest entries are never packed: most of what is read is among them
GROUPS_A_CALL: Final = 2  # some 15 ms of CPU; a busy host fills a group in two hours
ROWS_A_CALL: Final = 200
BUNDLE_MAX_BYTES: Final = WIDTH * (LEAF_MAX_BYTES + 2)
KEEP_DAYS: Final = 90.0  # how long runs and findings stay in their tables after they ended
_KEEP_BOUNDS: Final = (1.0, 36_500.0)  # budgets count the runs of the last hour
_DAY_MS: Final = 86_400_000
_DEFLATE: Final = -15  # window bits: RFC 1951 without a header
_LEVEL: Final = 9


class Tidied(NamedTuple):
    """What one call did."""

    groups: int = 0
    runs: int = 0
    findings: int = 0


def kept_ms(keep_days: float) -> int:
    """How long runs and findings are kept for so many days, in ms: at least for a day, and a hundred years at most."""
    low, high = _KEEP_BOUNDS
    return round(min(max(low, keep_days), high) * _DAY_MS)


def tidy(db: Connection, path: Path, before_ms: int) -> Tidied:
    """Pack the next complete groups, and drop runs and findings that ended before a time (Unix ms). Bounded work a call.

    Raises sqlite3.Error; SteadError `ledger.altered` when an entry of the group is missing.
    """
    db.execute("PRAGMA secure_delete=ON").fetchall()  # what is erased later must not be left in a free page by a move
    size = int(db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0])
    first = next_group(db)
    last = min((size - RECENT) // WIDTH, first + GROUPS_A_CALL)
    for group in range(first, last):
        _pack(db, path, group)
    return Tidied(max(0, last - first), _drop_runs(db, before_ms), _drop_findings(db, before_ms))


def next_group(db: Connection) -> int:
    """How many groups are packed: they are the first ones, without a gap."""
    return int(db.execute("SELECT coalesce(max(place) + 1, 0) FROM bundles").fetchone()[0])


def _pack(db: Connection, path: Path, group: int) -> None:
    """Move one group. Its rows are deleted and inserted anew: SQLite joins half-empty pages only then."""
    start, end = group * WIDTH, (group + 1) * WIDTH
    rows = db.execute(
        "SELECT seq, id, type, subject, ts_ms, leaf, blob FROM entries WHERE seq > ? AND seq <= ? ORDER BY seq", (start, end)
    ).fetchall()
    if len(rows) != WIDTH:
        raise altered(f"of entries {start + 1} to {end}, {WIDTH - len(rows)} are missing", path)
    data = zlib.compress(bundle([typed(row[5], bytes, path) for row in rows]), _LEVEL)
    db.execute("INSERT INTO bundles VALUES (?, ?)", (group, data))
    refs = [(row[0], row[6]) for row in rows if row[6] is not None]
    for seq, ref in refs:
        found = db.execute("SELECT salt, data FROM blobs WHERE ref = ?", (ref,)).fetchone()
        if found is not None:
            salt, beside = (typed(value, bytes, path) for value in found)
            db.execute("INSERT INTO bundled_blobs VALUES (?, ?, ?)", (seq, salt, deflated(beside)))
    db.executemany("DELETE FROM blobs WHERE ref = ?", [(ref,) for _, ref in refs])
    db.execute("DELETE FROM entries WHERE seq > ? AND seq <= ?", (start, end))
    db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, x'', NULL)", [row[:5] for row in rows])


def _drop_runs(db: Connection, before_ms: int) -> int:
    """Final runs with their approvals, but for those of a finding that is still open: decisions depend on what was tried."""
    rows = db.execute(
        "SELECT id FROM runs WHERE final AND updated_ms < ? AND (finding IS NULL OR finding NOT IN"
        " (SELECT id FROM findings WHERE cleared_ms IS NULL)) ORDER BY updated_ms LIMIT ?",
        (before_ms, ROWS_A_CALL),
    ).fetchall()
    db.executemany("DELETE FROM approvals WHERE proposal = ?", rows)
    db.executemany("DELETE FROM runs WHERE id = ?", rows)
    return len(rows)


def _drop_findings(db: Connection, before_ms: int) -> int:
    """Findings that cleared."""
    rows = db.execute(
        "SELECT id FROM findings WHERE cleared_ms < ? ORDER BY cleared_ms LIMIT ?", (before_ms, ROWS_A_CALL)
    ).fetchall()
    db.executemany("DELETE FROM findings WHERE id = ?", rows)
    return len(rows)


def deflated(data: bytes) -> bytes:
    """One blob as it is kept in `bundled_blobs`."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _DEFLATE)
    return packer.compress(data) + packer.flush()


def inflated(data: bytes) -> bytes:
    """And back. Raises zlib.error."""
    return _unpack(data, BLOB_MAX_BYTES, _DEFLATE)


def _unzipped(data: bytes) -> bytes:
    """A bundle, which can't be longer than its leaves can be."""
    return _unpack(data, BUNDLE_MAX_BYTES, zlib.MAX_WBITS)


def _unpack(data: bytes, most: int, window_bits: int) -> bytes:
    """No more than so many bytes: a row that somebody else wrote must not fill the memory. Raises zlib.error."""
    unpacker = zlib.decompressobj(window_bits)
    found = unpacker.decompress(data, most + 1)
    if len(found) > most or not unpacker.eof or unpacker.unused_data:
        raise zlib.error(f"it is not one whole stream of {most} bytes at most")
    return found


class Bundles:
    """Reads what was packed. The bundle that was unpacked last is kept: readers go from one entry to the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group, self._leaves = -1, list[bytes]()

    def entries(self, db: Connection, rows: Iterable[Sequence[Any]], most: int = sys.maxsize) -> tuple[StoredEntry, ...]:
        """Entries from their columns (seq, id, type, subject, ts_ms, leaf), the first of them whose leaves have `most` bytes.

        SteadError `ledger.altered`: it can't be unpacked.
        """
        found, group, leaves = list[StoredEntry](), -1, list[bytes]()
        for seq, id_, type_, subject, ts_ms, leaf in rows:
            if type(leaf) is not bytes:
                raise altered(f"the leaf of entry {seq} is no bytes", self.path)
            if not leaf:
                if (seq - 1) // WIDTH != group:
                    group = (seq - 1) // WIDTH
                    leaves = self._unpacked(db, group)
                leaf = leaves[(seq - 1) % WIDTH]
            most -= len(leaf)
            if found and most < 0:
                break
            found.append(StoredEntry(seq, id_, type_, subject, ts_ms, leaf))
        return tuple(found)

    def blob(self, seq: int, salt: bytes, data: bytes) -> Blob:
        """What lies beside an entry, from its row in `bundled_blobs`. SteadError `ledger.altered`: it can't be unpacked."""
        try:
            return blob_of(typed(salt, bytes, self.path), inflated(typed(data, bytes, self.path)))
        except zlib.error as error:
            raise altered(f"what lies beside entry {seq} can't be unpacked: {error}", self.path) from error

    def forget(self) -> None:
        """Before a file is read anew that may have changed."""
        self._group, self._leaves = -1, []

    def _unpacked(self, db: Connection, group: int) -> list[bytes]:
        if group != self._group:
            row = db.execute("SELECT data FROM bundles WHERE place = ?", (group,)).fetchone()
            try:
                leaves = unbundle(_unzipped(typed(row[0], bytes, self.path))) if row else []
            except (zlib.error, Malformed) as error:
                raise self._altered(group, str(error)) from error
            if len(leaves) != WIDTH:
                raise self._altered(group, f"{len(leaves)} of {WIDTH} are there")
            self._group, self._leaves = group, leaves
        return self._leaves

    def _altered(self, group: int, why: str) -> SteadError:
        return altered(f"the packed leaves of entries {group * WIDTH + 1} to {(group + 1) * WIDTH}: {why}", self.path)
