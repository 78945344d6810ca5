"""Follow: the runs whose time has come, one by one. What stands in the way of one keeps no other from its verdict or its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stead.flow import runs
from stead.model.change import Run
from stead.model.observe import Now

if TYPE_CHECKING:
    from stead.flow.pipeline import Road


async def follow(road: Road, now: Now) -> None:
    """Move the runs whose time has come: verdicts, leases, approvals that nobody used; then let approved ones begin.

    After a verdict that failed none begins in this tick: it may lower autonomy, which the next one does first of all. What the
    first of those raised that could not be moved is raised in the end.
    """
    failed, troubles = False, list[Exception]()
    for known in sorted(road.runs.values(), key=lambda run: run.state == "approved"):
        run = road.runs.get(known.id)  # as it is by now: people move runs too
        if run is None or road.tasks.busy(run.id):
            continue
        try:
            with road.tasks.at_work(run.id):
                failed |= await _move(road, run, failed, now)
        except Exception as error:  # a lease has to end whatever became of somebody else's verdict
            troubles.append(error)
    if troubles:
        raise troubles[0]


async def _move(road: Road, run: Run, failed: bool, now: Now) -> bool:
    """One run. True when its verdict was that it failed."""
    late = runs.overdue(run, road.policy, now.unix_ms) or runs.outlived(run, road.findings.values())
    if late:
        await road.keep(*runs.expire(run, late, road.stamp(now)), now)
    elif run.state == "approved":
        if not failed and not await road.admitted(run, now):
            road.drive(run)
    elif run.state in ("acting", "undoing"):  # the ledger failed in the middle
        road.drive(run)
    elif run.state == "verifying" and now.unix_ms >= (run.verify_at_ms or 0):
        return await road.weigh(run, now)
    elif run.state == "held":
        await road.leases.mind(road, run, now)
    return False
