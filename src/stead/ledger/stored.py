"""The store as a source: the agent answers from it at its door, and the command line reads it while no agent runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from stead.ledger import refusals
from stead.ledger.bundle import NO_WITNESS, bundle, policy_of
from stead.ledger.read import LedgerReader
from stead.ledger.search import ANSWER_BYTES
from stead.ledger.witness_store import published
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import LEAVES_MAX, BlobList, EntryPage, LedgerHead, ProofBundle, SearchEntries, StoredBlob
from stead.model.record import StoredEntry
from stead.tlog.keys import parse_vkey
from stead.tlog.policy import TrustPolicy, format_policy, parse_policy
from stead.tlog.strict import Malformed
from stead.tlog.tiles import WIDTH

COSIGNED: Final = ("cosigned", "")  # where the store keeps the newest checkpoint with the policy's quorum


class StoreSource:
    """A ledger's own tables. `witnesses` gives the policy that its operator chose; its log lines are not looked at."""

    def __init__(self, reader: LedgerReader, witnesses: Callable[[], TrustPolicy] = lambda: NO_WITNESS) -> None:
        self.reader, self.witnesses = reader, witnesses

    @property
    def place(self) -> str:
        """The file."""
        return str(self.reader.path)

    @property
    def keeps_blobs(self) -> bool:
        """All that was not erased."""
        return True

    def head(self) -> LedgerHead:
        """The newest durable checkpoint, all keys, and the policy that goes with proofs."""
        reader = self.reader
        if not reader.checkpoint:
            raise refusals.altered("the ledger's own checkpoint is missing", self.place)
        try:
            vkeys, keys, cosigned = reader.vkeys(), reader.keys(), reader.kept_checkpoint(*COSIGNED)
            policy = format_policy(self.policy(vkeys))
        except (Malformed, TypeError) as error:
            raise refusals.malformed(str(error), self.place) from None
        note = cosigned[1] if cosigned else b""
        witness = next((key.text for key in published(reader.path.parent / "keys")), "")
        return LedgerHead(reader.checkpoint, vkeys, reader.size, reader.origin, policy, keys, note, witness)

    def policy(self, vkeys: Sequence[str]) -> TrustPolicy:
        """Whose signatures count under this log's proofs."""
        return policy_of([parse_vkey(text) for text in vkeys], self.witnesses())

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        """Entries of [start, end), 512 at most, and fewer where they are large."""
        return self.reader.leaves(start, min(end, start + LEAVES_MAX), ANSWER_BYTES)

    def blobs(self, start: int, end: int) -> BlobList:
        """What is kept beside them; at least the first, however large."""
        end = min(end, start + LEAVES_MAX)
        found: list[StoredBlob] = []
        total = 0
        for index, blob in self.reader.blobs(start, end, ANSWER_BYTES):
            total += len(blob.data)
            if found and total > ANSWER_BYTES:
                return BlobList(tuple(found), index)
            found.append(StoredBlob(index + 1, blob.salt, blob.data))
        return BlobList(tuple(found), end)

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """A complete tile; of incomplete ones nothing is kept."""
        return (self.reader.tile(level, index) or b"") if width == WIDTH else None

    def find(self, query: SearchEntries) -> EntryPage:
        """One stretch of a search."""
        return self.reader.search(query)

    def bundle(self, thing: str) -> ProofBundle:
        """A proof under the newest checkpoint, or the newest cosigned one where the policy asks for witnesses."""
        cosigned = self.reader.kept_checkpoint(*COSIGNED)
        return bundle(self.reader, thing, self.policy(self.reader.vkeys()), cosigned[1] if cosigned else None)


def read_witnesses(path: str) -> TrustPolicy:
    """The policy file that the configuration names in `ledger.policy`; none for an empty name. SteadError: it can't be read."""
    if not path:
        return NO_WITNESS
    try:
        return parse_policy(Path(path).read_bytes())
    except (OSError, Malformed) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        what, fix = f"the witnesses' policy can't be read: {why}", "see docs/witness.md for its form"
        raise SteadError(what, path, fix, code="config.witness", exit_code=EXIT_USAGE) from None
