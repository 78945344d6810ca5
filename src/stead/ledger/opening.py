"""How a ledger begins: a new one, one of an older version brought up to date, one that is there and must be what it signed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from stead.ledger import standing, tables
from stead.ledger.change import Change, put_together
from stead.ledger.connect import Connection
from stead.ledger.errors import altered
from stead.ledger.keys import KeyRing, KeyRow
from stead.ledger.leaf import uuid7
from stead.ledger.tree import check_edge
from stead.model.policy import Actor
from stead.model.record import Entry
from stead.tlog.merkle import leaf_hashes
from stead.tlog.strict import Malformed
from stead.tlog.tiles import WIDTH, TileTree

_STRETCH: Final = 16 * WIDTH
AGENT: Final = Actor("agent", "stead")


class Renewal(NamedTuple):
    """What a new log says of those before it, and what it takes over from them in its first transaction."""

    by: Actor = AGENT
    body: Mapping[str, Any] = {}
    carry: Callable[[Connection], object] = lambda _: None


def lost(path: Path) -> Renewal:
    """The renewal of a log whose database is not there: with the last checkpoint that was kept beside it."""
    kept = standing.Standing(path.parent).kept_text()
    return Renewal(body={"checkpoints": [kept] if kept else [], "reason": f"{path.name} was not there"})


def adopt_leaves(db: Connection, tree: TileTree, path: Path) -> None:
    """Append the leaves that an older version wrote, in their order, to an empty tree. SteadError: one is missing."""
    size = tables.count_entries(db, path)
    for start in range(0, size, _STRETCH):
        leaves = tables.get_leaves(db, start, min(start + _STRETCH, size), path)
        tables.put_tiles(db, tree.append(leaf_hashes(leaves)))


def renewed(origin: str, former: Iterable[str], host_name: str, now_ms: int, renewal: Renewal) -> Entry:
    """A new log began after others: their names, their last checkpoints that are known, and why."""
    body = {"about": origin, "former": sorted(former), **renewal.body}
    return Entry(uuid7(now_ms, os.urandom(10)), "ledger.renewed", host_name, now_ms, renewal.by, body, subject=origin)


def note_former(db: Connection, tree: TileTree, entry: Entry) -> None:
    """Begin a new log with an entry about those before it."""
    put = put_together(db, [Change((entry,), bare=True)], tree.size + 1, entry.ts_ms)
    tables.put_tiles(db, tree.append(put.hashes))


def own_checkpoint(db: Connection, tree: TileTree, ring: KeyRing, now_ms: int, path: Path) -> tuple[str, bytes]:
    """Origin and newest checkpoint of a ledger that is there. SteadError unless the tree is what it says.

    Only keys whose secret this host holds can have signed it: one that merely stands in a row is anybody's who can write there.
    """
    origin = tables.get_meta(db, "origin") or ""
    kept = tables.get_checkpoint(db, "own", "")
    if kept is None:
        raise altered("the ledger's own checkpoint is missing", path)
    try:
        keys = ring.held(tables.get_keys(db), now_ms)
    except Malformed as error:
        raise altered(f"a key of the ledger can't be read: {error}", path) from error
    check_edge(tree, origin, kept[1], keys, path)
    return origin, kept[1]


def put_identity(db: Connection, origin: str, size: int, note: bytes, key: KeyRow) -> None:
    """What makes a log this log: its name, its first key, its first checkpoint."""
    tables.put_meta(db, [("origin", origin)])
    tables.put_key(db, key)
    tables.put_checkpoint(db, "own", "", size, note)
