"""The wall clock is set while things are under way: windows, leases, cooldowns and the budget's hour go on as they were."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stead.flow import runs
from stead.flow.clock_steps import ClockSteps, carried
from stead.model.change import Run
from stead.model.observe import Now
from stead.model.policy import Policy
from tests.flow.kit import NOW, approval, decision, dial_step, proposal, stamp
from tests.flow.road import Lane, turn

HOUR = 3_600_000


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_window_and_a_lease_last_as_long_as_without(tmp_path: Path, step: int) -> None:
    lane = Lane(tmp_path)
    lane.show(2.0, 1.0)
    await lane.tick(6)
    lane.show(2.0, 0.1)
    lane.clock.step(step)
    await lane.tick(4)
    assert lane.states() == ["verifying"], "the window is not over"
    await lane.tick(2)
    assert lane.states() == ["held"], "and it is, ten seconds after the change; judged by what was before and after it"
    lane.show(0.1, 0.1)
    lane.clock.step(step)
    await lane.tick(80)
    assert (lane.states(), lane.level()) == (["held"], 9)
    await lane.tick(12)
    assert (lane.states(), lane.level()) == (["undone"], 1), "a hundred seconds after the change"
    lane.ledger.close()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_cooldown_lasts_as_long_as_without(tmp_path: Path, step: int) -> None:
    lane = Lane(tmp_path, turn(predict=None, cooldown_s=60.0, settings=turn().settings))
    lane.show(2.0, 1.0)
    await lane.tick(12)
    lane.show(0.1, 1.0)
    await lane.tick(100)
    assert lane.states() == ["undone"]
    lane.show(2.0, 1.0)
    lane.clock.step(step)
    await lane.tick(30)
    assert lane.states() == ["undone"]
    await lane.tick(35)
    assert len(lane.states()) == 2
    lane.ledger.close()


async def test_a_clock_set_forward_gives_no_second_budget(tmp_path: Path) -> None:
    lane = Lane(tmp_path, budget=1)
    lane.show(2.0, 1.0)
    await lane.tick(1)
    lane.clock.step(HOUR)
    lane.show(2.0, 1.0, "b")
    await lane.tick(5)
    assert (lane.level(), lane.level("b")) == (9, 1)
    assert lane.runs()[-1].reason == "1 of 1 actions of this hour are used up"
    lane.ledger.close()


def test_what_is_no_step() -> None:
    steps = ClockSteps()
    assert [steps.step_ms(Now(1_000_000 + ms, ms)) for ms in (0, 1000, 60_000)] == [0, 0, 0]
    assert steps.step_ms(Now(1_061_900, 61_000)) == 0, "slewed"
    assert steps.step_ms(Now(1_062_900, 62_000)) == 0
    assert steps.step_ms(Now(1_052_900, 63_000)) == -11_000
    assert steps.hour_ago_ms(Now(1_052_900, 63_000)) == 1_052_900 - HOUR, "set back: what was done stays counted, also longer"


def held() -> Run:
    step = dial_step(lease_s=100.0)
    run = runs.start(proposal([step]), decision(), stamp())[0]
    return msgspec.structs.replace(
        run, state="held", acted_ms=NOW.unix_ms, verify_at_ms=NOW.unix_ms + 5000, lease_until_ms=NOW.unix_ms + 100_000
    )


def test_a_lease_never_gets_longer_than_it_was_given() -> None:
    """A host that boots with a clock years back, and is then set right."""
    back = Now(NOW.unix_ms - 1000 * HOUR, 5000)
    run = carried(held(), 0, back)
    assert (run.lease_until_ms, run.verify_at_ms) == (back.unix_ms + 100_000, back.unix_ms + 5000)
    assert carried(run, 1000 * HOUR, Now(NOW.unix_ms + 1000, 6000)).lease_until_ms == NOW.unix_ms + 100_000


def test_an_approval_from_the_future_counts_as_no() -> None:
    run = runs.start(proposal(), decision("ask", approvals_needed=1), stamp())[0]
    run = runs.approve(run, approval(), Policy(), stamp())[0]
    assert runs.overdue(run, Policy(), NOW.unix_ms + 1000) == ""
    assert "set back" in runs.overdue(run, Policy(), NOW.unix_ms - HOUR)
