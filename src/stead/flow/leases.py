"""Leases: what is held is held for a time, and goes on only while its reason stands. Without a reason it lapses and is put back.

The reason is the open finding. A change that works can make its own finding clear, and would be given up and made again for ever;
so what a playbook names in `keep_while` counts as well, and of a governed value that what it limits still comes near it. Where a
playbook says so what would be without it, its end is known too: then nothing waits for the lease.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from stead.flow import runs
from stead.flow.decide import decide
from stead.flow.govern_state import binds
from stead.model.change import Run
from stead.model.observe import Now
from stead.protocols import Latest

if TYPE_CHECKING:
    from stead.flow.pipeline import Road

LAST_PART: Final = 4  # a quarter of a lease
REST_PART: Final = 10  # a tenth of it: so long a reason must be gone without a break (what is measured seldom has a long lease),
REST_MS: Final = 30_000  # but for this long, or a quarter of a lease that is shorter


class Leases:
    """Minds the runs that are held. Keeps since when the reason of each is gone, by the monotonic clock."""

    def __init__(self) -> None:
        self._gone_ms: dict[str, int] = {}

    async def mind(self, road: Road, run: Run, now: Now) -> None:
        """A run under its lease: renewed in its last quarter where it is still wanted, put back when its reason is over.

        Where no reason but its finding is known (which the change itself may have cleared), it is put back at the lease's end.
        """
        lease_ms, until_ms = runs.lease_ms(run.proposal) or 0, run.lease_until_ms or 0
        if self._is_over(road, run, lease_ms, now):
            road.put_back(run, "cleared")
        elif now.unix_ms >= until_ms - lease_ms // LAST_PART and _still_wanted(road, run, now):
            road.learn(await road.place.hands.renew(run, now.unix_ms + lease_ms))
        elif now.unix_ms >= until_ms:
            road.put_back(run, "lease")

    def _is_over(self, road: Road, run: Run, lease_ms: int, now: Now) -> bool:
        """Has the reason been gone for a while? A contender that rests for a moment is no end of it."""
        if not run.proposal.keep_while or not _kept(run) or _stands_now(road, run):
            self._gone_ms.pop(run.id, None)
            return False
        self._gone_ms = {known: at_ms for known, at_ms in self._gone_ms.items() if known in road.runs}
        since_ms = self._gone_ms.setdefault(run.id, now.mono_ms)
        return now.mono_ms - since_ms >= max(lease_ms // REST_PART, min(REST_MS, lease_ms // LAST_PART))


def stands(run: Run, open_findings: Collection[str], latest: Latest) -> bool:
    """Does its reason stand: did it help, and is what it answers still so, or would it be without it?

    Where no effect could be told (what is held back within seconds of its onset leaves too little to compare with) it stands only
    by its playbook's leave, which the owner of the host gave by naming what may be held back.
    """
    return _kept(run) and (run.proposal.finding_id in open_findings or _goes_on(run, latest) or binds(run, latest))


def _kept(run: Run) -> bool:
    """Is its verdict one to keep it for?"""
    unclear = run.verdict is not None and run.verdict.result == "inconclusive" and run.proposal.keep_unclear
    return unclear or (run.verdict is not None and run.verdict.result == "helped")


def _stands_now(road: Road, run: Run) -> bool:
    return stands(run, {finding.id for finding in road.findings.values()}, road.series.value)


def _still_wanted(road: Road, run: Run, now: Now) -> bool:
    """Its reason stands, and neither a pause, the mode nor the policy is against it by now."""
    if not _stands_now(road, run):
        return False
    context = road.deciding(now)
    stopped = context.autonomy.paused or context.autonomy.mode != "act"
    decision = decide(run.proposal, road.policy, context, now)
    return not stopped and (decision.answer != "deny" or decision.retry)  # a budget that is used up ends nothing


def _goes_on(run: Run, latest: Latest) -> bool:
    """Is everything that keeps it wanted above its level? What is unknown keeps nothing."""
    reasons = run.proposal.keep_while
    values = [(latest(one.metric, one.subject), one.above) for one in reasons]
    return bool(reasons) and all(value is not None and value > above for value, above in values)
