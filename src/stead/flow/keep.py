"""Keep: the one way into the record. What happened is durable first, then told; a run's receipt goes with the move it is due for.

An event of a kind that the record must have (`infrastructure.*`, `metrics.action_recommended`, `governance.policy.check`) is
only ever made here, from the entry that is durable: `model.messages.Event` refuses one without that entry's number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from stead.flow import receipt
from stead.model.change import Hold, Run
from stead.model.find import Finding
from stead.model.messages import Event
from stead.model.policy import Approval
from stead.model.record import Entry, StoredEntry
from stead.protocols import Bus, Ledger

SALT_BYTES: Final = 16
TOLD: Final = ("run.", "infrastructure.", "metrics.action_recommended", "governance.policy.check", receipt.ISSUED)
TOLD_AS: Final[Mapping[str, str]] = {
    "finding.opened": "finding.opened",
    "finding.cleared": "finding.cleared",
    "decision.made": "governance.policy.check",
}


class Keeper:
    """Commits, then publishes. One for each process that writes."""

    def __init__(self, ledger: Ledger, bus: Bus | None, new_id: Callable[[], str]) -> None:
        self.ledger, self.bus, self.new_id = ledger, bus, new_id

    async def commit(
        self,
        entries: Sequence[Entry],
        *,
        runs: Sequence[Run] = (),
        approvals: Sequence[Approval] = (),
        use_approvals: Sequence[str] = (),
        findings: Sequence[Finding] = (),
        holds: Sequence[Hold] = (),
        drop_holds: Sequence[tuple[str, str]] = (),
    ) -> Sequence[StoredEntry]:
        """One transaction, with the receipts that are due in it; then copies to whoever listens.

        Raises SteadError: nothing of it is recorded, and nothing was told.
        """
        entries = self._with_receipts(runs, entries)
        stored = await self.ledger.commit(
            entries,
            runs=runs,
            approvals=approvals,
            use_approvals=use_approvals,
            findings=findings,
            holds=holds,
            drop_holds=drop_holds,
        )
        self._tell(entries, stored, runs, findings)
        return stored

    def _with_receipts(self, runs: Sequence[Run], entries: Sequence[Entry]) -> Sequence[Entry]:
        """The entries, salted once (every receipt has their hashes), and the receipts that are due in them."""
        due = [run for run in runs if receipt.due(run, entries)]
        if not due:
            return entries
        salted = [msgspec.structs.replace(one, salt=one.salt or os.urandom(SALT_BYTES)) for one in entries]
        ids = {run.id for run in runs}
        return [*salted, *(self._receipt(run, [one for one in salted if one.subject not in ids - {run.id}]) for run in due)]

    def _receipt(self, run: Run, salted: Sequence[Entry]) -> Entry:
        known = [*self.ledger.entries(receipt.STORED_MAX, run.id, receipt.BINDS)]
        older = self.ledger.count(run.id, receipt.BINDS) - len(known) if len(known) == receipt.STORED_MAX else 0
        if run.proposal.finding_id:
            known += self.ledger.entries(1, run.proposal.finding_id, ("finding.opened",))
        return receipt.issued(run, salted, known, self.ledger.commits(run.id) + 1, self.new_id, older)

    def _tell(
        self, entries: Sequence[Entry], stored: Sequence[StoredEntry], runs: Sequence[Run], findings: Sequence[Finding]
    ) -> None:
        if self.bus is None:
            return
        run_of, finding_of = {run.id: run for run in runs}, {finding.id: finding for finding in findings}
        for one, kept in zip(entries, stored, strict=True):
            topic = TOLD_AS.get(one.type) or (one.type if one.type.startswith(TOLD) else "")
            if topic and self.bus.wants(topic):
                run, finding = run_of.get(one.subject), finding_of.get(one.subject)
                self.bus.publish(Event(topic, one.subject, one.ts_ms, kept.seq, run=run, finding=finding, by=one.actor))
