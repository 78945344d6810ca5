"""Searching entries, newest first: what is indexed at once, everything else a stretch at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from stead.ledger.leaf import LEAF_MAX_BYTES, Blob
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import EntryPage, SearchEntries
from stead.model.policy import Actor
from stead.model.record import StoredEntry

STRETCH: Final = 20_000  # entries looked at by their columns for one answer; about 50 ms
LEAVES_STRETCH: Final = 4_000  # and by what is in them or beside them
BEGINNING: Final = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}")  # of the id of a run or finding, and not all of it
LIMIT_MAX: Final = 512
TEXT_MAX: Final = 1000
NUMBER_MAX: Final = 1 << 62
ANSWER_BYTES: Final = 4 << 20  # of leaves or blobs: half of what a line of the socket may have, because base64 adds a third
_AT_ONCE: Final = 256
Entries = Callable[..., Sequence[StoredEntry]]
Beside = Callable[[int, int], Sequence[tuple[int, Blob]]]


class _By(msgspec.Struct):
    actor: Actor


_by: Final = msgspec.json.Decoder(_By)


def search(entries: Entries, beside: Beside, query: SearchEntries, size: int) -> EntryPage:
    """One page of answers. `entries` picks by an SQL condition with its values, `beside` gives the blobs of a span of indexes.

    `size` is how many entries there are. SteadError: a text or number is too large to look for.
    """
    _refuse(query)
    where, values = _conditions(query)
    inside = bool(query.actor or query.text)
    before = min(query.before or size + 1, size + 1)
    lowest = query.after
    if inside or (where and not query.subject):
        lowest = max(query.after, before - 1 - (LEAVES_STRETCH if inside else STRETCH))
    limit = min(max(1, query.limit), LIMIT_MAX)
    condition = f"{' AND '.join(['seq > ? AND seq < ?', *where])} ORDER BY seq DESC LIMIT ?"
    found: list[StoredEntry] = []
    at_once = _AT_ONCE if inside else limit
    rows: Sequence[StoredEntry] = ()
    while (
        len(found) < limit
        and _bytes(found) <= ANSWER_BYTES
        and (rows := entries(condition, lowest, before, *values, at_once, most=ANSWER_BYTES))
    ):
        found += [entry for entry in rows if not inside or _meets(entry, beside, query)]
        before = rows[-1].seq
        if len(rows) < at_once and _bytes(rows) + LEAF_MAX_BYTES <= ANSWER_BYTES:
            break
    page = fitting(found[:limit])
    looked_at = page[-1].seq if len(page) == limit or len(page) < len(found) else lowest + 1
    return EntryPage(page, looked_at if looked_at > query.after + 1 else 0)


def _refuse(query: SearchEntries) -> None:
    """SteadError: nobody asks so, and the database could not answer."""
    text = max((query.text, query.types, query.subject, query.actor), key=len)
    if len(text) > TEXT_MAX:
        what = f"a text of {len(text)} characters is not looked for"
        raise SteadError(what, "", f"give {TEXT_MAX} at most", code="search.text", exit_code=EXIT_USAGE)
    numbers = (query.since_ms, query.until_ms, query.after, query.before, query.limit)
    if any(abs(number) > NUMBER_MAX for number in numbers):
        what = f"{max(numbers, key=abs)} is no time and no entry's number"
        raise SteadError(what, "", f"give {NUMBER_MAX} at most", code="search.number", exit_code=EXIT_USAGE)


def _bytes(entries: Sequence[StoredEntry]) -> int:
    return sum(len(entry.leaf) for entry in entries)


def fitting(entries: Sequence[StoredEntry]) -> tuple[StoredEntry, ...]:
    """As many of the first entries as one answer can carry."""
    total = 0
    for count, entry in enumerate(entries):
        total += len(entry.leaf)
        if total > ANSWER_BYTES:
            return tuple(entries[:count])
    return tuple(entries)


def _conditions(query: SearchEntries) -> tuple[list[str], list[Any]]:
    """What of the query columns can answer, as SQL conditions and their values."""
    where: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        where.append(condition)
        values.extend(given)

    if query.types:
        add("type GLOB ?", query.types)
    if query.subject:
        if BEGINNING.fullmatch(query.subject):
            add("subject >= ? AND subject < ?", query.subject, query.subject + "~")
        else:
            add("subject = ?", query.subject)
    if query.since_ms:
        add("ts_ms >= ?", query.since_ms)
    if query.until_ms:
        add("ts_ms < ?", query.until_ms)
    return where, values


def _meets(entry: StoredEntry, beside: Beside, query: SearchEntries) -> bool:
    """Is the leaf by that actor, and is the text in it or beside it, as JSON writes it? ASCII's case matters not."""
    if query.actor:
        try:
            actor = _by.decode(entry.leaf).actor
        except (ValueError, RecursionError):  # altered, which is for whoever verifies to say
            return False
        if query.actor not in (actor.id, actor.kind):
            return False
    if not query.text:
        return True
    wanted = msgspec.json.encode(query.text.encode("utf-8", "replace").decode())[1:-1].lower()
    if wanted in entry.leaf.lower():
        return True
    return b'"blob":' in entry.leaf and any(wanted in blob.data.lower() for _, blob in beside(entry.seq - 1, entry.seq))
