"""What can be checked of a stretch of entries without the rest of the log: their order, columns, form and blobs.

What it gives back is small (a hash a leaf), so that several processes can look at several stretches at once, and one puts the
tree together from what they saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from stead.ledger import refusals
from stead.ledger.gone import ERASED, Erasure, Gone, erasure
from stead.ledger.key_chain import ROTATED
from stead.ledger.leaf import iso
from stead.ledger.source import LogSource
from stead.ledger.strict_leaf import LeafHead, about, heads_of, unfit
from stead.model.ledger_messages import LEAVES_MAX
from stead.model.record import StoredEntry
from stead.tlog.merkle import leaf_hashes


class Seen(msgspec.Struct, frozen=True):
    """A stretch: the hashes of its leaves, fewer than asked for where the log ends; and its changes of the log's key."""

    hashes: list[bytes]
    rotated: tuple[StoredEntry, ...] = ()
    blobs: int = 0  # that match their leaf
    erased: int = 0  # that their leaf names and that are not there
    gone: tuple[Gone, ...] = ()  # the same by name, where the source keeps blobs
    erasures: tuple[Erasure, ...] = ()  # what its entries say was erased
    newest_blob: int = 0  # number of the last entry with a blob that is there


def look(source: LogSource, start: int, end: int, *, deep: bool) -> Seen:
    """Look at the entries of indexes [start, end). SteadError `ledger.altered`: what does not hold, and of which entry."""
    looking = _Looking(source, deep)
    while start < end:
        entries = source.leaves(start, min(start + LEAVES_MAX, end))
        if not entries:
            break
        try:
            looking.take(start, entries)
        except (TypeError, ValueError, OverflowError):
            raise refusals.malformed("a column is of another type", looking.at(_mistyped(entries))) from None
        start += len(entries)
    return Seen(
        looking.hashes,
        tuple(looking.rotated),
        looking.blobs,
        looking.erased,
        tuple(looking.gone),
        tuple(looking.erasures),
        looking.newest_blob,
    )


def _mistyped(entries: Sequence[StoredEntry]) -> int:
    """The first entry with a column of another type, which SQLite allows, or a number that is no time."""
    for entry in entries:
        try:
            iso(msgspec.convert(msgspec.structs.asdict(entry), StoredEntry).ts_ms)
        except (msgspec.ValidationError, OverflowError):
            return entry.seq
    return entries[0].seq


class _Looking:
    """One stretch, as it is read."""

    def __init__(self, source: LogSource, deep: bool) -> None:
        self.source, self.deep = source, deep
        self.hashes: list[bytes] = []
        self.rotated: list[StoredEntry] = []
        self.gone: list[Gone] = []
        self.erasures: list[Erasure] = []
        self.blobs = self.erased = self.newest_blob = 0

    def take(self, start: int, entries: Sequence[StoredEntry]) -> None:
        """Check some entries that follow each other from an index on."""
        first = start + 1
        if [entry.seq for entry in entries] != list(range(first, first + len(entries))):
            missing, found = next((number, one.seq) for number, one in enumerate(entries, first) if one.seq != number)
            raise refusals.altered(f"entry {missing} is missing: number {found} stands in its place", self.source.place)
        leaves = [entry.leaf for entry in entries]
        heads = self._heads(entries, leaves)
        self.hashes += leaf_hashes(leaves)
        if self.deep:
            self._look_deep(entries, heads)

    def at(self, seq: int) -> str:
        """Where an entry is, for a person."""
        return f"{self.source.place}, entry {seq}"

    def _heads(self, entries: Sequence[StoredEntry], leaves: Sequence[bytes]) -> list[LeafHead]:
        """What the leaves say of themselves: the same as the columns beside them. Changes of the log's key are noted."""
        try:
            heads = heads_of(leaves)
        except ValueError:
            heads = [self._head(entry) for entry in entries]
        types = [head.type for head in heads]
        if [entry.id for entry in entries] != [head.id for head in heads] or [entry.type for entry in entries] != types:
            for entry, head in zip(entries, heads, strict=True):
                self._same(entry, {"id": (entry.id, head.id), "type": (entry.type, head.type)})
        if ROTATED in types:
            self.rotated += [entry for entry in entries if entry.type == ROTATED]
        return heads

    def _same(self, entry: StoredEntry, columns: dict[str, tuple[str, str]]) -> None:
        for name, (column, said) in columns.items():
            if column != said:
                raise refusals.altered(f"the column with its {name} says something else than its leaf", self.at(entry.seq))

    def _head(self, entry: StoredEntry) -> LeafHead:
        try:
            return heads_of((entry.leaf,))[0]
        except ValueError as error:
            raise refusals.altered(f"its leaf can't be read: {error}", self.at(entry.seq)) from None

    def _look_deep(self, entries: Sequence[StoredEntry], heads: Sequence[LeafHead]) -> None:
        named: dict[int, Gone] = {}
        for entry, head in zip(entries, heads, strict=True):
            self._same(entry, {"time": (iso(entry.ts_ms), head.ts), "subject": (entry.subject, about(entry.leaf))})
            if why := unfit(entry.leaf):
                raise refusals.altered(f"its leaf is not canonical JSON: {why}", self.at(entry.seq))
            if head.blob:
                named[entry.seq] = Gone(entry.seq, entry.id, head.blob)
            if head.type == ERASED and (found := erasure(entry.seq, entry.leaf)):
                self.erasures.append(found)
        self._check_blobs(named, self._found(entries[0].seq - 1, entries[-1].seq))

    def _check_blobs(self, named: dict[int, Gone], found: dict[int, bytes]) -> None:
        for seq, one in named.items():
            blob = found.pop(seq, None)
            if blob is None:
                self.erased += 1
                self.gone += [one] if self.source.keeps_blobs else []
            elif "sha256:" + hashlib.sha256(blob).hexdigest() != one.blob:
                raise refusals.altered("what is kept beside its leaf is not what the leaf has the hash of", self.at(seq))
            else:
                self.blobs, self.newest_blob = self.blobs + 1, seq
        if found:
            raise refusals.altered("something is kept beside its leaf that the leaf does not name", self.at(min(found)))

    def _found(self, start: int, end: int) -> dict[int, bytes]:
        """What is kept beside the leaves of these indexes: entry number to salt ‖ data."""
        found: dict[int, bytes] = {}
        while start < end:
            answer = self.source.blobs(start, end)
            found.update({blob.seq: blob.salt + blob.data for blob in answer.blobs})
            start = answer.end if answer.end > start else end
        return found
