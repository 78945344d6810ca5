"""What is gone from beside the leaves must have been erased by an order: an entry `blob.erased` names the entry and its blob.

Whether somebody deleted the row, cut its link to the entry or gave it another name: what the leaf says is there, is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

ERASED: Final = "blob.erased"


class Gone(NamedTuple):
    """An entry whose leaf names a blob that is not there."""

    seq: int
    id: str
    blob: str


class Erasure(NamedTuple):
    """What the entry `blob.erased` of this number says was erased."""

    seq: int
    id: str
    blob: str


class _Body(msgspec.Struct):
    about: str = ""
    blob: str = ""


class _Leaf(msgspec.Struct):
    body: _Body


_leaves: Final = msgspec.json.Decoder(_Leaf)


def erasure(seq: int, leaf: bytes) -> Erasure | None:
    """What an entry `blob.erased` speaks of; None where it names nothing."""
    try:
        body = _leaves.decode(leaf).body
    except (ValueError, RecursionError):
        return None
    return Erasure(seq, body.about, body.blob)


def unexplained(gone: Iterable[Gone], erasures: Iterable[Erasure]) -> Gone | None:
    """The first that no later entry says was erased."""
    said = {(one.id, one.blob): one.seq for one in sorted(erasures)}
    return next((one for one in sorted(gone) if said.get((one.id, one.blob), 0) <= one.seq), None)
