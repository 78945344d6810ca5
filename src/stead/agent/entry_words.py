"""Each entry of the ledger in plain words, for `stead why`: what was decided, written, read back and concluded.

An entry's own body is what counts, not the run as it is now. A type that nothing here speaks of is named, never dumped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from stead.model.change import UNDO_WORDS, Attempt, Receipt, Run, Step
from stead.model.record import StoredEntry

Body = Mapping[str, Any]
Values = Mapping[str, Any]

STATES: Final[dict[str, str]] = {
    "refused": "nothing was changed: refused",
    "advised": "nothing was changed: this is advice only",
    "approved": "may begin",
    "kept": "stays for good",
    "undone": "everything is put back",
    "undo_failed": "could not be put back: needs a person",
    "failed": "failed",
    "moot": "nothing to do",
    "conflict": "another hand owns the value now: left as it is",
    "denied": "a person said no",
    "expired": "too late",
    "cancelled": "cancelled",
    "unsupported": "can't be done here",
}
OWN_WORDS: Final = frozenset(("advised", "approved", "conflict", "denied"))  # states whose reason another link already told


def words_of(entry: StoredEntry, run: Run, told: object = None) -> str:
    """One entry in words, empty for one that only repeats another. `told` was kept beside its leaf: a reason or an error."""
    leaf: dict[str, Any] = msgspec.json.decode(entry.leaf)
    body: Body = leaf.get("body") or {}
    reason = told if isinstance(told, str) else ""
    if entry.type.startswith("run."):
        return _run_words(entry.type.partition(".")[2], body, entry.ts_ms, run, reason)
    say = WORDS.get(entry.type)
    if say is None or "oversize_bytes" in body:  # a body too large for a leaf is in the blob
        return entry.type.replace(".", " ").replace("_", " ")
    return say(body, run, reason)


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
    return f"{step.actuator} of {step.target}: {changes(step.before, step.want)}{note}"


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
        return ",".join(short(item) for item in value) or "none"
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


def _proposed(_: Body, run: Run, __: str) -> str:
    proposal = run.proposal
    if proposal.impossible:
        return f"{proposal.playbook}: {proposal.title}: {proposal.impossible}"
    return f"{proposal.playbook}: {proposal.title}; " + "; ".join(step_words(step) for step in proposal.steps)


def _decided(body: Body, _: Run, __: str) -> str:
    needed = plural(int(body.get("approvals_needed") or 1), "approval")
    if body.get("advised"):
        head = {"allow": "would act", "ask": "would ask", "deny": "would refuse"}[body.get("would") or "deny"] + ", advice only"
    else:
        head = {"allow": "may act alone", "ask": f"asks for {needed}", "deny": "refused"}[body["answer"]]
    return _because(head, body)


def _asked_again(body: Body, _: Run, __: str) -> str:
    answer = {"allow": "it may still be done", "ask": "it needs approval", "deny": "it is refused"}[body["answer"]]
    return _because(f"the policy was asked again: {answer}", body)


def _because(head: str, body: Body) -> str:
    rules, reasons = body.get("rules") or (), body.get("reasons") or ()
    by = f" by {', '.join(rules)}" if rules else ""
    return f"{head}{by}" + (f": {'; '.join(reasons)}" if reasons else "")


def _approved(body: Body, _: Run, __: str) -> str:
    solo = " (the same person as before: a one-person host)" if body.get("solo") else ""
    return f"{body['by']['id']} approved plan {str(body['plan_hash'])[:12]}{solo}"


def _denied(_: Body, run: Run, reason: str) -> str:
    by = run.reason if run.state == "denied" and not reason else ""
    return f"a person said no: {reason}" if reason else by or "a person said no"


def _expired(body: Body, _: Run, __: str) -> str:
    return f"it lapsed: {body.get('reason') or 'its time to live has passed'}"


def _attempted(body: Body, _: Run, __: str) -> str:
    attempt = msgspec.convert(body["attempt"], Attempt, strict=False)
    verb = "about to put back" if attempt.direction == "undo" else "about to write"
    return f"{verb} {body['actuator']} of {_target(body)}: {changes(attempt.before, attempt.want)}"


def _receipt(body: Body, run: Run, error: str) -> str:
    receipt = msgspec.convert(body["receipt"], Receipt, strict=False)
    attempt = next((one for one in run.attempts if one.id == receipt.attempt_id), None)
    undo = receipt.direction == "undo"
    if attempt is not None:
        before, want = attempt.before, attempt.want
    else:
        before, want = (body["want"], body["before"]) if undo else (body["before"], body["want"])
    what = f"{body['actuator']} of {_target(body)}"
    reads = _reads(receipt, want)
    why = f": {error}" if error else ""
    if receipt.outcome == "done":
        return f"{'put back' if undo else 'wrote'} {what}: {changes(before, want)}, read back {reads}"
    words = {
        "already": f"{what} reads {reads} already: nothing was written",
        "failed": f"{'putting back' if undo else 'writing'} {what} failed{why}; it reads {reads}",
        "unknown": f"whether {what} was {'put back' if undo else 'written'} is unknown{why}",
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


def _conflict(body: Body, _: Run, __: str) -> str:
    found, left = body.get("found") or {}, body.get("left") or {}
    parts = [
        f"{name(key)} is {short(found[key])} where stead had left {short(value)}"
        for key, value in left.items()
        if key in found and found[key] != value
    ]
    return f"another hand changed {body['actuator']} of {_target(body)}: {', '.join(parts) or 'it reads otherwise'}"


def _verdict(body: Body, _: Run, __: str) -> str:
    result = {"helped": "it helped", "no_help": "it did not help", "inconclusive": "can't tell", "not_held": "it did not hold"}
    return f"{result[body['result']]}: {body['reason']}"


def _target(body: Body) -> str:
    return f"{body['target']['kind']}:{body['target']['name']}"


def _run_words(state: str, body: Body, at_ms: int, run: Run, reason: str) -> str:
    """What a state means for whoever reads."""
    until_ms = body.get("lease_until_ms")
    lease = f" for {span((until_ms - at_ms) / 1000)}, then put back unless its reason still stands" if until_ms else ""
    if state == "acting" or (state == "approved" and not run.approvals):
        return ""
    if state == "waiting":
        needed = run.decision.approvals_needed if run.decision else 1
        return f"waits for {plural(max(needed, 1), 'approval')} (`stead approve {run.id[:13]}`)"
    if state == "verifying":
        return f"all is written; watches for {span(run.proposal.verify_s)} whether it helps"
    if state == "held":
        return f"{'its lease was renewed: ' if 'renewed' in reason else ''}stays in force{lease}"
    if state == "undoing":
        return f"is being put back: {UNDO_WORDS.get(str(body.get('undo_reason')), reason or 'it must not stay')}"
    words = STATES.get(state, state.replace("_", " "))
    return words if state in OWN_WORDS or not reason or reason in UNDO_WORDS else f"{words}: {_plainly(reason)}"


def _plainly(reason: str) -> str:
    head, _, code = reason.partition(": ")
    return UNDO_WORDS[code] if head == "put back" and code in UNDO_WORDS else reason


WORDS: Final[dict[str, Callable[[Body, Run, str], str]]] = {
    "proposal.made": _proposed,
    "decision.made": _decided,
    "governance.policy.check": _asked_again,
    "approval.given": _approved,
    "approval.denied": _denied,
    "approval.expired": _expired,
    "attempt.made": _attempted,
    "receipt.made": _receipt,
    "conflict.seen": _conflict,
    "verdict.made": _verdict,
}
