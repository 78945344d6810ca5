"""Each entry of the ledger in plain words, for `stead why`: what was decided, written, read back and concluded.

An entry's own leaf is what counts, and what is beside it if it was not erased; what a leaf of an older release does not
say is left out. A type that nothing here speaks of is named, never dumped. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from stead.ledger.said import EMPTY, Plan, Said
from stead.model.change import UNDO_WORDS, Attempt, Govern, Governed, Receipt, Step

Body = Mapping[str, Any]
Values = Mapping[str, Any]

STATES: Final[dict[str, str]] = {
    "refused": "nothing was changed: refused",
    "advised": "nothing was changed: this is advice only",
    "approved": "may begin",
    "kept": "stays for good",
    "undone": "everything is put back",
    "undo_failed": "could not be put back",
    "failed": "failed",
    "moot": "nothing to do",
    "conflict": "another hand owns the value now: left as it is",
    "denied": "a person said no",
    "expired": "nothing was changed: too late",
    "cancelled": "cancelled",
    "unsupported": "can't be done here",
}
OWN_WORDS: Final = frozenset(("advised", "approved", "conflict", "denied"))  # states whose reason another link already told
RENEWED: Final = "its lease was renewed"
LISTED: Final = 3  # of a list that is told, as that of a family; the others are counted
AGAIN: Final = "tried again"


def words_of(one: Said, plan: Plan = EMPTY) -> str:
    """One entry in words, empty for one that only repeats another."""
    if one.entry.type.startswith("run.") and one.entry.type not in WORDS:
        return _run_words(one, plan)
    say = WORDS.get(one.entry.type)
    if say is None or "oversize_bytes" in one.body:  # a body too large for a leaf was in the blob
        return one.entry.type.replace(".", " ").replace("_", " ")
    return say(one, plan)


def changes(before: Values | None, want: Values | None) -> str:
    """ "nice 0 → 19, autogroup nice 0 → 19": only what differs of what is wanted."""
    if want is None:
        return "removed"
    was = before or {}
    parts = [f"{name(key)} {short(was.get(key))} → {short(value)}" for key, value in want.items() if was.get(key) != value]
    return ", ".join(parts) or "no change"


def step_words(step: Step) -> str:
    """A step's change: "priority of process:4711: nice 0 → 19", and whatever else it touches."""
    note = f" ({step.note})" if step.note else ""
    return f"{step.actuator} of {step.target}: {changes(step.before, step.want)}{range_words(step.govern)}{note}"


def range_words(rule: Govern | None) -> str:
    """The range in which a field may be moved while it is held, and by what; empty where it is not."""
    if rule is None:
        return ""
    return f", and {name(rule.field)} is then moved between {number(rule.low)} and {number(rule.high)} by {rule.metric}"


def name(key: str) -> str:
    """A field's name for reading."""
    return key.replace("_", " ")


def short(value: object) -> str:
    """A field's value for reading, cut to a line's share."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - LISTED} more" if len(value) > LISTED else ""
        return ", ".join(short(item) for item in value[:LISTED]) + more or "none"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def span(seconds: float) -> str:
    """A length of time in its two largest units, whole seconds."""
    left, parts = max(round(seconds), 0), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def plural(count: int, word: str) -> str:
    """ "1 approval", "2 approvals"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def plain(subject: str) -> str:
    """A subject for reading: a process without the tick at which it started, a control group without its id."""
    if subject.startswith("cgroup:"):
        return re.sub(r"@([a-z]+\.)?\d+$", "", subject)  # a unit's own "@" is followed by more: user@1000.service
    return subject.partition("@")[0] if subject.startswith("process:") else subject


def number(value: object) -> str:
    """A measured value to four digits; a leaf writes it as a decimal text."""
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return "unknown"


def _opened(one: Said, _: Plan) -> str:
    body = one.body
    title = (
        one.kept.get("title") or f"{body.get('metric')} of {plain(str(body.get('subject')))} reads {number(body.get('value'))}"
    )
    return f"{title} ({body.get('band')})"


def _cleared(one: Said, _: Plan) -> str:
    return f"cleared: {one.kept.get('title') or one.body.get('metric')}"


def _proposed(one: Said, plan: Plan) -> str:
    what = f"{plan.playbook}: {plan.title}" if plan.title else plan.playbook
    if plan.impossible:
        return f"{what}: {plan.impossible}"
    return f"{what}; " + "; ".join(step_words(step) for step in plan.steps)


def _decided(one: Said, _: Plan) -> str:
    body = one.body
    needed = plural(int(body.get("approvals_needed") or 1), "approval")
    if body.get("advised"):
        would = {"allow": "would act", "ask": "would ask", "deny": "would refuse"}
        head = would.get(str(body.get("would") or "deny"), "would act") + ", advice only"
    else:
        heads = {"allow": "may act alone", "ask": f"asks for {needed}", "deny": "refused"}
        head = heads.get(str(body.get("answer")), str(body.get("answer")))
    return _because(head, body)


