"""Proof files (C2SP tlog-proof@v1): a leaf's place, the hashes up to the root, and the signed checkpoint that holds the root.

`prove` is the whole offline check: leaf bytes, a proof and a trust policy in, and what is proven out. It asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from stead.tlog.keys import VerifierKey
from stead.tlog.merkle import HASH_BYTES, check_inclusion, leaf_hash
from stead.tlog.note import NOTE_MAX_BYTES, parse_note
from stead.tlog.policy import TrustPolicy, check_checkpoint
from stead.tlog.strict import Malformed, decimal, decode64, encode64

HEADER: Final = "c2sp.org/tlog-proof@v1"
HASHES_MAX: Final = 63  # the depth of the biggest tree that a checkpoint can name
EXTRA_MAX_BYTES: Final = 65_536
PROOF_MAX_BYTES: Final = NOTE_MAX_BYTES + 2 * EXTRA_MAX_BYTES


class TlogProof(msgspec.Struct, frozen=True):
    """A proof file. `index` counts from 0; `hashes` go from the leaf's sibling up; `checkpoint` is the signed note as it came.

    `extra` is unsigned, so it proves nothing; stead writes none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""


class Proven(msgspec.Struct, frozen=True):
    """What a proof showed: this leaf is at `index` of the log `origin`, of which `size` leaves have the root `root`.

    `logs` are the log's keys that signed it; `witnesses` the policy's names of those who cosigned it, with POSIX seconds.
    """

    origin: str
    index: int
    size: int
    root: bytes
    logs: tuple[VerifierKey, ...]
    witnesses: tuple[tuple[str, int], ...]


def parse_proof(data: bytes) -> TlogProof:
    """Read a proof file; its checkpoint stays unread bytes. Raises Malformed."""
    lines, checkpoint = split_head(data, PROOF_MAX_BYTES, "proof")
    if next(lines) != HEADER:
        raise Malformed(f"proof: the first line is not {HEADER}")
    line = next(lines, "")
    extra = b""
    if line.startswith("extra "):
        extra = _extra(line.removeprefix("extra "))
        line = next(lines, "")
    if not line.startswith("index "):
        raise Malformed("proof: no line with the index")
    return TlogProof(decimal(line.removeprefix("index "), "proof, index"), parse_hashes(lines, "proof"), checkpoint, extra)


def format_proof(proof: TlogProof) -> bytes:
    """The bytes of a proof file."""
    extra = [f"extra {encode64(proof.extra)}"] if proof.extra else []
    lines = [HEADER, *extra, f"index {proof.index}", *map(encode64, proof.hashes)]
    return "\n".join(lines).encode() + b"\n\n" + proof.checkpoint


def prove(leaf: bytes, proof: TlogProof, policy: TrustPolicy) -> Proven:
    """Check that a leaf (its exact bytes) is in a log that the policy trusts, under a checkpoint with the policy's quorum.

    Raises Unproven when a signature, the quorum, the place or the path fails, Malformed when the checkpoint can't be read.
    """
    accepted = check_checkpoint(parse_note(proof.checkpoint), policy)
    head = accepted.checkpoint
    check_inclusion(leaf_hash(leaf), proof.index, head.size, proof.hashes, head.root)
    return Proven(head.origin, proof.index, head.size, head.root, accepted.logs, accepted.witnesses)


def split_head(data: bytes, most: int, where: str) -> tuple[Iterator[str], bytes]:
    """The ASCII lines before the first empty one, and the unread bytes of the checkpoint after it. Raises Malformed."""
    if len(data) > most:
        raise Malformed(f"{where}: {len(data)} bytes are more than {most}")
    head, gap, checkpoint = data.partition(b"\n\n")
    if not gap or not checkpoint:
        raise Malformed(f"{where}: no empty line with a checkpoint after it")
    if not head.isascii():
        raise Malformed(f"{where}: it has other characters than ASCII before the checkpoint")
    return iter(head.decode().split("\n")), checkpoint


def parse_hashes(lines: Iterator[str], where: str) -> tuple[bytes, ...]:
    """One 32-byte hash in base64 a line, at most 63. Raises Malformed."""
    hashes: list[bytes] = []
    for line in lines:
        if len(hashes) == HASHES_MAX:
            raise Malformed(f"{where}: more than {HASHES_MAX} hashes")
        hashes.append(decode64(line, HASH_BYTES, f"{where}, hash {len(hashes) + 1}"))
    return tuple(hashes)


def _extra(text: str) -> bytes:
    data = decode64(text, what="proof, extra")
    if not 0 < len(data) <= EXTRA_MAX_BYTES:
        raise Malformed(f"proof: {len(data)} bytes of extra data; 1 to {EXTRA_MAX_BYTES} are allowed")
    return data
