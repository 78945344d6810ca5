"""What a leaf says, in words, from its own bytes alone: no agent, no blob, no other entry.

A type that nothing here speaks of is told by its members: a proof is never dumped as JSON, and never said to mean more than
it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from stead.cli.words import plural

Body = Mapping[str, Any]
SHOWN_CHARS: Final = 160
_QUIET: Final = frozenset(("about", "fingerprint", "detector", "plan_hash", "policy_version", "catalog_version"))


class Leaf(msgspec.Struct):
    """The members of a leaf that words are made of."""

    id: str
    type: str
    ts: str
    host: str = ""
    actor: dict[str, str] = {}
    body: dict[str, Any] = {}


def read_leaf(data: bytes) -> Leaf | None:
    """A leaf of stead's; None for other bytes."""
    try:
        return msgspec.json.decode(data, type=Leaf)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def leaf_words(data: bytes) -> str:
    """One leaf as a sentence: when, where, who, what."""
    leaf = read_leaf(data)
    if leaf is None:
        return f"{len(data)} bytes that are no entry of stead's"
    when = leaf.ts[:19].replace("T", " ")
    return f"{when} UTC, {leaf.host}: {what_words(leaf)} (by {who_words(leaf.actor)})"


def who_words(actor: Mapping[str, str]) -> str:
    """Who made it happen: "stead", "user uid:1000"."""
    kind, name = actor.get("kind", ""), actor.get("id", "")
    return "stead" if kind == "agent" else f"{kind} {name}".strip() or "nobody named"


def what_words(leaf: Leaf) -> str:
    """What happened."""
    say = _WORDS.get(leaf.type)
    title = leaf.type.replace(".", " ").replace("_", " ")
    try:
        said = say(leaf.body) if say else _members(leaf.body)
    except (KeyError, TypeError, ValueError, AttributeError):
        said = _members(leaf.body)
    return f"{title}: {said}" if said else title


def _members(body: Body) -> str:
    """The members of a body that nothing better is known of."""
    told = {key: value for key, value in body.items() if key not in _QUIET and value not in (None, "", [], {})}
    text = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in told.items())
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _finding(body: Body) -> str:
    limit = f", beyond {body['threshold']}" if body.get("threshold") is not None else ""
    return f"{body['metric']} of {body['subject'].partition('@')[0]} {body['value']} {body['unit']}{limit} [{body['band']}]"


def _proposal(body: Body) -> str:
    steps = ", ".join(_step(step) for step in body["steps"]) or body["impossible"]
    return f"{body['playbook']} ({body['risk']} risk, tier {body['tier']}): {steps}"


def _step(step: Body) -> str:
    return f"{step['actuator']} of {_target(step)} {_changes(step['before'], step['want'])}"


def _target(step: Body) -> str:
    return f"{step['target']['kind']}:{step['target']['name']}"


def _changes(before: Body | None, want: Body | None) -> str:
    if want is None:
        return "removed"
    was = before or {}
    changed = [f"{key} {_short(was.get(key))} → {_short(value)}" for key, value in want.items() if was.get(key) != value]
    return ", ".join(changed) or "unchanged"


def _decision(body: Body) -> str:
    rules = f" by {', '.join(body['rules'])}" if body.get("rules") else ""
    return f"{body['answer']}{', as advice only' if body.get('advised') else ''}{rules}"


def _approval(body: Body) -> str:
    return f"{body['by']['id']} approved plan {body['plan_hash'][:12]}"


def _attempt(body: Body) -> str:
    one = body["attempt"]
    verb = "put back" if one["direction"] == "undo" else "write"
    return f"about to {verb} {body['actuator']} of {_target(body)}: {_changes(one['before'], one['want'])}"


def _receipt(body: Body) -> str:
    one = body["receipt"]
    return f"{one['outcome']}: {body['actuator']} of {_target(body)} reads {_short(one['after'])}"


def _verdict(body: Body) -> str:
    return f"{body['result'].replace('_', ' ')}: {body['reason']}"


def _snapshots(body: Body) -> str:
    return f"{plural(body['count'], 'summary', 'summaries')} of one interval, together {body['hash'][:23]}…"


_WORDS: Final[dict[str, Callable[[Body], str]]] = {
    "finding.opened": _finding,
    "finding.cleared": _finding,
    "proposal.made": _proposal,
    "decision.made": _decision,
    "approval.given": _approval,
    "attempt.made": _attempt,
    "receipt.made": _receipt,
    "verdict.made": _verdict,
    "snapshots.taken": _snapshots,
}
