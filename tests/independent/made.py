"""Proofs of a real ledger, made by stead, for others to judge."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from stead.flow import record
from stead.ledger.bundle import bundle as prove_entry
from stead.ledger.bundle import policy_of
from stead.ledger.export import export
from stead.ledger.store import LedgerStore
from stead.ledger.stored import StoreSource
from stead.ledger.tables import put_checkpoint
from stead.ledger.witness import cosigned_note
from stead.testing import FakeClock
from stead.tlog.checkpoint import parse_checkpoint
from stead.tlog.keys import COSIGNATURE, VerifierKey, new_signing_key, parse_signing_key, parse_vkey
from stead.tlog.note import parse_note
from stead.tlog.policy import TrustPolicy, WitnessLine, format_policy
from stead.tlog.witness import AddCheckpoint, Held, answer, cosignatures, format_request
from tests.flow.kit import ANN, NOW, counter
from tests.independent.mutations import Proof
from tests.independent.programs import Case

BATCH_MAX = 20
COSIGNED_S = 1_795_000_000
WITNESS = "host2"
FILLS = ("", "α β γ", "x" * 700, 'quoted "\\" and \x07')


class Log:
    """A ledger of `count` entries, written in batches of several sizes, each of which left its signed checkpoint; what is old
    in it is packed.

    Where it is `witnessed`, a witness has cosigned every checkpoint, as it would for another host.
    """

    def __init__(self, folder: Path, count: int, *, witnessed: bool = True) -> None:
        self.store = LedgerStore.open(folder / "ledger.db", "host1", FakeClock())
        self._witness = new_signing_key(f"{WITNESS}/witness", COSIGNATURE, bytes(range(32))) if witnessed else None
        self.checkpoints: list[bytes] = []
        asyncio.run(self._fill(count))
        (secret,) = (folder / "keys").glob("*.key")
        self.seed = parse_signing_key(secret.read_text().strip()).seed

    @property
    def _keys(self) -> list[VerifierKey]:
        return [parse_vkey(text) for text in self.store.vkeys()]

    async def _fill(self, count: int) -> None:
        random, stamp = Random(count), record.Stamp("host1", NOW, counter("e"))
        while self.store.size < count:
            batch = min(random.randint(1, BATCH_MAX), count - self.store.size)
            numbers = range(self.store.size, self.store.size + batch)
            await self.store.commit([self._entry(number, stamp) for number in numbers])
            self.checkpoints.append(self._cosigned(self.store.checkpoint))
        while (await self.store.tidy()).groups:
            pass
        if self._witness is not None:
            kept = ("cosigned", "", self.store.size, self.checkpoints[-1])
            await self.store.commit((), work=lambda db: put_checkpoint(db, *kept))

    def _entry(self, number: int, stamp: record.Stamp) -> record.Entry:
        bulk = None if number % 3 else {"title": f"detail {number}"}
        return record.entry("test.noted", stamp, {"number": number, "text": FILLS[number % len(FILLS)]}, subject="s", bulk=bulk)

    def _cosigned(self, note: bytes) -> bytes:
        """The checkpoint with the witness's signature, which it gives only for a tree that grew from the one before."""
        if self._witness is None:
            return note
        before = parse_checkpoint(parse_note(self.checkpoints[-1]).text) if self.checkpoints else None
        held = Held(before.size, before.root) if before else None
        proof = tuple(self.store.consistency(before.size)) if before else ()
        request = format_request(AddCheckpoint(before.size if before else 0, proof, note))
        told = answer(request, {self.store.origin: self._keys}, lambda _: held, self._witness, COSIGNED_S)
        assert told.status == 200, told.body
        return cosigned_note(note, None, cosignatures(parse_note(note).text, told.body, [self._witness.verifier]))

    @property
    def policy(self) -> TrustPolicy:
        """Whom to trust."""
        if self._witness is None:
            return policy_of(self._keys)
        return policy_of(self._keys, TrustPolicy((), (WitnessLine(WITNESS, self._witness.verifier),), (), WITNESS))

    def proofs(self, count: int) -> list[Proof]:
        """Of entries all over the log, under checkpoints of all its life."""
        random = Random(count)
        made = []
        for _ in range(count):
            note = random.choice(self.checkpoints)
            size = parse_checkpoint(parse_note(note).text).size
            entry = self.store.leaves(index := random.randrange(size), index + 1)[0]
            proven = prove_entry(self.store, entry.id, self.policy, note if self._witness else None)
            assert not proven.note
            made.append(Proof(proven.leaf, proven.proof, proven.policy, self.seed))
        return made

    def growth(self, count: int) -> list[Case]:
        """Consistency proofs: two checkpoints, and the hashes between them."""
        random, policy = Random(count), format_policy(self.policy)
        cases: list[Case] = []
        for _ in range(count):
            old, new = sorted(random.sample(range(len(self.checkpoints)), 2))
            notes = self.checkpoints[old], self.checkpoints[new]
            sizes = [parse_checkpoint(parse_note(note).text).size for note in notes]
            hashes = self.store.consistency(*sizes)
            cases.append({"old": notes[0], "checkpoint": notes[1], "hashes": hashes, "policy": policy})
        return cases

    def rotate(self) -> None:
        """Another key of the log, which is an entry too. Until the overlap ends both sign."""
        asyncio.run(self.store.rotate_key(ANN))

    def export(self, folder: Path) -> None:
        """As `stead ledger export --blobs` writes it."""
        export(StoreSource(self.store, lambda: self.policy), folder, blobs=True)

    def close(self) -> None:
        """Let go of the ledger."""
        self.store.close()
