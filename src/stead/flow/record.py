"""Record: every transition of the road as a ledger entry.

What is bulky or about people (titles, command lines, evidence, error texts) goes beside the leaf (`bulk`), where it can be
erased. Pure: ids and time come as arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from stead.ledger.leaf import canonical, clean_text
from stead.model.change import Attempt, Hold, Proposal, Receipt, Run, Step, Verdict
from stead.model.find import Finding
from stead.model.observe import Fact, MetricsSnapshot, Now
from stead.model.policy import Actor, Approval, Autonomy, Decision
from stead.model.record import Entry

AGENT: Final = Actor("agent", "stead")


class Stamp(msgspec.Struct, frozen=True):
    """Where, when and by whom a transition happened, and where new ids come from: an argument of every transition."""

    host: str
    now: Now
    new_id: Callable[[], str]
    actor: Actor = AGENT

    def by(self, actor: Actor) -> Stamp:
        """The same moment, another actor."""
        return msgspec.structs.replace(self, actor=actor)


def entry(type_: str, stamp: Stamp, body: Any, *, subject: str = "", cause: str = "", bulk: Any = None) -> Entry:
    """One ledger entry. The body says what it is `about`; `bulk`, if given, is encoded as JSON and kept beside the leaf."""
    built: dict[str, Any] = msgspec.to_builtins(body, str_keys=True)
    data = None if bulk is None else msgspec.json.encode(clean_text(msgspec.to_builtins(bulk)), order="sorted")
    return Entry(
        id=stamp.new_id(),
        type=type_,
        host=stamp.host,
        ts_ms=stamp.now.unix_ms,
        actor=stamp.actor,
        body={"about": subject, **built} if subject else built,
        subject=subject,
        prev_cause=cause,
        bulk=data,
    )


def plan_hash(steps: Sequence[Step]) -> str:
    """What an approval binds to: sha256 over every step's actuator, target with identity, before, want, undo and range."""
    plan = [
        {
            "actuator": step.actuator,
            "before": step.before,
            "target": {"identity": step.target.identity, "kind": step.target.kind, "name": step.target.name},
            "undo": step.undo,
            "want": step.want,
            **({"govern": msgspec.to_builtins(step.govern)} if step.govern else {}),
        }
        for step in steps
    ]
    return hashlib.sha256(canonical(plan)).hexdigest()


# One builder for each kind of transition. The subject is the id of the finding or run that it is about.


def finding_opened(finding: Finding, stamp: Stamp) -> Entry:
    """A finding opened."""
    return _finding("finding.opened", finding, stamp)


def finding_cleared(finding: Finding, stamp: Stamp) -> Entry:
    """A finding cleared."""
    return _finding("finding.cleared", finding, stamp)


def _finding(type_: str, finding: Finding, stamp: Stamp) -> Entry:
    body = {
        "band": finding.band,
        "cleared_ms": finding.cleared_ms,
        "detector": finding.detector,
        "fingerprint": finding.fingerprint,
        "folded": finding.folded,
        "metric": finding.metric,
        "opened_ms": finding.opened_ms,
        "since_ms": finding.since_ms,
        "subject": finding.subject,
        "threshold": finding.threshold,
        "unit": finding.unit,
        "value": finding.value,
    }
    bulk = {"evidence": finding.evidence, "labels": finding.labels, "title": finding.title}
    return entry(type_, stamp, body, subject=finding.id, bulk=bulk)


def proposal_made(proposal: Proposal, stamp: Stamp) -> Entry:
    """A remedy was planned against the host as it is."""
    body = {
        "catalog_version": proposal.catalog_version,
        "expires_ms": proposal.expires_ms,
        "finding": proposal.finding_id,
        "impossible": proposal.impossible,
        "plan_hash": proposal.plan_hash,
        "playbook": proposal.playbook,
        "prediction": proposal.prediction,
        "requester": proposal.requester,
        "risk": proposal.risk,
        "scope": proposal.scope,
        "steps": proposal.steps,
        "tier": proposal.tier,
    }
    bulk = {"labels": proposal.labels, "title": proposal.title}
    return entry("proposal.made", stamp, body, subject=proposal.id, cause=proposal.finding_id or "", bulk=bulk)


