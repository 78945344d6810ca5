"""The life of one proposal as a state machine: each transition maps a run to a run and the entries that record it.

    start ─▶ waiting ─▶ approved ─▶ acting ─▶ verifying ─▶ held ─▶ (lease ends) ─▶ undoing ─▶ undone
          └▶ refused, advised, moot, unsupported    └▶ kept       └▶ undoing, when it did not help or hold

An impossible transition raises SteadError, and nothing changes. Pure: time, ids and actor come in the `Stamp`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from stead.flow import record
from stead.flow.record import Stamp
from stead.model.change import Attempt, Proposal, Receipt, Run, RunState, Verdict
from stead.model.errors import EXIT_APPROVAL, EXIT_UNDO_FAILED, SteadError
from stead.model.find import Finding
from stead.model.policy import Actor, Approval, Decision, Policy
from stead.model.record import Entry

Moved = tuple[Run, tuple[Entry, ...]]
UNDOABLE: Final = frozenset(("acting", "verifying", "held", "kept", "undo_failed"))
FAILED: Final = frozenset(("no_help", "not_held"))  # verdicts
ALREADY_SO: Final = "already so"
GONE: Final = "gone"
TOLD_MS: Final = 300_000
CLOCK_BACK_MS: Final = 60_000
INTERRUPTED: Final = "interrupted before it was written"
AGAIN: Final = "again"  # begins an undo: stead's own further try of one that failed
TRIES_MAX: Final = 100  # some four days, by the waits of `flow.retries`
UNDOS_KEPT: Final = 2  # of a step's failed undos, with the run: all of them are in the ledger


def _move(run: Run, state: RunState, stamp: Stamp, *entries: Entry, reason: str = "") -> Moved:
    """The run in a new state, and its entries: those given, then `run.<state>`, each caused by the one before."""
    moved = msgspec.structs.replace(run, state=state, reason=reason, updated_ms=stamp.now.unix_ms)
    chained = _chain(run.cause, (*entries, record.run_moved(moved, stamp)))
    return msgspec.structs.replace(moved, cause=chained[-1].id), chained


def _note(run: Run, stamp: Stamp, *entries: Entry) -> Moved:
    """The run in the same state, with further entries."""
    chained = _chain(run.cause, entries)
    return msgspec.structs.replace(run, cause=chained[-1].id, updated_ms=stamp.now.unix_ms), chained


def _chain(cause: str, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    linked: list[Entry] = []
    for one in entries:
        linked.append(msgspec.structs.replace(one, prev_cause=cause or one.prev_cause))
        cause = one.id
    return tuple(linked)


def _need(run: Run, verb: str, *states: str) -> None:
    if run.state not in states:
        raise SteadError(
            f"a run that is {run.state} can't be {verb}",
            f"run {run.id}",
            f"only one that is {' or '.join(states)} can; see `stead runs`",
            code="run.impossible",
        )


def start(proposal: Proposal, decision: Decision | None, stamp: Stamp) -> Moved:
    """A run from a proposal and the policy's decision (None only when the proposal is impossible)."""
    run = Run(id=proposal.id, proposal=proposal, state="refused", decision=decision, updated_ms=stamp.now.unix_ms)
    made = record.proposal_made(proposal, stamp)
    if proposal.impossible:
        state: RunState = "refused"
        if proposal.impossible.startswith("unsupported"):
            state = "unsupported"
        elif proposal.impossible.startswith((ALREADY_SO, GONE)):
            state = "moot"
        return _move(run, state, stamp, made, reason=proposal.impossible)
    if decision is None:
        raise SteadError("a proposal can't start without a decision", f"proposal {proposal.id}", code="run.impossible")
    decided = record.decision_made(run, decision, stamp)
    state = _first_state(decision)
    recommended = (record.action_recommended(proposal, stamp),) if proposal.finding_id else ()
    return _move(run, state, stamp, made, *recommended, decided, reason="; ".join(decision.reasons))


def _first_state(decision: Decision) -> RunState:
    if decision.advised:
        return "advised"
    answers: dict[str, RunState] = {"allow": "approved", "ask": "waiting", "deny": "refused"}
    return answers[decision.answer]


