"""What the agent answers about its ledger: exact bytes for whoever recomputes, proofs, search, and orders: a new key, an erasure.

Each answer is bounded (512 leaves, 4 MiB, one stretch of a search), so that nobody's verification holds up a tick.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stead.ledger.erasing import check_reason
from stead.ledger.store import LedgerStore
from stead.ledger.stored import StoreSource
from stead.model import ledger_messages as lm
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.messages import ReplyBody
from stead.model.policy import Actor
from stead.tlog.policy import TrustPolicy


class LedgerAnswers:
    """One method a question, as in `stead.agent.answers`."""

    def __init__(self, ledger: LedgerStore, witnesses: TrustPolicy, forget: Callable[[str], None] = lambda _: None) -> None:
        """`forget` is told the run or finding of whose words something was erased."""
        self.ledger, self.forget = ledger, forget
        self.source = StoreSource(ledger, lambda: witnesses)

    def table(self) -> dict[type[Any], Callable[[Any, Actor], Awaitable[ReplyBody]]]:
        """Request type → method."""
        return {
            lm.GetCheckpoint: self._checkpoint,
            lm.GetLeaves: self._leaves,
            lm.GetBlobs: self._blobs,
            lm.SearchEntries: self._search,
            lm.GetProof: self._proof,
            lm.RotateKey: self._rotate,
            lm.EraseBlob: self._erase,
        }

    async def _checkpoint(self, _: lm.GetCheckpoint, __: Actor) -> ReplyBody:
        return self.source.head()

    async def _leaves(self, body: lm.GetLeaves, _: Actor) -> ReplyBody:
        _range(body.start, body.end)
        return lm.LeafList(tuple(self.source.leaves(body.start, body.end)))

    async def _blobs(self, body: lm.GetBlobs, _: Actor) -> ReplyBody:
        _range(body.start, body.end)
        return self.source.blobs(body.start, body.end)

    async def _search(self, body: lm.SearchEntries, _: Actor) -> ReplyBody:
        return self.source.find(body)

    async def _proof(self, body: lm.GetProof, _: Actor) -> ReplyBody:
        return self.source.bundle(body.id)

    async def _rotate(self, _: lm.RotateKey, person: Actor) -> ReplyBody:
        await self.ledger.rotate_key(person)
        return self.source.head()

    async def _erase(self, body: lm.EraseBlob, person: Actor) -> ReplyBody:
        reason = check_reason(body.reason)
        if len(body.id) > lm.ID_MAX:
            what = f"no entry has an id of {len(body.id)} characters"
            raise SteadError(what, "", "give an id, or its beginning", code="entry.id", exit_code=EXIT_USAGE)
        about = self.ledger.entry(body.id)
        said = await self.ledger.erase(body.id, person, reason)
        if about is not None:
            self.forget(about.subject)
        return lm.LeafList((said,))


def _range(start: int, end: int) -> None:
    if not 0 <= start <= end < 1 << 62:
        what = f"from {start} to {end} is no range of entries"
        raise SteadError(what, "", "count indexes from 0, the end not included", code="ledger.range", exit_code=EXIT_USAGE)
