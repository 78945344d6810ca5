"""Proofs of a ledger, made by stead, for others to judge."""

from __future__ import annotations

from random import Random

from stead.tlog.checkpoint import Checkpoint
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, ED25519, new_signing_key
from stead.tlog.merkle import leaf_hash
from stead.tlog.note import format_note, sign_note
from stead.tlog.policy import LogLine, TrustPolicy, WitnessLine, format_policy
from stead.tlog.proof import TlogProof, format_proof
from stead.tlog.tiles import TileTree, consistency_proof, inclusion_proof, root_at
from tests.independent.mutations import Proof
from tests.independent.programs import Case

SEED, WITNESS_SEED = bytes(range(32)), bytes(range(32, 64))
COSIGNED_S = 1_795_000_000


class Log:
    """A log of `count` entries and what may be asked of it: with a witness's cosignature where `witnessed`."""

    def __init__(self, count: int, witnessed: bool) -> None:
        self.leaves = [b'{"id":"%d"}' % at for at in range(count)]
        self.key = new_signing_key("host1/ledger", ED25519, SEED)
        self.witness = new_signing_key("host2/witness", COSIGNATURE, WITNESS_SEED) if witnessed else None
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.tree = TileTree(lambda level, index: self.tiles[level, index])
        for tile in self.tree.append([leaf_hash(leaf) for leaf in self.leaves]):
            self.tiles[tile.level, tile.index] = tile.hashes

    @property
    def policy(self) -> bytes:
        """Whom to trust."""
        witnesses = (WitnessLine("host2", self.witness.verifier),) if self.witness else ()
        return format_policy(TrustPolicy((LogLine(self.key.verifier),), witnesses, (), "host2" if self.witness else "none"))

    def checkpoint(self, size: int) -> bytes:
        """Signed, and cosigned."""
        text = Checkpoint(self.key.name, size, root_at(self.tree, size)).text
        note = sign_note(text, [self.key])
        if self.witness:
            note = note._replace(signatures=(*note.signatures, cosign(text, self.witness, COSIGNED_S)))
        return format_note(note)

    def proof(self, index: int, size: int) -> Proof:
        """The three files of an entry."""
        proof = TlogProof(index, tuple(inclusion_proof(self.tree, index, size)), self.checkpoint(size))
        return Proof(self.leaves[index], format_proof(proof), self.policy, SEED)

    def proofs(self, count: int) -> list[Proof]:
        """Of entries all over the log, at sizes all over its life."""
        random = Random(count)
        sizes = [random.randrange(2, len(self.leaves) + 1) for _ in range(count)]
        return [self.proof(random.randrange(size), size) for size in sizes]

    def growth(self, count: int) -> list[Case]:
        """Consistency: two sizes, and the hashes between them."""
        random = Random(count)
        pairs = [sorted(random.sample(range(1, len(self.leaves) + 1), 2)) for _ in range(count)]
        return [
            {
                "old": self.checkpoint(old),
                "checkpoint": self.checkpoint(new),
                "hashes": consistency_proof(self.tree, old, new),
                "policy": self.policy,
            }
            for old, new in pairs
        ]
