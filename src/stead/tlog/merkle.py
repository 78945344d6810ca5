"""RFC 6962 §2.1: how a log's leaves become one root, and what proves that a leaf, or an earlier tree, is under it.

Hashes are 32 bytes of SHA-256. The checks follow RFC 9162 §2.1.3.2 and §2.1.4.2 (the same tree, with the algorithms written
out), refuse what has no proof at all (an index outside the tree, an earlier size of 0), and never return a verdict to forget:
they raise `Unproven`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from stead.tlog.strict import Malformed

HASH_BYTES: Final = 32
_PAIR_BYTES: Final = 2 * HASH_BYTES
_PAIR: Final = Struct(f"{_PAIR_BYTES}s")
_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"

EMPTY_ROOT: Final = hashlib.sha256().digest()


class Unproven(Malformed):
    """A proof that does not lead where it should. The message says which claim stays unproven."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf: SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(_LEAF + data).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """`leaf_hash` of many."""
    sha256, prefix = hashlib.sha256, _LEAF
    return [sha256(prefix + data).digest() for data in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(_NODE + left + right).digest()


def joined(hashes: Sequence[bytes]) -> bytes:
    """Hashes one behind the other. Raises ValueError when one is not 32 bytes."""
    if not set(map(len, hashes)) <= {HASH_BYTES}:
        raise ValueError(f"a hash is not {HASH_BYTES} bytes")
    return b"".join(hashes)


def parents(level: bytes) -> bytes:
    """The nodes above a row of joined hashes, an even number of them, joined."""
    sha256, prefix = hashlib.sha256, _NODE
    return b"".join([sha256(prefix + pair).digest() for (pair,) in _PAIR.iter_unpack(level)])


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The tree's root from all its leaf hashes. Raises ValueError when one is not 32 bytes."""
    level = joined(hashes)
    while len(level) > HASH_BYTES:
        paired = len(level) - len(level) % _PAIR_BYTES
        level = parents(level[:paired]) + level[paired:]  # an odd last node moves up as it is
    return level or EMPTY_ROOT


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise Unproven unless the proof leads from the leaf's hash at `index` (from 0) to the root of the tree of `size` leaves."""
    if not 0 <= index < size:
        raise Unproven(f"a tree of {size} leaves has no leaf {index}")
    _whole("the leaf's hash", leaf)
    _whole("the root", root)
    place, last, found = index, size - 1, leaf
    for step in proof:
        _whole("a hash of the proof", step)
        if not last:
            raise Unproven(f"the proof of leaf {index} in {size} has too many hashes")
        if place & 1 or place == last:
            found = node_hash(step, found)
            skip = _zeros(place)
            place, last = place >> skip, last >> skip
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    if last:
        raise Unproven(f"the proof of leaf {index} in {size} has too few hashes")
    if found != root:
        raise Unproven(f"entry {index + 1} of {size} and its hashes lead to another root: the entry or its proof was changed")


def check_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Raise Unproven unless the proof shows the tree of `old_size` leaves to be the beginning of that of `new_size`.

    Nothing is consistent with an old size of 0 here: there is nothing to prove, so a caller that means "the first time"
    decides so itself. The lengths of the roots are the checkpoint parser's to check.
    """
    if not 0 < old_size <= new_size:
        raise Unproven(f"no proof leads from {old_size} leaves to {new_size}")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise Unproven(f"two trees of {new_size} leaves differ" if not proof else "a proof where two sizes are equal")
        return
    older, newer = _replay(old_size, new_size, proof, old_root)
    if older != old_root:
        raise Unproven(f"the first {old_size} of {new_size} leaves have another root than the tree of {old_size}")
    if newer != new_root:
        raise Unproven(f"the proof from {old_size} to {new_size} leads to another new root")


def _replay(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """The roots of both trees as the proof builds them. A complete old tree is its own first step."""
    steps = list(proof)
    for step in steps:
        _whole("a hash of the proof", step)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise Unproven(f"the proof from {old_size} to {new_size} is empty")
    place, last = old_size - 1, new_size - 1
    skip = _zeros(~place)
    place, last = place >> skip, last >> skip
    older = newer = steps[0]
    for step in steps[1:]:
        if not last:
            raise Unproven(f"the proof from {old_size} to {new_size} has too many hashes")
        if place & 1 or place == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            skip = _zeros(place)
            place, last = place >> skip, last >> skip
        else:
            newer = node_hash(newer, step)
        place, last = place >> 1, last >> 1
    if last:
        raise Unproven(f"the proof from {old_size} to {new_size} has too few hashes")
    return older, newer


def _zeros(value: int) -> int:
    """How many zero bits a number ends with; 0 for the number 0, which has no end."""
    return (value & -value).bit_length() - 1 if value else 0


def _whole(what: str, value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise Unproven(f"{what} has {len(value)} bytes where {HASH_BYTES} belong")
