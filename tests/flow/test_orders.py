"""What people ask for, and what they are told when it may not begin yet, or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stead.model.errors import EXIT_PAUSED, EXIT_WINDOW, SteadError
from stead.model.policy import Budget, Match, Rule, Window
from tests.flow.kit import ANN
from tests.flow.road import Lane, turn

NEVER = Window("never", 60.0, cron="0 0 29 2 *")
CLOSED = Rule("at-night-only", "deny", Match(outside="never"), "people are at work")


@pytest.mark.parametrize(("part", "code"), [("window", EXIT_WINDOW), ("budget", EXIT_PAUSED), ("pause", EXIT_PAUSED)])
async def test_an_approval_that_must_wait_says_for_what_by_its_exit_code(tmp_path: Path, part: str, code: int) -> None:
    lane = Lane(tmp_path, turn(tier=3))
    lane.show(2.0, 1.0)
    await lane.tick(1)
    (run,) = lane.runs()
    if part == "window":
        policy = lane.road.policy
        lane.road.policy = msgspec.structs.replace(policy, rules=(*policy.rules, CLOSED), windows=(NEVER,))
    elif part == "budget":
        lane.road.policy = msgspec.structs.replace(lane.road.policy, budget=Budget(actions_per_hour=0))
    else:
        await lane.orders.pause("", ANN)
    with pytest.raises(SteadError, match="approved, but not begun") as told:
        await lane.orders.approve(run.id, run.proposal.plan_hash, ANN)
    assert told.value.problem.exit_code == code
    assert lane.level() == 1
    lane.ledger.close()


async def test_an_approval_that_the_policy_overrules_ends_as_refused(tmp_path: Path) -> None:
    lane = Lane(tmp_path, turn(tier=3))
    lane.show(2.0, 1.0)
    await lane.tick(1)
    (run,) = lane.runs()
    no = Rule("hands-off", "deny", Match(actuator=("dial",)), "a person knows better")
    lane.road.policy = msgspec.structs.replace(lane.road.policy, rules=(no,))
    after = await lane.orders.approve(run.id, run.proposal.plan_hash, ANN)
    assert (after.state, lane.level()) == ("refused", 1)
    lane.ledger.close()


async def test_an_undo_that_can_not_be_leaves_no_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(tmp_path, turn(tier=3, predict=None))
    planned = lane.dials.plan
    monkeypatch.setattr(
        lane.dials, "plan", lambda *a: msgspec.structs.replace(planned(*a), undo="none", undo_reason="it has no way back")
    )
    lane.show(2.0, 1.0)
    await lane.tick(1)
    (run,) = lane.runs()
    await lane.orders.approve(run.id, run.proposal.plan_hash, ANN)
    await lane.tick(2)
    assert lane.level() == 9
    with pytest.raises(SteadError, match="no way back"):
        await lane.orders.undo(run.id, ANN)
    assert not lane.road.holds and not lane.ledger.holds()
    lane.ledger.close()
