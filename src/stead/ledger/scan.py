"""A log without an index (an exported folder) as one that can be searched: read once from end to end, remembered by place.

What is remembered is which entries are about what, and of which type: some hundred bytes an entry. Leaves and what lies
beside them are read again when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import msgspec

from stead.ledger.said import blob_of
from stead.model.errors import SteadError
from stead.model.ledger_messages import BlobList, EntryPage, SearchEntries
from stead.model.record import StoredEntry


class Leaves(Protocol):
    """What is needed of a source: the part of `ledger.source.LogSource` that any log has."""

    @property
    def place(self) -> str:
        """Where it is."""

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        """Entries of the indexes [start, end), in order; fewer where it likes, none beyond the end."""

    def blobs(self, start: int, end: int) -> BlobList:
        """What is kept beside them."""


class Scanned:
    """`why.Log` over any source. Making it reads the log once; SteadError: it can't be read, or an entry is no leaf."""

    def __init__(self, source: Leaves, size: int) -> None:
        self._source = source
        self._types: list[str] = []
        self._subjects: dict[str, list[int]] = {}
        while len(self._types) < size and (entries := source.leaves(len(self._types), size)):
            for entry in entries:
                self._subjects.setdefault(entry.subject, []).append(entry.seq)
                self._types.append(entry.type)

    def find(self, query: SearchEntries) -> EntryPage:
        """Entries that meet type, subject and text of a query, newest first; one answer has all of them, up to its limit."""
        found = []
        for seq in self._places(query):
            entry = self._entry(seq)
            if not query.text or self._holds(query.text, entry):
                found.append(entry)
            if len(found) == query.limit:
                return EntryPage(tuple(found), seq if seq > 1 else 0)
        return EntryPage(tuple(found), 0)

    def blobs(self, start: int, end: int) -> BlobList:
        """What is kept beside leaves."""
        return self._source.blobs(start, end)

    def _places(self, query: SearchEntries) -> Iterator[int]:
        before = query.before or len(self._types) + 1
        places = self._subjects.get(query.subject, []) if query.subject else range(1, len(self._types) + 1)
        for seq in reversed(places):
            if seq < before and fnmatchcase(self._types[seq - 1], query.types or "*"):
                yield seq

    def _entry(self, seq: int) -> StoredEntry:
        found = self._source.leaves(seq - 1, seq)
        if len(found) != 1:
            raise SteadError(f"entry {seq} can't be read any more", self._source.place, "read it again", code="ledger.altered")
        return found[0]

    def _holds(self, text: str, entry: StoredEntry) -> bool:
        wanted = msgspec.json.encode(text.encode("utf-8", "replace").decode())[1:-1].lower()  # as JSON writes it
        if wanted in entry.leaf.lower():
            return True
        return bool(blob_of(entry.leaf)) and any(
            wanted in one.data.lower() for one in self._source.blobs(entry.seq - 1, entry.seq).blobs
        )