def approve(run: Run, approval: Approval, policy: Policy, stamp: Stamp) -> Moved:
    """One person's yes. Refused: another plan than the present one, the same person twice, one's own request."""
    _need(run, "approved", "waiting")
    if approval.plan_hash != run.proposal.plan_hash:
        raise SteadError(
            "the plan is not the one that was approved",
            f"run {run.id}",
            f"look again and approve plan {run.proposal.plan_hash[:12]}",
            code="approval.stale",
            exit_code=EXIT_APPROVAL,
        )
    same = approval.by.id == run.proposal.requester.id or any(given.by.id == approval.by.id for given in run.approvals)
    if same and not policy.solo:
        raise SteadError(
            f"{approval.by.id} has asked for or approved this already, and one person counts once",
            f"run {run.id}",
            "let another person approve, or set `solo: true` in the policy of a one-person host",
            code="approval.same-person",
            exit_code=EXIT_APPROVAL,
        )
    given = msgspec.structs.replace(approval, solo=same)
    run = msgspec.structs.replace(run, approvals=(*run.approvals, given))
    noted = record.approval_given(run, given, stamp.by(given.by))
    needed = max(1, run.decision.approvals_needed if run.decision else 1)
    if len(run.approvals) < needed:
        return _note(run, stamp, noted)
    return _move(run, "approved", stamp, noted, reason=f"approved by {', '.join(one.by.id for one in run.approvals)}")


def deny(run: Run, by: Actor, reason: str, stamp: Stamp) -> Moved:
    """A person's no."""
    _need(run, "denied", "waiting", "approved")
    said = record.approval_denied(run, reason, stamp.by(by))
    return _move(run, "denied", stamp.by(by), said, reason=f"denied by {by.id}" + (f": {reason}" if reason else ""))


def overdue(run: Run, policy: Policy, now_ms: int) -> str:
    """Why a run that waits or was approved is too late by now; empty while it is not."""
    if run.state not in ("waiting", "approved"):
        return ""
    if now_ms >= run.proposal.expires_ms:
        return "the proposal's time to live has passed"
    asked_ms = run.decision.at_ms if run.decision else run.proposal.created_ms
    if run.state == "waiting" and now_ms >= asked_ms + policy.approval_pending_s * 1000:
        return f"nobody approved it within {policy.approval_pending_s:.0f} s"
    if any(now_ms >= approval.expires_ms for approval in run.approvals):
        return "an approval has expired: it counts as no"
    if any(now_ms < approval.at_ms - CLOCK_BACK_MS for approval in run.approvals):
        return "the clock was set back since an approval was given: how old it is can't be told, so it counts as no"
    return ""


def outlived(run: Run, opened: Iterable[Finding]) -> str:
    """Why nobody needs to answer a run that waits: its finding is not among the open ones. Empty while somebody does."""
    finding_id = run.proposal.finding_id
    over = run.state == "waiting" and finding_id is not None and all(one.id != finding_id for one in opened)
    return "what it answers has cleared" if over else ""


def expire(run: Run, reason: str, stamp: Stamp) -> Moved:
    """Too late: what nobody approved, or nobody began, in time is a no."""
    _need(run, "expired", "waiting", "approved")
    return _move(run, "expired", stamp, record.approval_expired(run, reason, stamp), reason=reason)


def cancel(run: Run, by: Actor, stamp: Stamp) -> Moved:
    """Stop a run that has not begun. One that acts is cancelled between its steps, by its undo."""
    _need(run, "cancelled", "waiting", "approved")
    return _move(run, "cancelled", stamp.by(by), reason=f"cancelled by {by.id}")


def refuse(run: Run, reason: str, stamp: Stamp) -> Moved:
    """What was allowed may not begin after all: the host is not as planned, or an approval does not fit."""
    _need(run, "refused", "approved")
    return _move(run, "refused", stamp, reason=reason)


def gone(run: Run, reason: str, stamp: Stamp) -> Moved:
    """The target is not there any more: nothing to do, nothing to put back."""
    _need(run, "moot", "approved", "acting", "verifying", "held", "undoing")
    return _move(run, "moot", stamp, reason=reason)


def begin(run: Run, stamp: Stamp) -> Moved:
    """The first step is about to be written."""
    _need(run, "begun", "approved")
    return _move(run, "acting", stamp)


def attempted(run: Run, attempt: Attempt, stamp: Stamp) -> Moved:
    """Recorded before a write. One at a time: an attempt without a receipt must be settled first."""
    _need(run, "written", "acting" if attempt.direction == "forward" else "undoing")
    if unsettled(run) is not None:
        raise SteadError("an earlier attempt has no receipt yet", f"run {run.id}", code="run.impossible")
    used: tuple[str, ...] = ()
    if attempt.direction == "forward" and not run.attempts:
        used = tuple(approval.id for approval in run.approvals)
        now_ms = stamp.now.unix_ms
        spent = tuple(msgspec.structs.replace(approval, used_ms=now_ms) for approval in run.approvals)
        run = msgspec.structs.replace(run, approvals=spent)
    noted = record.attempt_made(run, attempt, stamp, used)
    return _note(msgspec.structs.replace(run, attempts=(*run.attempts, attempt)), stamp, noted)