def _asked_again(one: Said, _: Plan) -> str:
    answers = {"allow": "it may still be done", "ask": "it needs approval", "deny": "it is refused"}
    answer = str(one.body.get("answer"))
    return _because(f"the policy was asked again: {answers.get(answer, answer)}", one.body)


def _because(head: str, body: Body) -> str:
    rules, reasons = body.get("rules") or (), body.get("reasons") or ()
    by = f" by {', '.join(rules)}" if rules else ""
    return f"{head}{by}" + (f": {'; '.join(reasons)}" if reasons else "")


def _approved(one: Said, _: Plan) -> str:
    solo = " (the same person as before: a one-person host)" if one.body.get("solo") else ""
    return f"{one.actor} approved plan {str(one.body.get('plan_hash'))[:12]}{solo}"


def _denied(one: Said, _: Plan) -> str:
    return f"{one.actor} said no" + (f": {one.reason}" if one.reason else "")


def _expired(one: Said, _: Plan) -> str:
    return f"it lapsed: {one.body.get('reason') or 'its time to live has passed'}"


def _attempted(one: Said, _: Plan) -> str:
    attempt = msgspec.convert(one.body["attempt"], Attempt, strict=False)
    verb = "about to put back" if attempt.direction == "undo" else "about to write"
    return f"{verb} {one.body['actuator']} of {_target(one.body)}: {changes(attempt.before, attempt.want)}"


def _receipt(one: Said, plan: Plan) -> str:
    body, error = one.body, one.reason
    receipt = msgspec.convert(body["receipt"], Receipt, strict=False)
    attempt, undo = plan.attempts.get(receipt.attempt_id), receipt.direction == "undo"
    if attempt is not None:
        before, want = attempt.before, attempt.want
    else:
        before, want = (body["want"], body["before"]) if undo else (body["before"], body["want"])
    what = f"{body['actuator']} of {_target(body)}"
    reads, why = _reads(receipt, want), f": {error}" if error else ""
    by = f", by {'; '.join(receipt.operations)}" if receipt.operations else ""
    if receipt.outcome == "done":
        return f"{'put back' if undo else 'wrote'} {what}: {changes(before, want)}, read back {reads}{by}"
    words = {
        "already": f"{what} reads {reads} already: nothing was written",
        "failed": f"{'putting back' if undo else 'writing'} {what} failed{why}; it reads {reads}{by}",
        "unknown": f"whether {what} was {'put back' if undo else 'written'} is unknown{why}{by}",
        "moot": f"{what}: the target is gone, nothing was written",
        "conflict": f"{what} reads {reads}, which stead did not set: left as it is",
    }
    return words[receipt.outcome]


def _reads(receipt: Receipt, want: Values | None) -> str:
    if receipt.after is None:
        return "nothing (it is not there)"
    keys = [key for key in want or receipt.after if key in receipt.after]
    if len(keys) == 1:
        return short(receipt.after[keys[0]])
    return ", ".join(f"{name(key)} {short(receipt.after[key])}" for key in keys)


def governed_words(step: Step, one: Governed) -> str:
    """Where a governed value stands in its range, and why."""
    ends = {"high": step.govern.high, "low": step.govern.low} if step.govern else {}
    said = {"count": one.moves, "field": one.field, "high": one.most, "last": one.value, "low": one.least, "reason": one.reason}
    return _stands({**said, "range": ends})


def _adjusted(one: Said, _: Plan) -> str:
    moved = one.body.get("moved") or ()
    return "; ".join(f"{each.get('actuator')} of {_target(each)}: {_stands(each)}" for each in moved)


def _stands(said: Body) -> str:
    ends = said.get("range") or {}
    been = f"it has been {number(said.get('low'))} to {number(said.get('high'))} in {plural(int(said.get('count') or 0), 'move')}"
    where = (
        f"{name(str(said.get('field')))} is {number(said.get('last'))} of {number(ends.get('low'))} to {number(ends.get('high'))}"
    )
    return f"{where} ({been}): {said.get('reason')}"


def _conflict(one: Said, _: Plan) -> str:
    body = one.body
    found, left = body.get("found") or {}, body.get("left") or {}
    parts = [
        f"{name(key)} is {short(found[key])} where stead had left {short(value)}"
        for key, value in left.items()
        if key in found and found[key] != value
    ]
    return f"another hand changed {body['actuator']} of {_target(body)}: {', '.join(parts) or 'it reads otherwise'}"


def _verdict(one: Said, _: Plan) -> str:
    results = {"helped": "it helped", "no_help": "it did not help", "inconclusive": "can't tell", "not_held": "it did not hold"}
    result = str(one.body.get("result"))
    return f"{results.get(result, result)}: {one.body.get('reason')}"


