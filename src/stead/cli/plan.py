"""One proposal or run in words: what would change, why it was decided so, what came of it. Pure: values to lines."""

from __future__ import annotations

from typing import Final

from stead.cli.table import Cell, pairs, printable, styled
from stead.cli.words import duration, moment, number, plain, plural
from stead.ledger.words import governed_words
from stead.model.change import UNDO_WORDS, Prediction, Proposal, Receipt, Run, Step
from stead.model.policy import Actor, Decision

MANY: Final = 4  # targets that are named one by one
STATE_STYLES: Final[dict[str, str]] = {
    **dict.fromkeys(("kept", "held", "undone"), "good"),
    **dict.fromkeys(("waiting", "approved", "acting", "verifying", "undoing", "advised"), "warning"),
    **dict.fromkeys(("undo_failed", "failed", "conflict"), "critical"),
    **dict.fromkeys(("moot", "expired", "denied", "cancelled", "refused", "unsupported"), "dim"),
}
MEANINGS: Final[dict[str, str]] = {
    "refused": "the policy said no",
    "advised": "only advice: nothing was changed; `stead mode act` lets it act",
    "waiting": "waits for approval",
    "approved": "may start",
    "acting": "is being done",
    "verifying": "done; being watched",
    "held": "in force under a lease",
    "kept": "verified, and final",
    "undoing": "is being put back",
    "undone": "everything is put back",
    "undo_failed": "could not be put back",
    "failed": "a step failed; what was done has been put back",
    "moot": "its target is gone",
    "conflict": "another hand owns the value now: left alone",
    "unsupported": "can't be done here",
}


def run_lines(run: Run, now_ms: int) -> list[str]:
    """Everything about one run, from its proposal to its verdict."""
    proposal = run.proposal
    lines = [styled(printable(proposal.title or proposal.playbook), "bold"), *pairs(_facts(run, now_ms))]
    for index, step in enumerate(proposal.steps):
        lines += ["", *step_lines(step, index, _receipt(run, index))]
        lines += [f"  now: {printable(governed_words(step, one))}" for one in run.governed if one.step == index]
    if proposal.impossible and proposal.impossible != run.reason:
        lines += ["", f"can't be planned: {printable(proposal.impossible)}"]
    if run.decision is not None:
        lines += ["", "decision", *(f"  {line}" for line in decision_lines(run.decision))]
    return lines


def _facts(run: Run, now_ms: int) -> list[tuple[str, Cell]]:
    """The rows of the head."""
    proposal = run.proposal
    meaning = reason_of(run) or MEANINGS.get(run.state, "")
    rows: list[tuple[str, Cell]] = [
        ("id", run.id),
        ("state", (f"{run.state}: {meaning}".rstrip(": "), STATE_STYLES.get(run.state, ""))),
        ("playbook", f"{proposal.playbook} (risk {proposal.risk}, tier {proposal.tier}, confidence {proposal.confidence:.2f})"),
        *([("target", target_of(proposal))] if proposal.steps or proposal.labels else []),
        ("asked by", actor(proposal.requester)),
        ("plan", proposal.plan_hash or "none"),
    ]
    if proposal.finding_id:
        rows.append(("finding", proposal.finding_id))
    if proposal.prediction is not None:
        rows.append(("predicts", prediction(proposal.prediction)))
    if run.state == "waiting" and run.decision is not None:
        rows.append(("approvals", f"{len(run.approvals)} of {run.decision.approvals_needed} given"))
        rows.append(("expires", expiry(proposal.expires_ms, now_ms)))
    if run.lease_until_ms is not None and not run.final:
        rows.append(("lease", f"until {moment(run.lease_until_ms)}, then put back unless renewed"))
    if run.verdict is not None:
        rows.append(("verdict", verdict(run)))
    if run.undo_reason:
        rows.append(("put back as", undo_words(run)))
    return rows


def step_lines(step: Step, index: int = 0, receipt: Receipt | None = None) -> list[str]:
    """One step: its target, its diff, and how it can be put back."""
    undo = f"undo {step.undo}" + (f" ({step.undo_reason})" if step.undo_reason else "")
    lease = f", lease {duration(step.lease_s)}" if step.lease_s else ""
    lines = [f"step {index + 1}  {step.actuator} on {printable(str(step.target))}: {printable(undo)}{lease}", *diff_lines(step)]
    if step.govern is not None:
        rule = step.govern
        ends = f"between {number(rule.low)} and {number(rule.high)}, every {duration(rule.interval_s)}"
        level = f"{rule.metric} of {plain(rule.subject)} and its level of {number(rule.level)}"
        lines.append(f"  then {rule.field} is moved {ends}, by {level} ({rule.law})")
    if step.note:
        lines.append(f"  note: {printable(step.note)}")
    if receipt is not None:
        error = f": {receipt.error}" if receipt.error else ""
        lines.append(f"  {receipt.direction} {receipt.outcome}{printable(error)}")
    return lines