def settled(run: Run, receipt: Receipt, stamp: Stamp) -> Moved:
    """What was found after a write, or instead of one."""
    _need(run, "settled", "acting", "undoing")
    if receipt.outcome == "done" and not any(one.id == receipt.attempt_id for one in run.attempts):
        raise SteadError("nothing is done without an attempt", f"run {run.id}", code="run.impossible")
    entries = [record.receipt_made(run, receipt, stamp)]
    if receipt.outcome == "conflict":
        entries.append(record.conflict_seen(run, receipt.step, receipt.after, stamp))
    return _note(msgspec.structs.replace(run, receipts=(*run.receipts, receipt)), stamp, *entries)


def acted(run: Run, stamp: Stamp) -> Moved:
    """All steps are written: its window of verification runs, and its lease if it has one."""
    _need(run, "verified", "acting")
    lease, now_ms = lease_ms(run.proposal), stamp.now.unix_ms
    run = msgspec.structs.replace(
        run,
        acted_ms=now_ms,
        verify_at_ms=now_ms + round(run.proposal.verify_s * 1000),
        lease_until_ms=None if lease is None else now_ms + lease,
    )
    return _move(run, "verifying", stamp)


def verified(run: Run, verdict: Verdict, stamp: Stamp) -> Moved:
    """The verdict: helped and inconclusive stay (under their lease, or for good); the others are put back where they can be."""
    _need(run, "verified", "verifying")
    run = msgspec.structs.replace(run, verdict=verdict)
    said = record.verdict_made(run, verdict, stamp)
    if verdict.result in ("helped", "inconclusive"):
        state: RunState = "held" if run.lease_until_ms is not None else "kept"
        return _move(run, state, stamp, said, reason=verdict.reason)
    if run.proposal.lowers:
        return _move(run, "kept", stamp, said, reason=f"{verdict.reason}; lowered autonomy is not raised by itself")
    why = cannot_undo(run)
    if why:
        return _move(run, "failed", stamp, said, reason=f"{verdict.reason}; it can't be put back: {why}")
    run = msgspec.structs.replace(run, undo_reason=verdict.result)
    return _move(run, "undoing", stamp, said, reason=verdict.reason)


def renewed(run: Run, until_ms: int, stamp: Stamp) -> Moved:
    """The lease is extended: its reason still stands. Of a short lease the record has one renewal in five minutes, not each."""
    _need(run, "renewed", "held")
    lease = lease_ms(run.proposal) or 0
    former_ms = (run.lease_until_ms or 0) - lease
    if lease < TOLD_MS and former_ms // TOLD_MS == stamp.now.unix_ms // TOLD_MS:
        return msgspec.structs.replace(run, lease_until_ms=until_ms), ()
    return _move(msgspec.structs.replace(run, lease_until_ms=until_ms), "held", stamp, reason="its lease was renewed")


def adjusted(run: Run, stamp: Stamp) -> Moved:
    """Its governed values were moved: where they stand, and how often they were."""
    _need(run, "adjusted", "verifying", "held", "undoing")
    return _note(run, stamp, record.run_adjusted(run, stamp))


def lease_ms(proposal: Proposal) -> int | None:
    """The shortest lease of its steps; None when it has none."""
    leases = [step.lease_s for step in proposal.steps if step.lease_s is not None]
    return round(min(leases) * 1000) if leases else None


def cannot_undo(run: Run) -> str:
    """Why nothing of what was done can be put back; empty when something can, or nothing was done."""
    steps = [run.proposal.steps[index] for index in to_undo(run)]
    if steps and all(step.undo == "none" for step in steps):
        return "; ".join(dict.fromkeys(step.undo_reason for step in steps))
    return ""


def begin_undo(run: Run, reason: str, stamp: Stamp) -> Moved:
    """Everything that was done is to be put back. A person may begin it also on what was kept, and again on what failed.

    `AGAIN` is stead's own further try of what failed: what began the undo stays as it was.
    """
    if reason == AGAIN:
        return _begin_again(run, stamp)
    if run.state in ("kept", "undo_failed") and reason != "person":
        _need(run, "undone", "acting", "verifying", "held")
    _need(run, "undone", *sorted(UNDOABLE))
    why = cannot_undo(run)
    if why and reason == "person":
        raise SteadError(
            f"it can't be put back: {why}",
            f"run {run.id}",
            "set what you want by hand",
            code="run.no-undo",
            exit_code=EXIT_UNDO_FAILED,
        )
    return _move(msgspec.structs.replace(run, undo_reason=reason, undo_tries=0), "undoing", stamp, reason=reason)