def _issued(one: Said, _: Plan) -> str:
    body = one.body
    cost = body.get("cost") or {}
    bound = len(body.get("entries") or ()) + int(body.get("entries_left_out") or 0)
    command = str((body.get("undo") or {}).get("command") or "")
    undo = f"; `{command}` puts it back" if command else ""
    former = ", and replaces the receipt before" if body.get("supersedes") else ""
    spent = f"{number(cost.get('cpu_s'))} s of CPU and {plural(int(cost.get('fsyncs') or 0), 'fsync')}"
    return f"receipt: binds {plural(bound, 'entry').replace('entrys', 'entries')}{former}; it cost {spent}{undo}"


def _hold(one: Said, _: Plan) -> str:
    playbook, target = one.body.get("playbook"), str(one.body.get("target")).partition("@")[0]
    until = "until the finding clears, or " if one.body.get("finding") else "until "
    return f"{one.actor} keeps {playbook} off {target} {until}`stead lift {playbook} {target}`"


def _lifted(one: Said, _: Plan) -> str:
    playbook, target = one.body.get("playbook"), str(one.body.get("target")).partition("@")[0]
    return f"{playbook} may act on {target} again: {f'{one.actor} said so' if one.actor != 'stead' else 'the finding cleared'}"


def _autonomy(one: Said, _: Plan) -> str:
    return f"{one.actor} changed what stead may do: {changes(one.body.get('before'), one.body.get('after'))}"


def _rotated(one: Said, _: Plan) -> str:
    old, new = ("+".join(str(one.body.get(which)).split("+", 2)[:2]) for which in ("old", "new"))
    return f"{one.actor} made the key {new}, and {old} signed for it"


def _renewed(one: Said, _: Plan) -> str:
    former = " and ".join(map(str, one.body.get("former") or ())) or "one of which nothing is left"
    return f"a new log began after {former}: {one.body.get('reason')}"


def _unwitnessed(one: Said, _: Plan) -> str:
    body = one.body
    size = plural(int(body.get("size") or 0), "entry").replace("entrys", "entries")
    asked = f"{body.get('origin')} was not cosigned with {size}: {body.get('reason')}"
    return f"{asked}; it had been cosigned with {body.get('held_size')}"


def _target(body: Body) -> str:
    return f"{body['target']['kind']}:{body['target']['name']}"


def _run_words(one: Said, plan: Plan) -> str:
    """What a state means for whoever reads."""
    state, body, reason = one.entry.type.partition(".")[2], one.body, one.reason
    until_ms = body.get("lease_until_ms")
    lease = f" for {span((until_ms - one.entry.ts_ms) / 1000)}, then put back unless its reason still stands" if until_ms else ""
    if state == "acting" or (state == "approved" and not plan.approvals):
        return ""
    if state == "waiting":
        return f"waits for {plural(plan.needed, 'approval')} (`stead approve {plan.run_id[:13]}`)"
    if state == "verifying":
        verify_ms = body.get("verify_at_ms")
        left_s = (verify_ms - one.entry.ts_ms) / 1000 if verify_ms else 0
        watches = f"watches for {span(left_s)} whether" if left_s >= 1 else "looks whether"
        return f"all is written; {watches} it helps"
    if state == "held":
        return f"{RENEWED + ': ' if 'renewed' in reason else ''}stays in force{lease}"
    if state == "undoing" and reason.startswith(AGAIN):
        return f"is being put back: {reason}"
    if state == "undoing":
        return f"is being put back: {UNDO_WORDS.get(str(body.get('undo_reason')), reason or 'it must not stay')}"
    words = STATES.get(state, state.replace("_", " "))
    return words if state in OWN_WORDS or not reason or reason in UNDO_WORDS else f"{words}: {plainly(reason)}"


def plainly(reason: str) -> str:
    """The reason of an entry as people say it: "put back: no_help" is "it did not help"."""
    head, _, code = reason.partition(": ")
    return UNDO_WORDS[code] if head == "put back" and code in UNDO_WORDS else reason


WORDS: Final[dict[str, Callable[[Said, Plan], str]]] = {
    "finding.opened": _opened,
    "finding.cleared": _cleared,
    "proposal.made": _proposed,
    "metrics.action_recommended": lambda one, plan: "",  # the proposal beside it says as much
    "decision.made": _decided,
    "governance.policy.check": _asked_again,
    "approval.given": _approved,
    "approval.denied": _denied,
    "approval.expired": _expired,
    "attempt.made": _attempted,
    "receipt.made": _receipt,
    "conflict.seen": _conflict,
    "run.adjusted": _adjusted,
    "verdict.made": _verdict,
    "receipt.issued": _issued,
    "hold.made": _hold,
    "hold.lifted": _lifted,
    "autonomy.changed": _autonomy,
    "key.rotated": _rotated,
    "ledger.renewed": _renewed,
    "witness.refused": _unwitnessed,
    "agent.started": lambda one, plan: f"stead {one.body.get('version')} began",
    "agent.stopped": lambda one, plan: f"stead {one.body.get('version')} ended cleanly",
    "fact.seen": lambda one, plan: f"{one.body.get('value')}",
    "snapshots.taken": lambda one, plan: f"{plural(int(one.body.get('count') or 0), 'snapshot')} were hashed",
}