def action_recommended(proposal: Proposal, stamp: Stamp) -> Entry:
    """A metric is out of its bounds, and this is what the catalogue recommends. The event's CloudEvents type, verbatim."""
    body = {
        "catalog_version": proposal.catalog_version,
        "finding": proposal.finding_id,
        "plan_hash": proposal.plan_hash,
        "playbook": proposal.playbook,
        "risk": proposal.risk,
        "targets": [str(step.target) for step in proposal.steps],
        "tier": proposal.tier,
    }
    return entry("metrics.action_recommended", stamp, body, subject=proposal.id, cause=proposal.finding_id or "")


def decision_made(run: Run, decision: Decision, stamp: Stamp) -> Entry:
    """The policy answered."""
    return entry("decision.made", stamp, decision, subject=run.id, cause=run.cause)


def policy_checked(subject: str, answer: str, rules: Sequence[str], policy_version: str, stamp: Stamp, cause: str = "") -> Entry:
    """The policy was asked again without a new decision: when an approval came, or right before a change."""
    body = {"answer": answer, "policy_version": policy_version, "rules": rules}
    return entry("governance.policy.check", stamp, body, subject=subject, cause=cause)


def approval_given(run: Run, approval: Approval, stamp: Stamp) -> Entry:
    """A person said yes to a plan as they saw it."""
    return entry("approval.given", stamp, approval, subject=run.id, cause=run.cause)


def approval_denied(run: Run, reason: str, stamp: Stamp) -> Entry:
    """A person said no."""
    return entry("approval.denied", stamp, {"plan_hash": run.proposal.plan_hash}, subject=run.id, cause=run.cause, bulk=reason)


def approval_expired(run: Run, reason: str, stamp: Stamp) -> Entry:
    """Nobody answered, or what was approved was not begun, in time."""
    return entry("approval.expired", stamp, {"reason": reason}, subject=run.id, cause=run.cause)


def attempt_made(run: Run, attempt: Attempt, stamp: Stamp, approvals: Iterable[str] = ()) -> Entry:
    """What is there and what will be there, before it is written."""
    step = run.proposal.steps[attempt.step]
    body = {
        "actuator": step.actuator,
        "approvals": tuple(approvals),
        "attempt": attempt,
        "range": _range(step),
        "target": step.target,
    }
    return entry("attempt.made", stamp, body, subject=run.id, cause=run.cause)


def receipt_made(run: Run, receipt: Receipt, stamp: Stamp) -> Entry:
    """What is there after the write, as read back, bound to all that led to it."""
    step = run.proposal.steps[receipt.step]
    decision = run.decision
    body = {
        "actuator": step.actuator,
        "approvals": [approval.id for approval in run.approvals],
        "before": step.before,
        "finding": run.proposal.finding_id,
        "plan_hash": run.proposal.plan_hash,
        "policy_version": decision.policy_version if decision else "",
        "receipt": msgspec.structs.replace(receipt, error="see blob" if receipt.error else ""),
        "target": step.target,
        "undo": step.undo,
        "want": step.want,
    }
    return entry("receipt.made", stamp, body, subject=run.id, cause=run.cause, bulk=receipt.error or None)


def conflict_seen(run: Run, step: int, found: Any, stamp: Stamp) -> Entry:
    """Another hand owns the value now; stead yields."""
    one = run.proposal.steps[step]
    body = {"actuator": one.actuator, "found": found, "left": one.want, "step": step, "target": one.target}
    return entry("conflict.seen", stamp, body, subject=run.id, cause=run.cause)


def verdict_made(run: Run, verdict: Verdict, stamp: Stamp) -> Entry:
    """Did it hold, did it help."""
    return entry("verdict.made", stamp, verdict, subject=run.id, cause=run.cause)


