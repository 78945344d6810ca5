"""What an entry says, from its leaf and what is kept beside it; and what a run was to do, from the run's own entries.

Nothing here needs the present: an exported log says as much as the one of a running agent. Pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from stead.model.change import Attempt, Step
from stead.model.record import StoredEntry
from stead.tlog.merkle import leaf_hash


class Said(msgspec.Struct, frozen=True):
    """One entry, decoded. `beside` is what was kept outside the leaf; `erased`: the leaf names something that is gone."""

    entry: StoredEntry
    body: Mapping[str, Any]
    beside: Any
    erased: bool
    actor: str
    blob: str  # the leaf's name of what is beside it: "sha256:<hex>", salted

    @property
    def kept(self) -> Mapping[str, Any]:
        """What is beside the leaf, where it has members."""
        return self.beside if isinstance(self.beside, Mapping) else {}

    @property
    def reason(self) -> str:
        """What is beside the leaf, where it is a text."""
        return self.beside if isinstance(self.beside, str) else ""

    @property
    def leaf_hash(self) -> str:
        """The leaf's hash in the tree, as receipts write it."""
        return "sha256:" + leaf_hash(self.entry.leaf).hex()

    @property
    def index(self) -> int:
        """Its place in the tree, from 0."""
        return self.entry.seq - 1


class Plan(NamedTuple):
    """What a run was to do, and how its steps went."""

    run_id: str
    playbook: str = ""
    title: str = ""
    steps: tuple[Step, ...] = ()
    impossible: str = ""
    finding: str = ""
    needed: int = 1  # approvals
    approvals: int = 0
    mode: str = ""
    would: str = ""
    attempts: Mapping[str, Attempt] = {}


EMPTY: Final = Plan("")


def blob_of(leaf: bytes) -> str:
    """What the leaf says is beside it; empty when there never was anything. Raises ValueError for what is no leaf."""
    return str(_decoded(leaf).get("blob") or "")


def said(entry: StoredEntry, data: bytes | None) -> Said:
    """An entry decoded, with what is kept beside it (None: nothing, or no more). Raises ValueError for what is no leaf."""
    leaf = _decoded(entry.leaf)
    actor = leaf.get("actor")
    body, beside = leaf.get("body") or {}, _json(data)
    if isinstance(body, dict) and "oversize_bytes" in body and isinstance(beside, dict):
        bulk = beside.get("bulk")
        body, beside = beside.get("body") or body, _json(bulk.encode()) if isinstance(bulk, str) else None
    blob = str(leaf.get("blob") or "")
    by = str(actor.get("id", "")) if isinstance(actor, dict) else ""
    return Said(entry, body if isinstance(body, dict) else {}, beside, bool(blob) and data is None, by, blob)


def plan_of(run_id: str, told: Iterable[Said]) -> Plan:
    """A run's plan from its entries. What they don't say stays empty."""
    plan, attempts = Plan(run_id), dict[str, Attempt]()
    for one in told:
        body = one.body
        if one.entry.type == "proposal.made":
            plan = plan._replace(
                playbook=str(body.get("playbook", "")),
                title=str(one.kept.get("title", "")),
                impossible=str(body.get("impossible") or ""),
                finding=str(body.get("finding") or ""),
                steps=tuple(_converted(body.get("steps") or (), tuple[Step, ...]) or ()),
            )
        elif one.entry.type == "decision.made":
            needed = _converted(body.get("approvals_needed") or 1, int) or 1
            plan = plan._replace(needed=max(1, needed), mode=str(body.get("mode", "")), would=str(body.get("would") or ""))
        elif one.entry.type == "approval.given":
            plan = plan._replace(approvals=plan.approvals + 1)
        elif one.entry.type == "attempt.made":
            attempt = _converted(body.get("attempt"), Attempt)
            if attempt is not None:
                attempts[attempt.id] = attempt
    return plan._replace(attempts=attempts)


def _converted(value: Any, type_: Any) -> Any:
    """A leaf's value as it was before it was written; None when it is another."""
    with contextlib.suppress(msgspec.ValidationError):
        return msgspec.convert(value, type_, strict=False)
    return None


def _decoded(leaf: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(leaf, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"this is no leaf: {error}") from None


def _json(data: bytes | None) -> Any:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None if data is None else msgspec.json.decode(data)
    return None
