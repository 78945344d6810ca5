"""The receipt of a run: one leaf that says all that led to a change, what it was, what came of it, and how to put it back.

It names every other entry of the run with the hash of its leaf (RFC 6962, `leaf_hash`), so a proof of this one leaf binds
them all. Issued in the transaction in which the run's verdict stands, and again when the run becomes final, if it touched
anything: then it says which receipt it supersedes. Pure: what is stored comes as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stead.flow.record import AGENT, Stamp, entry
from stead.ledger.leaf import LEAF_MAX_BYTES, canonical, leaf
from stead.model.change import Run
from stead.model.observe import Now
from stead.model.record import Entry, StoredEntry
from stead.tlog.merkle import leaf_hash

ISSUED: Final = "receipt.issued"
BINDS: Final = (
    *("finding.opened", "proposal.made", "metrics.action_recommended", "decision.made", "governance.policy.check"),
    *("approval.given", "approval.denied", "approval.expired", "attempt.made", "receipt.made", "conflict.seen"),
    *("run.adjusted", "verdict.made", "hold.made", ISSUED),
)
MANY: Final = (
    "governance.policy.check",
    "run.adjusted",
    "attempt.made",
    "receipt.made",
)  # left out first, in this order, where room is short
STORED_MAX: Final = 1000
DETAIL_MAX_BYTES: Final = 40_000  # above it the steps are told by their own leaves alone
ROOM_BYTES: Final = LEAF_MAX_BYTES - 2_000  # what surrounds a body takes some 500
STANDS: Final = frozenset(("held", "kept"))


class Bound(NamedTuple):
    """Another entry of the run, by id, type and the hash of its leaf ("sha256:<hex>")."""

    id: str
    type: str
    leaf: str


def due(run: Run, entries: Sequence[Entry]) -> bool:
    """Do these entries take the run to where it gets a receipt: a verdict that stands, or its end after it touched something?

    A further try to put it back that failed is no end.
    """
    types = {one.type for one in entries if one.subject == run.id}
    stands = "verdict.made" in types and run.state in STANDS
    again = run.state == "undo_failed" and run.undo_tries > 0  # the first failure has one, and so will its end
    return f"run.{run.state}" in types and (stands or (run.final and bool(run.attempts) and not again))


def issued(
    run: Run, entries: Sequence[Entry], stored: Sequence[StoredEntry], fsyncs: int, new_id: Callable[[], str], older: int = 0
) -> Entry:
    """The receipt of a run. `entries` are committed with it, and have their salts; `stored` are durable: the run's, and its
    finding's. `fsyncs` is how many transactions carried the run, this one with them; `older` how many entries of the run are
    durable and not among the `stored`, for there are too many."""
    last = entries[-1]
    stamp = Stamp(last.host, Now(last.ts_ms, 0), new_id, AGENT)
    former = [one for one in stored if one.type == ISSUED]
    body = _body(run, stored, fsyncs)
    if len(canonical(body)) > DETAIL_MAX_BYTES:
        body = _shortened(body)
    body["supersedes"] = max(former, key=lambda one: one.seq).id if former else ""
    bound, left_out = _fitting(bind(entries, stored), ROOM_BYTES - len(canonical(body)))
    body |= {"entries": [one._asdict() for one in bound], "entries_left_out": left_out + older}
    bulk = {"reason": run.reason, "title": run.proposal.title}
    return entry("receipt.issued", stamp, body, subject=run.id, cause=last.id, bulk=bulk)


def bind(entries: Sequence[Entry], stored: Sequence[StoredEntry]) -> list[Bound]:
    """The run's other entries in their order: what is durable, then what goes with the receipt."""
    ordered = sorted((one for one in stored if one.type in BINDS), key=lambda one: one.seq)
    now = [Bound(one.id, one.type, hashed(leaf(one, one.salt)[0])) for one in entries]
    return [*(Bound(one.id, one.type, hashed(one.leaf)) for one in ordered), *now]


def hashed(data: bytes) -> str:
    """The hash of a leaf as a receipt writes it."""
    return "sha256:" + leaf_hash(data).hex()


