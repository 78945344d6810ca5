"""What a leaf says, in words, from its own bytes alone: no agent, no blob, no other entry.

A type that nothing here speaks of is told by its members: a proof is never said to mean more than it does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from stead.cli.words import plural
from stead.ledger.said import plan_of, said
from stead.ledger.words import changes, number, plain, words_of
from stead.model.record import StoredEntry

SHOWN_CHARS: Final = 600
ID_CHARS: Final = 13  # of the id of a run or finding: what tables show
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RECEIPT: Final = "receipt.issued"


class Leaf(msgspec.Struct):
    """The members of a leaf that words are made of."""

    id: str
    type: str
    ts: str
    host: str = ""
    actor: dict[str, str] = {}
    body: dict[str, Any] = {}

    @property
    def at_ms(self) -> int:
        """When it was recorded, Unix milliseconds. Raises ValueError when that is no time."""
        return round(datetime.fromisoformat(self.ts).timestamp() * 1000)


def read_leaf(data: bytes) -> Leaf | None:
    """A leaf of stead's; None for other bytes."""
    try:
        return msgspec.json.decode(data, type=Leaf)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def leaf_words(data: bytes) -> str:
    """One leaf as a sentence: when, where, what, who."""
    leaf = read_leaf(data)
    if leaf is None:
        return f"{len(data)} bytes that are no entry of stead's"
    when = leaf.ts[:19].replace("T", " ")
    about = str(leaf.body.get("about", ""))
    of = f", about {about[:ID_CHARS]}" if UUID.fullmatch(about) else ""
    return f"{when} UTC, {leaf.host}: {_cut(_what(leaf, data))} (by {who_words(leaf.actor)}{of})"


def what_words(data: bytes) -> str:
    """What a leaf says beyond its type; empty where its type says it all, or nothing here speaks of it."""
    leaf = read_leaf(data)
    words = _words(leaf, data) if leaf else ""
    return _cut(words)


def who_words(actor: Mapping[str, str]) -> str:
    """Who made it happen: "stead", "user uid:1000"."""
    kind, name = actor.get("kind", ""), actor.get("id", "")
    if kind == name:
        return f"the {kind}" if kind else "nobody named"
    return "stead" if kind == "agent" else f"{kind} {name}".strip()


def _what(leaf: Leaf, data: bytes) -> str:
    """What happened: the words of `stead why` where it has any, else type and members."""
    title = _title(leaf)
    if leaf.type == RECEIPT and (words := _receipt(leaf.body)):
        return f"receipt: {words}"
    words = _words(leaf, data)
    if not words:
        words = ", ".join(
            f"{key.replace('_', ' ')} {_short(value)}" for key, value in leaf.body.items() if value not in ("", None)
        )
    return f"{title}: {words}" if words else title


def _title(leaf: Leaf) -> str:
    return leaf.type.replace(".", " ").replace("_", " ")


def _words(leaf: Leaf, data: bytes) -> str:
    """The words of `stead why`, without what the type says already."""
    if leaf.type == RECEIPT and (words := _receipt(leaf.body)):
        return words
    title = _title(leaf)
    about = str(leaf.body.get("about", ""))
    try:
        one = said(StoredEntry(0, leaf.id, leaf.type, about, leaf.at_ms, data), None)
        words = words_of(one, plan_of(about, [one]))
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.MsgspecError):
        return ""
    for word in title.split():  # "finding cleared: cleared: …"
        words = words.removeprefix(f"{word}: ")
    return "" if words == title else words


def _receipt(body: Mapping[str, Any]) -> str:
    """What a receipt binds, from finding to undo; empty when it is written in a way that is not known here."""
    try:
        finding, verdict, found = body.get("finding"), body.get("verdict"), body["steps"]
        steps = [f"{one['actuator']} of {_target(one['target'])}: {changes(one['before'], one['want'])}" for one in found]
        made = [operation for one in found for receipt in one["receipts"] for operation in receipt["operations"]]
        approved = [str(one["by"]["id"]) for one in body["approvals"]]
        parts = [
            f"{body['playbook']} ({body['risk']} risk, tier {body['tier']}) {' and '.join(steps)}",
            f"because {finding['metric']} of {plain(finding['subject'])} was {number(finding['value'])}" if finding else "",
            f"approved by {', '.join(approved)}" if approved else "",
            f"done by {', '.join(made)}" if made else "",
            f"now {body['state'].replace('_', ' ')}",
            f"verdict: {verdict['result'].replace('_', ' ')}, {verdict['reason']}" if verdict else "",
            f"binds {plural(len(body['entries']), 'other entry', 'other entries')} by their hashes",
        ]
    except (KeyError, TypeError, AttributeError):
        return ""
    return "; ".join(part for part in parts if part)


def _target(target: Mapping[str, Any]) -> str:
    return f"{target['kind']}:{target['name']}"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"