def run_moved(run: Run, stamp: Stamp) -> Entry:
    """The run is in a new state: `run.<state>`."""
    body = {
        "acted_ms": run.acted_ms,
        "lease_until_ms": run.lease_until_ms,
        "plan_hash": run.proposal.plan_hash,
        "undo_reason": run.undo_reason,
        "verify_at_ms": run.verify_at_ms,
    }
    return entry(f"run.{run.state}", stamp, body, subject=run.id, cause=run.cause, bulk=run.reason or None)


def run_adjusted(run: Run, stamp: Stamp) -> Entry:
    """Where its governed values stand, of how many moves in all, and between which values they have been."""
    steps = run.proposal.steps
    moved = [
        {
            "actuator": steps[one.step].actuator,
            "count": one.moves,
            "field": one.field,
            "high": one.most,
            "last": one.value,
            "low": one.least,
            "metric": rule.metric if (rule := steps[one.step].govern) else "",
            "range": _range(steps[one.step]),
            "reading": one.reading,
            "reason": one.reason,
            "step": one.step,
            "target": steps[one.step].target,
        }
        for one in run.governed
    ]
    return entry("run.adjusted", stamp, {"moved": moved}, subject=run.id, cause=run.cause)


def _range(step: Step) -> dict[str, Any] | None:
    """The range in which a step's value may be moved, as it was decided."""
    rule = step.govern
    return {"field": rule.field, "high": rule.high, "law": rule.law, "low": rule.low} if rule else None


def hold_made(hold: Hold, run: Run, stamp: Stamp) -> Entry:
    """A person undid this playbook on a target: it stays off."""
    body = {"finding": hold.finding_id, "playbook": hold.playbook, "run": run.id, "target": hold.target}
    return entry("hold.made", stamp, body, subject=hold_key(hold), cause=run.cause)


def hold_lifted(hold: Hold, stamp: Stamp, cause: str = "") -> Entry:
    """The playbook may act on the target again: a person said so, or the finding cleared (`cause` is its id)."""
    body = {"finding": hold.finding_id, "playbook": hold.playbook, "target": hold.target}
    return entry("hold.lifted", stamp, body, subject=hold_key(hold), cause=cause)


def hold_key(hold: Hold) -> str:
    """What the entries of one hold are about."""
    return f"hold:{hold.playbook}:{hold.target}"


def autonomy_changed(before: Autonomy, after: Autonomy, stamp: Stamp, cause: str = "") -> Entry:
    """How much stead may do by itself is different now."""
    return entry("autonomy.changed", stamp, {"after": after, "before": before}, subject="autonomy", cause=cause)


def agent_started(version: str, stamp: Stamp, **detail: Any) -> Entry:
    """The agent began."""
    return entry("agent.started", stamp, {"version": version, **detail}, subject="agent")


def agent_stopped(version: str, stamp: Stamp, **detail: Any) -> Entry:
    """The agent ended by itself."""
    return entry("agent.stopped", stamp, {"version": version, **detail}, subject="agent")


def fact_seen(fact: Fact, stamp: Stamp) -> Entry:
    """Something is so that people must be able to prove, and was not so before, or not in these words."""
    return entry("fact.seen", stamp, {"name": fact.name, "value": fact.value}, subject=fact.subject)


def snapshots_taken(snapshots: Sequence[MetricsSnapshot], start_ms: int, end_ms: int, stamp: Stamp) -> Entry:
    """One leaf for a whole interval's snapshots: how many there are and the hash of them all, in a fixed order."""
    ordered = sorted(snapshots, key=lambda one: (one.metric_id, one.subject))
    digest = hashlib.sha256()
    for one in ordered:
        digest.update(hashlib.sha256(msgspec.json.encode(one, order="sorted")).digest())
    body = {"count": len(ordered), "end_ms": end_ms, "hash": "sha256:" + digest.hexdigest(), "start_ms": start_ms}
    return entry("snapshots.taken", stamp, body, subject="snapshots")


def witness_refused(origin: str, body: dict[str, Any], notes: dict[str, str], stamp: Stamp) -> Entry:
    """Another host's log asked to be cosigned with what does not go on from what this host cosigned before."""
    return entry("witness.refused", stamp, body, subject=origin, bulk=notes)
