"""Where a verifier gets a log from: a running agent, the store itself, or an exported folder.

A source hands over exact bytes and is believed in nothing: whoever asks recomputes hashes, roots and signatures. That is why
no source can answer "is it sound?".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stead.model.ledger_messages import BlobList, EntryPage, LedgerHead, ProofBundle, SearchEntries
from stead.model.record import StoredEntry


class LogSource(Protocol):
    """A log to verify or to copy. SteadError from any method: it can't be read."""

    @property
    def place(self) -> str:
        """Where it is, for a person: a socket, a file, a folder."""
        ...

    @property
    def keeps_blobs(self) -> bool:
        """Is what lies beside leaves here too? A copy may have been made without."""
        ...

    def head(self) -> LedgerHead:
        """The newest signed checkpoint, the keys that the log says are its own, and its trust policy."""
        ...

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        """Entries of the indexes [start, end) in order, with their exact leaves; fewer at the end, or where they are large."""
        ...

    def blobs(self, start: int, end: int) -> BlobList:
        """What is kept beside those leaves."""
        ...

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """The hashes that the log keeps of a tile, complete (width 256) or not; None where this source does not show it."""
        ...


class LedgerSource(LogSource, Protocol):
    """A ledger with all that can be asked of it."""

    def find(self, query: SearchEntries) -> EntryPage:
        """Entries that meet a query, newest first."""
        ...

    def bundle(self, thing: str) -> ProofBundle:
        """The proof of an entry, or of what speaks for a run or finding."""
        ...