def _fitting(bound: Sequence[Bound], room: int) -> tuple[list[Bound], int]:
    """As many as fit into so many bytes, the weightiest kinds first; and how many do not."""
    kept: set[Bound] = set()
    for one in sorted(bound, key=lambda one: -MANY.index(one.type) if one.type in MANY else -len(MANY)):
        room -= len(canonical(one._asdict())) + 1
        if room < 0:
            break
        kept.add(one)
    fitting = [one for one in bound if one in kept]
    return fitting, len(bound) - len(fitting)


def _body(run: Run, stored: Sequence[StoredEntry], fsyncs: int) -> dict[str, Any]:
    proposal, decision = run.proposal, run.decision
    return {
        "approvals": _approvals(run),
        "catalog_version": proposal.catalog_version,
        "cost": {
            "cpu_s": round(sum(one.cpu_s for one in run.receipts), 6),
            "fsyncs": fsyncs,
            "wall_s": round(sum(one.wall_s for one in run.receipts), 6),
        },
        "finding": _finding(run, stored),
        "plan_hash": proposal.plan_hash,
        "playbook": proposal.playbook,
        "policy_version": decision.policy_version if decision else "",
        "requester": proposal.requester,
        "risk": proposal.risk,
        "rules": decision.rules if decision else (),
        "state": run.state,
        "steps": [_step(run, index) for index in range(len(proposal.steps))],
        "tier": proposal.tier,
        "undo": _undo(run),
        "undo_reason": run.undo_reason,
        "verdict": run.verdict,
    }


def _shortened(body: dict[str, Any]) -> dict[str, Any]:
    """Without what its steps and diffs were: the leaves of the plan and of each step's receipt say that, and are bound."""
    approvals = [{**one, "saw": [], "saw_left_out": len(one["saw"])} for one in body["approvals"]]
    undo = {**body["undo"], "steps": []}
    return {**body, "approvals": approvals, "steps": [], "steps_left_out": len(body["steps"]), "undo": undo}


def _finding(run: Run, stored: Sequence[StoredEntry]) -> dict[str, Any] | None:
    """What it answered, and the salted hash of the samples that showed it, as the finding's own leaf says it."""
    opened = next((one for one in stored if one.type == "finding.opened" and one.subject == run.proposal.finding_id), None)
    if opened is None:
        return None if run.proposal.finding_id is None else {"id": run.proposal.finding_id}
    said: dict[str, Any] = msgspec.json.decode(opened.leaf)
    body = said["body"]
    told = ("band", "metric", "opened_ms", "since_ms", "subject", "threshold", "unit", "value")
    return {"evidence": said.get("blob", ""), "id": opened.subject, **{name: body.get(name) for name in told}}


def _approvals(run: Run) -> list[dict[str, Any]]:
    """Who said yes, when, to which plan, and the changes as they were shown."""
    if not run.approvals:
        return []
    from stead.ledger.words import step_words  # here, for an agent that nobody answers does not need it

    saw = [step_words(step) for step in run.proposal.steps]
    return [
        {
            "at_ms": one.at_ms,
            "by": one.by,
            "id": one.id,
            "plan_hash": one.plan_hash,
            "saw": saw,
            "solo": one.solo,
            "used_ms": one.used_ms,
        }
        for one in run.approvals
    ]


def _step(run: Run, index: int) -> dict[str, Any]:
    step = run.proposal.steps[index]
    told = [
        {
            "after": one.after,
            "at_ms": one.at_ms,
            "attempt": one.attempt_id,
            "cpu_s": one.cpu_s,
            "direction": one.direction,
            "operations": one.operations,
            "outcome": one.outcome,
            "wall_s": one.wall_s,
        }
        for one in run.receipts
        if one.step == index
    ]
    governed = next((one for one in run.governed if one.step == index), None)
    return {
        "actuator": step.actuator,
        "before": step.before,
        "governed": governed,
        "receipts": told,
        "target": step.target,
        "want": step.want,
    }


def _undo(run: Run) -> dict[str, Any]:
    """How to put it back: the command while there is something to put back, and what each step's undo is."""
    steps = [
        {"before": step.before, "kind": step.undo, "reason": step.undo_reason, "step": index}
        for index, step in enumerate(run.proposal.steps)
    ]
    own = all(step.actuator == "autonomy" for step in run.proposal.steps)
    lost = all(step.undo == "none" for step in run.proposal.steps)
    open_ = run.state in STANDS and not own and not lost
    return {"command": f"stead undo {run.id}" if open_ else "", "steps": steps}
