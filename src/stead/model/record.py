"""The ledger's entry: one transition of the road, already in the form that later becomes a Merkle leaf.

Format: one RFC 8785 (JCS) object of restricted JSON: ASCII member names, integers within ±2^53, no floats (decimal
strings instead), no lone surrogates. `bulk` is kept outside the leaf, in a salted, content-addressed blob: the leaf
holds sha256(16-byte salt ‖ blob), so that erasing the blob breaks no proof.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stead.model.policy import Actor


class Entry(msgspec.Struct, frozen=True):
    """What happened, who made it happen, and which entry caused it."""

    id: str  # uuid7
    type: str  # "finding.opened", "proposal.made", "decision.made", "attempt.made", "infrastructure.…"
    host: str
    ts_ms: int
    actor: Actor
    body: dict[str, Any]
    subject: str = ""  # what it is about: a finding, run or target id; stored as an index, not in the leaf twice
    prev_cause: str = ""
    bulk: bytes | None = None
    v: int = 1
    salt: bytes = b""  # 16 random bytes for what is beside the leaf, where its hash must be known before it is stored


class StoredEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry as the ledger holds it: its position, its exact leaf bytes."""

    seq: int
    id: str
    type: str
    subject: str
    ts_ms: int
    leaf: bytes


def must_be_recorded(topic: str) -> bool:
    """Is this a kind of event that the ledger has, or it did not happen?"""
    return topic.startswith("infrastructure.") or topic in ("metrics.action_recommended", "governance.policy.check")