def diff_lines(step: Step) -> list[str]:
    """Only what changes: before → want."""
    if step.want is None:
        return ["  it would be removed"]
    rows = [(key, before, want) for key, (before, want) in step.diff.items()]
    if not rows:
        return ["  nothing: it is so already"]
    width = max(len(key) for key, _, _ in rows)
    return [f"  {key:<{width}}  {value(before)} → {value(want)}" for key, before, want in rows]


def value(one: object) -> str:
    """A field of a state."""
    if one is None:
        return "none"
    if isinstance(one, bool):
        return "yes" if one else "no"
    if isinstance(one, float):
        return number(one)
    if isinstance(one, list | tuple):
        return ",".join(printable(str(item)) for item in one) or "none"
    return printable(str(one))


def decision_lines(decision: Decision) -> list[str]:
    """The answer, and each rule and limit that made it."""
    answer = decision.answer
    if decision.advised and decision.would is not None:
        answer_words = f"advice only in mode {decision.mode}; in mode act: {decision.would}"
    elif answer == "ask":
        answer_words = f"ask: needs {plural(decision.approvals_needed or 1, 'approval')}"
    else:
        answer_words = answer
    reasons = [f"  {printable(reason)}" for reason in decision.reasons]
    return [answer_words, f"by {printable(', '.join(decision.rules)) or 'no rule'}", *reasons]


def rule_of(run: Run) -> str:
    """The rules and limits that made the decision."""
    return ", ".join(run.decision.rules) if run.decision else "not decided"


def answer_of(run: Run) -> str:
    """The decision's answer in a word or two."""
    if run.decision is None:
        return "none yet"
    if run.decision.advised and run.decision.would is not None:
        return f"would {run.decision.would}"
    return run.decision.answer


def target_of(proposal: Proposal) -> str:
    """What it would change, with the process named where that is known."""
    names = dict.fromkeys(str(step.target) for step in proposal.steps)
    process = proposal.labels.get("process") or proposal.labels.get("name")
    if not names:
        pid = proposal.labels.get("pid")
        return printable(f"{process} (pid {pid})" if process and pid else process or "nothing")
    shown = [printable(name) for name in names]
    words = ", ".join(shown if len(shown) <= MANY else [*shown[:2], f"{len(shown) - 2} more"])
    return f"{words} ({printable(process)})" if process and process not in words else words


def prediction(one: Prediction) -> str:
    """What the change should do, as said before it is made."""
    unit = "bytes" if one.metric.endswith("_bytes") else ""
    move = f"{100 * one.at_least:.0f} %" if one.relative else number(one.at_least, unit)
    base = f", from {number(one.baseline, unit)}" if one.baseline is not None else ", from a baseline not known yet"
    goes_on = " and ".join(f"{control.metric} of {plain(control.subject)}" for control in one.control)
    beside = f", while {goes_on} {'goes' if len(one.control) == 1 else 'go'} on" if goes_on else ""
    if one.twin is not None:
        beside += f", beside {one.twin.metric} of {plain(one.twin.subject)}"
    moved = f"{one.metric} of {plain(one.subject)} goes {one.direction} by {move} or more within {duration(one.within_s)}"
    return f"{moved}{base}{beside}"


def verdict(run: Run) -> str:
    """Whether it helped."""
    if run.verdict is None:
        return "none yet"
    one = run.verdict
    moved = f" ({number(one.before)} → {number(one.after)})" if one.before is not None or one.after is not None else ""
    return f"{one.result.replace('_', ' ')}{moved}: {one.reason}"


def undo_words(run: Run) -> str:
    """What began the undo."""
    return UNDO_WORDS.get(run.undo_reason, run.undo_reason)


def reason_of(run: Run) -> str:
    """Why it is in its state, where that says more than the state and what is shown beside it; else empty."""
    told = ("; ".join(run.decision.reasons) if run.decision else "", run.verdict.reason if run.verdict else "")
    shown = run.reason in told or run.state in ("advised", "undoing", "undone")
    return "" if shown else run.reason.removeprefix(f"{run.state}: ")


def expiry(at_ms: int, now_ms: int) -> str:
    """When it lapses."""
    return f"in {duration((at_ms - now_ms) / 1000)}" if at_ms > now_ms else "expired"


def actor(one: Actor) -> str:
    """Who."""
    return one.id if one.kind == "user" else f"the {one.kind}"


def _receipt(run: Run, index: int) -> Receipt | None:
    """The last receipt of a step."""
    return next((one for one in reversed(run.receipts) if one.step == index), None)
