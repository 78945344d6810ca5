"""What people order about the record itself, as changes of it: a new key for the log, and the erasure of a blob."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stead.ledger import erasing, tables
from stead.ledger.change import Change
from stead.ledger.connect import Connection
from stead.ledger.keys import KeyRow, rotation_text
from stead.ledger.leaf import clean_text, uuid7
from stead.model.errors import SteadError
from stead.model.policy import Actor
from stead.model.record import Entry
from stead.tlog.keys import SigningKey
from stead.tlog.strict import encode64


def rotation(old: SigningKey, new: SigningKey, place: Path, until_ms: int, order: Callable[..., Entry], now_ms: int) -> Change:
    """The new key signs from this transaction on, and the old one until `until_ms`. `place` is the new secret's file.

    The entry `key.rotated` has both keys, the signature of each over `rotation_text`, and the end of the overlap.
    """
    origin, former, following = old.name, old.verifier.text, new.verifier.text
    signed = rotation_text(origin, former, following)
    body = {
        "new": following,
        "new_signature": encode64(new.sign(signed)),
        "old": former,
        "old_signature": encode64(old.sign(signed)),
        "overlap_until_ms": until_ms,
    }

    def work(db: Connection) -> None:
        current = next((row for row in tables.get_keys(db) if row.until_ms is None), None)
        if current is None or current.vkey != former or not place.exists():
            raise SteadError(
                "the ledger's key was being changed already", origin, "look at `stead ledger key`", code="key.changed"
            )
        tables.put_key(db, current._replace(until_ms=until_ms))
        tables.put_key(db, KeyRow(following, now_ms, None))

    return Change((order("key.rotated", origin, body),), work=work, key=new)


def erasure(entry_id: str, ref: str, reason: str, order: Callable[..., Entry]) -> Change:
    """What lay beside an entry was erased, with its copies. The leaf stays, so every proof of it still holds."""

    def work(db: Connection) -> None:
        erasing.erase(db, entry_id)

    bulk = msgspec.json.encode(clean_text(reason)) if reason else None
    return Change((order("blob.erased", entry_id, {"blob": ref}, bulk),), work=work, scrub=True)


def ordered(host_name: str, by: Actor, now_ms: int) -> Callable[[str, str, dict[str, Any]], Entry]:
    """Makes the entry of an order: (type, subject, body, what is kept beside it)."""

    def order(type_: str, subject: str, body: dict[str, Any], bulk: bytes | None = None) -> Entry:
        told = {"about": subject, **body}
        return Entry(uuid7(now_ms, os.urandom(10)), type_, host_name, now_ms, by, told, subject=subject, bulk=bulk)

    return order
