"""Searching entries, newest first: what is indexed at once, everything else a stretch at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from stead.model.ledger_messages import EntryPage, SearchEntries
from stead.model.record import StoredEntry

STRETCH: Final = 20_000  # entries looked at for one answer; about 50 ms
BEGINNING: Final = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}")  # of the id of a run or finding, and not all of it
LIMIT_MAX: Final = 512
_COLUMNS: Final = "seq, id, type, subject, ts_ms, leaf"
_ACTOR: Final = "CAST(leaf AS TEXT) ->> '$.actor.{}' = ?"


def search(rows: Callable[..., list[Any]], query: SearchEntries, size: int) -> EntryPage:
    """One page of answers. `rows` runs a statement with its values; `size` is how many entries there are."""
    where, values = _conditions(query)
    before = min(query.before or size + 1, size + 1)
    lowest = max(query.after, before - 1 - STRETCH) if where and not query.subject else query.after
    beside = " LEFT JOIN blobs ON blobs.ref = entries.blob" if query.text else ""
    sql = (
        f"SELECT {_COLUMNS} FROM entries{beside} WHERE {' AND '.join(['seq > ? AND seq < ?', *where])}"  # noqa: S608
        " ORDER BY seq DESC LIMIT ?"
    )
    limit = min(max(1, query.limit), LIMIT_MAX)
    found = tuple(StoredEntry(*row) for row in rows(sql, lowest, before, *values, limit))
    looked_at = found[-1].seq if len(found) == limit else lowest + 1
    return EntryPage(found, looked_at if looked_at > query.after + 1 else 0)


def _conditions(query: SearchEntries) -> tuple[list[str], list[Any]]:
    """The query as SQL conditions and their values."""
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
    if query.actor:
        add(f"({_ACTOR.format('id')} OR {_ACTOR.format('kind')})", query.actor, query.actor)
    if query.text:
        pattern = _pattern(query.text)
        add("(CAST(leaf AS TEXT) LIKE ? ESCAPE '!' OR CAST(data AS TEXT) LIKE ? ESCAPE '!')", pattern, pattern)
    return where, values


def _pattern(text: str) -> str:
    """The text as JSON writes it, anywhere; case matters to none of ASCII's letters."""
    written = msgspec.json.encode(text.encode("utf-8", "replace").decode())[1:-1].decode()
    return "%" + written.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
