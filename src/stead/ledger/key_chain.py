"""Which of a log's keys may be believed: those that a trusted key signed for, entry by entry, when it was rotated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from stead.ledger import refusals
from stead.ledger.keys import rotation_text
from stead.model.record import StoredEntry
from stead.tlog.keys import VerifierKey, parse_vkey, verify
from stead.tlog.strict import decode64

ROTATED: Final = "key.rotated"


class _Body(msgspec.Struct):
    about: str
    old: str
    new: str
    old_signature: str
    new_signature: str


class _Leaf(msgspec.Struct):
    body: _Body


class KeyChain:
    """The rotations of one log, in their order, each signed by the old key and the new one."""

    def __init__(self) -> None:
        self.rotations: list[tuple[VerifierKey, VerifierKey]] = []

    def add(self, entry: StoredEntry, place: str) -> None:
        """Take in an entry `key.rotated`. SteadError `ledger.altered` unless both keys signed it."""
        where = f"{place}, entry {entry.seq}"
        try:
            body = msgspec.json.decode(entry.leaf, type=_Leaf).body
            old, new = parse_vkey(body.old), parse_vkey(body.new)
            signatures = decode64(body.old_signature), decode64(body.new_signature)
        except (ValueError, RecursionError) as error:  # no such members, not UTF-8, not a key
            raise refusals.altered(f"this change of the log's key can't be read: {error}", where) from None
        text = rotation_text(body.about, body.old, body.new)
        if not (verify(old, text, signatures[0]) and verify(new, text, signatures[1])):
            raise refusals.altered("this change of the log's key was not signed by both keys", where)
        if {old.name, new.name} == {body.about}:
            self.rotations.append((old, new))

    def trusted(self, trusted: Sequence[VerifierKey]) -> set[VerifierKey]:
        """These keys, and those that they signed for, directly or by way of others. A key never vouches for an older one."""
        found = set(trusted)
        for old, new in self.rotations:
            if old in found:
                found.add(new)
        return found
