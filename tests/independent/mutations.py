"""What a forger may change in a proof: each function takes a good proof and gives one that must be refused.

They work on the text of the C2SP formats, without stead's own parsers, and change what the text means, never only how it is
spelled.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

HEADER = "c2sp.org/tlog-proof@v1"
SIGNATURE_BYTES = 64


class Proof(NamedTuple):
    """The three files, and the forger's copy of the log's own key (its 32-byte seed)."""

    leaf: bytes
    proof: bytes
    policy: bytes
    seed: bytes = b""

    @property
    def case(self) -> dict[str, bytes]:
        """As the programs read it."""
        return {"leaf": self.leaf, "proof": self.proof, "policy": self.policy}


class Parts(NamedTuple):
    """A proof file taken apart. `signatures` are (name, key id and signature)."""

    index: int
    hashes: tuple[bytes, ...]
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def text(self) -> str:
        """What the log signed."""
        return f"{self.origin}\n{self.size}\n{code(self.root)}\n"


def code(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def taken_apart(proof: bytes) -> Parts:
    """Read a proof file that is known to be good."""
    head, text, signatures = proof.decode().split("\n\n")
    magic, index, *hashes = head.split("\n")
    origin, size, root = text.split("\n")
    assert magic == HEADER
    signed = tuple((line.split(" ")[1], base64.b64decode(line.split(" ")[2])) for line in signatures.splitlines())
    path = tuple(base64.b64decode(line) for line in hashes)
    return Parts(int(index.removeprefix("index ")), path, origin, int(size), base64.b64decode(root), signed)


def put_together(parts: Parts) -> bytes:
    """The proof file."""
    head = [HEADER, f"index {parts.index}", *map(code, parts.hashes), "", ""]
    signatures = "".join(f"— {name} {code(data)}\n" for name, data in parts.signatures)
    return ("\n".join(head) + parts.text + "\n" + signatures).encode()


def one_bit(data: bytes, random: Random, start: int = 0) -> bytes:
    """One bit of the bytes from `start` on, changed."""
    at = random.randrange(8 * start, 8 * len(data))
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def signed_by(seed: bytes, parts: Parts) -> Parts:
    """Signed anew by the log: the first signature is replaced, those of witnesses stay."""
    (name, data), *others = parts.signatures
    signature = crypto_sign(parts.text.encode(), crypto_sign_seed_keypair(seed)[1])[:SIGNATURE_BYTES]
    return parts._replace(signatures=((name, data[:4] + signature), *others))


Mutation = Callable[[Proof, Proof, Random], Proof]
Change = Callable[[Parts, Random], Parts]


def in_parts(change: Change) -> Mutation:
    """A change of what the proof file says."""
    return lambda good, _, random: good._replace(proof=put_together(change(taken_apart(good.proof), random)))


def a_hash(parts: Parts, random: Random) -> Parts:
    at = random.randrange(len(parts.hashes))
    return parts._replace(hashes=(*parts.hashes[:at], one_bit(parts.hashes[at], random), *parts.hashes[at + 1 :]))


def a_hash_less(parts: Parts, random: Random) -> Parts:
    at = random.randrange(len(parts.hashes))
    return parts._replace(hashes=(*parts.hashes[:at], *parts.hashes[at + 1 :]))


def a_hash_more(parts: Parts, random: Random) -> Parts:
    at = random.randrange(len(parts.hashes) + 1)
    return parts._replace(hashes=(*parts.hashes[:at], random.randbytes(32), *parts.hashes[at:]))


def order(parts: Parts, random: Random) -> Parts:
    if len(parts.hashes) < 2:
        return a_hash(parts, random)
    at = random.randrange(len(parts.hashes) - 1)
    return parts._replace(hashes=(*parts.hashes[:at], parts.hashes[at + 1], parts.hashes[at], *parts.hashes[at + 2 :]))


def other_index(parts: Parts, random: Random) -> Parts:
    return parts._replace(index=random.choice([each for each in range(parts.size + 1) if each != parts.index]))


def other_size(parts: Parts, random: Random) -> Parts:
    return parts._replace(size=random.choice((parts.size - 1, parts.size + 1, 2 * parts.size)))


def other_root(parts: Parts, random: Random) -> Parts:
    return parts._replace(root=one_bit(parts.root, random))


def other_origin(parts: Parts, _: Random) -> Parts:
    name = parts.origin + ".example"
    return parts._replace(origin=name, signatures=((name, parts.signatures[0][1]), *parts.signatures[1:]))


def log_signature(parts: Parts, random: Random) -> Parts:
    (name, data), *others = parts.signatures
    return parts._replace(signatures=((name, one_bit(data, random, start=4)), *others))


def key_id(parts: Parts, random: Random) -> Parts:
    (name, data), *others = parts.signatures
    return parts._replace(signatures=((name, one_bit(data[:4], random) + data[4:]), *others))


def other_leaf(good: Proof, other: Proof, _: Random) -> Proof:
    return good._replace(leaf=other.leaf)


def other_proof(good: Proof, other: Proof, _: Random) -> Proof:
    return good._replace(proof=other.proof)


def leaf(good: Proof, _: Proof, random: Random) -> Proof:
    return good._replace(leaf=one_bit(good.leaf, random))


def root_signed_anew(good: Proof, _: Proof, random: Random) -> Proof:
    """The log itself signs another root: only the Merkle path can tell."""
    return good._replace(proof=put_together(signed_by(good.seed, other_root(taken_apart(good.proof), random))))


def by_another_key(good: Proof, _: Proof, random: Random) -> Proof:
    """Somebody else signs, under the log's name and key id."""
    return good._replace(proof=put_together(signed_by(random.randbytes(32), taken_apart(good.proof))))


def cosignature(parts: Parts, random: Random) -> Parts:
    """A witness's time or signature."""
    first, (name, data), *others = parts.signatures
    return parts._replace(signatures=(first, (name, one_bit(data, random, start=4)), *others))


def no_cosignature(parts: Parts, _: Random) -> Parts:
    return parts._replace(signatures=parts.signatures[:1])


def no_log_signature(parts: Parts, _: Random) -> Parts:
    return parts._replace(signatures=parts.signatures[1:])


OF_THE_PATH: tuple[Mutation, ...] = (
    leaf,
    other_leaf,
    other_proof,
    root_signed_anew,
    by_another_key,
    *map(in_parts, (a_hash, a_hash_less, a_hash_more, order, other_index, other_size, other_root, other_origin)),
    *map(in_parts, (log_signature, key_id, no_log_signature)),
)
OF_WITNESSES: tuple[Mutation, ...] = tuple(map(in_parts, (cosignature, no_cosignature)))


def forged(good: Sequence[Proof], kinds: Sequence[Mutation], seed: int) -> list[Proof]:
    """One forgery of each proof, by each kind in turn."""
    random = Random(seed)
    return [kinds[at % len(kinds)](each, another(good, at), random) for at, each in enumerate(good)]


def another(good: Sequence[Proof], at: int) -> Proof:
    """A proof of another entry than this one's."""
    return next(each for each in (*good[at:], *good) if each.leaf != good[at].leaf)
