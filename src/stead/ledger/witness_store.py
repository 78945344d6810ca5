"""This host as a witness of other logs: what it cosigned last is durable before its cosignature leaves.

One row a log, in the ledger's file but no leaf: a thousand hosts that ask every five minutes would fill the record with what
nobody needs. Looking up, judging and keeping happen under one lock a log, so that two requests at once can't roll a log
back between them; a store that can't write, or that was put back from a backup, answers nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

from stead.ledger import tables
from stead.ledger.connect import Connection
from stead.ledger.key_files import KeyFiles
from stead.ledger.keys import origin_of
from stead.model.errors import SteadError
from stead.model.record import Entry, StoredEntry
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import COSIGNATURE, SEED_BYTES, SigningKey, VerifierKey, new_signing_key, parse_vkey
from stead.tlog.note import parse_note
from stead.tlog.strict import Malformed, encode64
from stead.tlog.witness import SIZE_TYPE, Held, WitnessAnswer, answer, parse_request

ROLE: Final = "witnessed"


class Store(Protocol):
    """What is needed of the ledger: the checkpoints that it keeps, and one durable transaction."""

    def kept_checkpoint(self, role: str, name: str) -> tuple[int, bytes] | None:
        """Size and note of a checkpoint, as it is durable."""
        ...

    async def commit(
        self, entries: Sequence[Entry], *, work: Callable[[Connection], object] | None = None
    ) -> Sequence[StoredEntry]:
        """Do `work` in one durable transaction. SteadError: nothing of it was written."""
        ...


class Witnessed(NamedTuple):
    """What this witness remembers of one log: the checkpoint that it cosigned last, and its note with the log's signatures."""

    checkpoint: Checkpoint
    note: bytes


class Refused(NamedTuple):
    """A checkpoint that a known log really signed, and that this witness could not follow.

    `forked` is proof by itself: two signed trees of one size. `rewritten` (a proof that does not lead here) and `rolled-back`
    (less than was cosigned) may also be another's bad request with a checkpoint of that log, so they are a reason to look.
    """

    reason: Literal["forked", "rewritten", "rolled-back"]
    offered: Checkpoint
    request: bytes
    held: Witnessed

    @property
    def body(self) -> dict[str, Any]:
        """What the record says of it; the signed notes go beside it."""
        held = self.held.checkpoint
        return {
            "held_root": encode64(held.root),
            "held_size": held.size,
            "origin": self.offered.origin,
            "reason": self.reason,
            "root": encode64(self.offered.root),
            "size": self.offered.size,
        }

    @property
    def notes(self) -> dict[str, str]:
        """Both sides' bytes, for whoever judges it."""
        return {"cosigned": self.held.note.decode("utf-8", "replace"), "request": self.request.decode("utf-8", "replace")}


class Cosigner:
    """Answers logs that ask to be cosigned. `logs` gives the keys of each origin; `key` is of type 0x04."""

    def __init__(self, store: Store, logs: Mapping[str, Sequence[VerifierKey]], key: SigningKey) -> None:
        self.store, self.logs, self.key = store, logs, key
        self._locks = {origin: asyncio.Lock() for origin in logs}

    async def answer(self, body: bytes, time_s: int) -> tuple[WitnessAnswer, Refused | None]:
        """The reply to a request at `time_s` (POSIX seconds), and what it refused if that is evidence.

        SteadError: the ledger can't be written now, so nothing was cosigned.
        """
        lock = self._locks.get(origin_in(body))
        if lock is None:  # no such log, or no request at all: there is nothing to look up or to keep
            return answer(body, {}, lambda _: None, self.key, time_s), None
        async with lock:
            reply = answer(body, self.logs, self.held, self.key, time_s)
            if reply.remember is not None:
                origin, checkpoint, note = reply.remember
                before = self.store.kept_checkpoint(ROLE, origin)
                await self.store.commit([], work=lambda db: _swap(db, origin, before, (checkpoint.size, note)))
            return reply, self._refused(reply, body)

    def remembered(self, origin: str) -> Witnessed | None:
        """What was cosigned last of a log. SteadError `ledger.damaged`: it can't be read."""
        kept = self.store.kept_checkpoint(ROLE, origin)
        if kept is None:
            return None
        try:
            return Witnessed(parse_checkpoint(parse_note(kept[1]).text), kept[1])
        except Malformed as error:
            what = f"what this witness cosigned of {origin} can't be read: {error}"
            fix = "it cosigns nothing of that log until the ledger is restored from a backup"
            raise SteadError(what, "ledger.db", fix, code="ledger.damaged") from None

    def held(self, origin: str) -> Held | None:
        """The same as the protocol needs it."""
        kept = self.remembered(origin)
        return None if kept is None else Held(kept.checkpoint.size, kept.checkpoint.root)

    def _refused(self, reply: WitnessAnswer, body: bytes) -> Refused | None:
        if reply.status not in (409, 422):
            return None
        offered = parse_checkpoint(parse_note(parse_request(body).checkpoint).text)
        kept = self.remembered(offered.origin)
        if kept is None:
            return None
        held = kept.checkpoint
        if offered.size == held.size and offered.root != held.root:
            return Refused("forked", offered, body, kept)
        if reply.status == 422:
            return Refused("rewritten", offered, body, kept)
        if reply.content_type == SIZE_TYPE and offered.size < held.size:
            return Refused("rolled-back", offered, body, kept)
        return None


def _swap(db: Connection, origin: str, before: tuple[int, bytes] | None, after: tuple[int, bytes]) -> None:
    """Compare and set, in the transaction that becomes durable. SteadError: another request came between."""
    if tables.get_checkpoint(db, ROLE, origin) != before:
        raise SteadError(f"two requests about {origin} at once", "ledger.db", "ask again", code="witness.busy")
    tables.put_checkpoint(db, ROLE, origin, *after)


def origin_in(body: bytes) -> str:
    """The origin that a request speaks of, as far as it can be told; what it is worth is judged later."""
    return body.partition(b"\n\n")[2].partition(b"\n")[0].decode("utf-8", "replace")


def witness_key(files: KeyFiles, host_name: str, random: bytes) -> SigningKey:
    """The key that this host cosigns with: the one it has, else a new one of 32 `random` bytes, whose name is `<host>/witness`.

    It is another key than the log's, as the standard demands, and is kept beside it. SteadError or OSError: it can't be.
    """
    known = published(files.directory)
    if known:
        return files.get(known[0])
    name = origin_of(host_name, ()).removesuffix("ledger") + "witness"
    key = new_signing_key(name, COSIGNATURE, random[:SEED_BYTES])
    files.put(key)
    files.publish(key.verifier)
    return key


def published(keys: Path) -> list[VerifierKey]:
    """The public keys that this host cosigns with, from its directory of keys; empty before the first start."""
    found = []
    for path in sorted(keys.glob("*.vkey")):
        with contextlib.suppress(Malformed, OSError, UnicodeDecodeError):
            key = parse_vkey(path.read_bytes().decode().strip())
            found += [key] if key.kind == COSIGNATURE else []
    return found
