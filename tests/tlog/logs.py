"""A small signed log with witnesses, built from fixed seeds, for tests that need good C2SP files to start from."""

from __future__ import annotations

from functools import lru_cache

from stead.tlog.checkpoint import Checkpoint
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, ED25519, SigningKey, new_signing_key
from stead.tlog.merkle import leaf_hash
from stead.tlog.note import Note, format_note, sign_note
from stead.tlog.policy import Group, LogLine, TrustPolicy, WitnessLine
from stead.tlog.proof import TlogProof
from tests.tlog import rfc6962

ORIGIN = "host.example/ledger"
LOG = new_signing_key(ORIGIN, ED25519, b"log-".ljust(32, b"."))
WITNESSES = tuple(new_signing_key(f"w{n}.example/witness", COSIGNATURE, b"%d" % n * 32) for n in (1, 2, 3))
TIME_S = 1_763_720_000
LEAVES = tuple(b'{"id":"%d"}' % n for n in range(11))


def checkpoint(size: int = len(LEAVES), leaves: tuple[bytes, ...] = LEAVES) -> Checkpoint:
    """The head of the log's first `size` leaves."""
    return Checkpoint(ORIGIN, size, rfc6962.mth(leaves[:size]))


def signed(head: Checkpoint, witnesses: tuple[SigningKey, ...] = (), log: SigningKey = LOG) -> Note:
    """A checkpoint signed by the log, and cosigned."""
    note = sign_note(head.text, [log])
    return Note(note.text, note.signatures + tuple(cosign(head.text, key, TIME_S) for key in witnesses))


def policy(quorum: int = 2, witnesses: tuple[SigningKey, ...] = WITNESSES) -> TrustPolicy:
    """One log, and as many of the witnesses as `quorum` says."""
    lines = tuple(WitnessLine(f"w{n}", key.verifier) for n, key in enumerate(witnesses, 1))
    logs = (LogLine(LOG.verifier, "https://host.example/"),)
    if not quorum:
        return TrustPolicy(logs, lines, (), "none")
    return TrustPolicy(logs, lines, (Group("g", quorum, tuple(line.name for line in lines)),), "g")


@lru_cache(maxsize=64)
def proven(index: int = 6, witnesses: tuple[SigningKey, ...] = WITNESSES[:2]) -> TlogProof:
    """A good proof of one leaf, by default with the cosignatures that `policy()` asks for."""
    note = format_note(signed(checkpoint(), witnesses))
    return TlogProof(index, tuple(rfc6962.path(index, LEAVES)), note)


def hashes() -> list[bytes]:
    """The leaves' hashes."""
    return [leaf_hash(leaf) for leaf in LEAVES]