def may_try_again(run: Run) -> bool:
    """Could not all be put back, and can that still come about without a person? What another hand owns is not tried again."""
    steps = [run.proposal.steps[index] for index in to_undo(run)] if run.state == "undo_failed" else []
    own = any(step.actuator == "autonomy" for step in steps)  # set by people, never put back
    return not own and run.undo_tries < TRIES_MAX and any(step.undo != "none" for step in steps)


def _begin_again(run: Run, stamp: Stamp) -> Moved:
    """One more try, which is counted. Of the failed ones before it the run keeps the last few."""
    if not may_try_again(run):
        _need(run, "undone again", "undo_failed")
        raise SteadError("it is not tried again", f"run {run.id}", "see `stead why`", code="run.impossible")
    dropped = {
        id(one)
        for step in to_undo(run)
        for one in [one for one in run.receipts if one.step == step and one.direction == "undo"][:-UNDOS_KEPT]
    }
    receipts = tuple(one for one in run.receipts if id(one) not in dropped)
    settled = {one.attempt_id for one in receipts}
    attempts = tuple(one for one in run.attempts if one.direction == "forward" or one.id in settled)
    tries = run.undo_tries + 1
    run = msgspec.structs.replace(run, receipts=receipts, attempts=attempts, undo_tries=tries)
    return _move(run, "undoing", stamp, reason=f"tried again ({tries})")


def finish_undo(run: Run, stamp: Stamp) -> Moved:
    """All that could be put back has been: the final state follows from the receipts and from what began the undo."""
    _need(run, "finished", "undoing")
    newest = (outcome(run, index, "undo") for index in range(len(run.proposal.steps)))
    undo = [receipt for receipt in newest if receipt is not None]
    failed = [receipt for receipt in undo if receipt.outcome in ("failed", "unknown")]
    if failed:
        told = "; ".join(_told(run, receipt) for receipt in failed)
        return _move(run, "undo_failed", stamp, reason=f"{told}; {_what_next(run)}")
    if any(receipt.outcome == "conflict" for receipt in run.receipts):
        return _move(run, "conflict", stamp, reason="another hand owns the value now: left as it is")
    if run.undo_reason in ("partial failure", "paused", "cancel"):
        state: RunState = "cancelled" if run.undo_reason == "cancel" else "failed"
        return _move(run, state, stamp, reason=_why_stopped(run))
    if undo and all(receipt.outcome == "moot" for receipt in undo):
        return _move(run, "moot", stamp, reason="the target is gone: nothing to put back")
    return _move(run, "undone", stamp, reason=f"put back: {run.undo_reason}")


def _told(run: Run, receipt: Receipt) -> str:
    step = run.proposal.steps[receipt.step]
    return f"{step.actuator} of {step.target} was not put back: {receipt.error or 'it reads otherwise'}"


def _what_next(run: Run) -> str:
    tried = f", as it has {run.undo_tries} time{'s' if run.undo_tries > 1 else ''} so far" if run.undo_tries else ""
    if may_try_again(msgspec.structs.replace(run, state="undo_failed")):
        return f"stead tries it again by itself{tried}"
    return "it needs a person: `stead undo` tries it again"


def _why_stopped(run: Run) -> str:
    for receipt in run.receipts:
        if receipt.direction == "forward" and receipt.outcome not in ("done", "already"):
            step = run.proposal.steps[receipt.step]
            return f"{step.actuator} of {step.target}: {receipt.error or receipt.outcome}; what was done has been put back"
    return f"{run.undo_reason}: what was done has been put back"


def unsettled(run: Run) -> Attempt | None:
    """The attempt that has no receipt yet: what a crash leaves behind."""
    receipts = {receipt.attempt_id for receipt in run.receipts}
    return next((attempt for attempt in run.attempts if attempt.id not in receipts), None)


def outcome(run: Run, step: int, direction: Literal["forward", "undo"]) -> Receipt | None:
    """The newest receipt of one step in one direction."""
    found = [one for one in run.receipts if one.step == step and one.direction == direction]
    return found[-1] if found else None


def to_undo(run: Run) -> list[int]:
    """The steps to put back, last first: those that were written, or may have been in part, and are not yet back."""
    steps = []
    for index in reversed(range(len(run.proposal.steps))):
        forward = outcome(run, index, "forward")
        written = forward is not None and forward.outcome in ("done", "failed", "unknown") and forward.attempt_id
        undo = outcome(run, index, "undo")
        if written and (undo is None or undo.outcome in ("failed", "unknown")):
            steps.append(index)
    return steps
