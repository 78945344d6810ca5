"""Answers other logs that ask this host to cosign them, and keeps on record what it had to refuse.

A refusal can be evidence that another log's operator rewrote history, so it is a leaf of this host's own record; but anyone
can send an old checkpoint, so the same one is recorded once, and a log at most so often a day for each reason: no number of
old checkpoints keeps a fork off the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from stead.flow import record
from stead.flow.record import Stamp
from stead.ledger.store import LedgerStore
from stead.ledger.witness_store import ROLE, Cosigner, Refused
from stead.model.errors import SteadError
from stead.model.messages import Station
from stead.model.witness_messages import WitnessedLog, WitnessReply
from stead.protocols import Clock
from stead.tlog.keys import SigningKey, VerifierKey
from stead.tlog.witness import TEXT_TYPE

REFUSED: Final = "witness.refused"
A_DAY: Final = 10  # leaves about one log, for each reason
DAY_MS: Final = 86_400_000
WORDS: Final = {
    "forked": "signed two different ledgers of {size} entries",
    "rewritten": "asked to be cosigned with {size} entries, which do not go on from the {held} that were cosigned",
    "rolled-back": "asked to be cosigned with {size} entries, after {held} were cosigned",
}


class WitnessDoor:
    """This host as a witness. `logs` are those that it cosigns, by origin."""

    def __init__(
        self, store: LedgerStore, logs: Mapping[str, Sequence[VerifierKey]], key: SigningKey, stamp: Any, clock: Clock, log: Any
    ) -> None:
        self.cosigner = Cosigner(store, logs, key)
        self._store, self._stamp, self._clock, self._log = store, stamp, clock, log
        self._refused: dict[str, str] = {}
        self._waiting: dict[tuple[str, str], Refused] = {}

    async def answer(self, body: bytes) -> WitnessReply:
        """The HTTP answer to a request. 503 while the ledger can't remember what would be cosigned."""
        if not self._store.remembers:  # what it remembers of others may be as old as a backup
            return WitnessReply(503, TEXT_TYPE, b"this witness is out of order: its own ledger stopped\n")
        try:
            await self._record_waiting()
            reply, refused = await self.cosigner.answer(body, self._clock.now().unix_ms // 1000)
            if refused is not None:
                await self._keep(refused)
            elif reply.remember is not None:
                self._refused.pop(reply.remember.origin, None)
        except SteadError as error:
            self._log.error("a checkpoint could not be cosigned", why=str(error))
            return WitnessReply(503, TEXT_TYPE, b"this witness can't remember anything just now\n")
        return WitnessReply(reply.status, reply.content_type, reply.body)

    def stations(self) -> tuple[Station, ...]:
        """Unhealthy for each log that was refused and has not been cosigned since."""
        return tuple(Station(f"witness of {origin}", False, why) for origin, why in self._refused.items())

    def view(self) -> tuple[WitnessedLog, ...]:
        """Every log that it cosigns, with the size that it cosigned last."""
        kept = {origin: self._store.kept_checkpoint(ROLE, origin) for origin in self.cosigner.logs}
        return tuple(WitnessedLog(one, row[0] if row else None, self._refused.get(one, "")) for one, row in kept.items())

    async def _record_waiting(self) -> None:
        """Put on record what was refused while nothing could be recorded."""
        while self._waiting and self._store.stopped is None:
            await self._keep(self._waiting.popitem()[1])

    async def _keep(self, refused: Refused) -> None:
        """Record it, unless it is on record already or too much is; later, while nothing may be recorded."""
        origin = refused.offered.origin
        stamp: Stamp = self._stamp()
        held = refused.held.checkpoint.size
        words = f"{origin} {WORDS[refused.reason].format(size=refused.offered.size, held=held)}"
        self._refused[origin] = words
        if self._store.stopped is not None:
            self._waiting[origin, refused.reason] = refused
            return
        newest = self._store.entries(A_DAY * len(WORDS), origin, (REFUSED,))
        bodies = [(entry.ts_ms, msgspec.json.decode(entry.leaf)["body"]) for entry in newest]
        today = [said for at_ms, said in bodies if said["reason"] == refused.reason and stamp.now.unix_ms - at_ms < DAY_MS]
        if len(today) >= A_DAY or {"about": origin, **refused.body} in [said for _, said in bodies]:
            return
        self._log.warning("refused to cosign", log=origin, reason=refused.reason, size=refused.offered.size, held=held)
        await self._store.commit([record.witness_refused(origin, refused.body, refused.notes, stamp)])
