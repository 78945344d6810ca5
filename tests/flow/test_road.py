"""The whole road, tick by tick: what happens after a verdict, at a lease's end, after three failures, when the mode changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from stead.model.catalog import PlaybookDefinition
from stead.model.errors import SteadError
from tests.flow.kit import ANN, BOB
from tests.flow.road import Lane, turn

Lay = Callable[..., Lane]


@pytest.fixture
async def lay(tmp_path: Path) -> AsyncIterator[Lay]:
    lanes: list[Lane] = []

    def make(*playbooks: PlaybookDefinition, **more: int) -> Lane:
        lanes.append(Lane(tmp_path, *playbooks, **more))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.ledger.close()


async def test_what_helped_is_renewed_until_its_finding_clears(lay: Lay) -> None:
    lane = lay()
    lane.show(2.0, 1.0)
    await lane.tick(3)
    assert (lane.states(), lane.level()) == (["verifying"], 9)
    lane.show(2.0, 0.1)
    await lane.tick(10)
    assert lane.states() == ["held"]
    await lane.tick(300)
    assert (lane.states(), lane.level()) == (["held"], 9), "its finding is open: the lease was renewed"
    lane.show(0.1, 0.1)
    await lane.tick(101)
    assert (lane.states(), lane.level()) == (["undone"], 1)
    assert lane.road.findings == {}


async def test_no_help_is_undone_and_the_next_in_the_chain_follows(lay: Lay) -> None:
    lane = lay(turn(chain=("other",)), turn("other", level=5, answers=()))
    lane.show(2.0, 1.0)
    await lane.tick(14)
    assert (lane.states(), lane.states("other"), lane.level()) == (["undone"], ["verifying"], 5)
    await lane.tick(100)
    assert (lane.states(), lane.states("other"), lane.level()) == (["undone"], ["undone"], 1), "each once for this finding"


async def test_what_could_show_nothing_is_not_done_over_and_over(lay: Lay) -> None:
    lane = lay()
    lane.show(2.0, 0.0)
    await lane.tick(400)
    assert (lane.states(), lane.level()) == (["undone"], 1), "held until its lease ended, and not done again"
    lane.show(2.0, 1.0)
    await lane.tick(2)
    assert lane.states() == ["undone", "verifying"], "now that others suffer it can show what it does"


@pytest.mark.parametrize("ceiling", [1, 2])
async def test_three_failures_lower_the_ceiling_once_and_before_the_next_action(lay: Lay, ceiling: int) -> None:
    lane = lay(ceiling=ceiling)
    for dial in "abc":
        lane.show(2.0, 1.0, dial)
    await lane.tick(10)
    assert lane.states() == ["verifying"] * 3
    for dial in "def":  # a new finding in the tick of the three verdicts, and in those after it
        lane.show(2.0, 1.0, dial)
        await lane.tick(1)
    assert lane.states()[:3] == ["undone"] * 3
    assert lane.kept.read().ceiling("host", 1) == ceiling - 1
    assert wrote_after_failures(lane, 3)[:1] == ["autonomy"], "nothing comes between"
    assert lane.level("f") == (1 if ceiling == 1 else 9)
    for dial in "def":
        lane.show(0.1, 0.1, dial)
    await lane.tick(1200)
    assert lane.states("downgrade-autonomy-tier")[:1] == ["kept"]
    assert lane.kept.read().ceiling("host", 1) == ceiling - 1, "once for three failures"


def wrote_after_failures(lane: Lane, failures: int) -> list[str]:
    """The actuators of the forward writes after so many verdicts that failed."""
    wrote: list[str] = []
    for entry in reversed(lane.ledger.entries(1000, types=("verdict.made", "attempt.made"))):
        body = json.loads(entry.leaf)["body"]
        failures -= body.get("result") in ("no_help", "not_held")
        if failures <= 0 and body.get("attempt", {}).get("direction") == "forward":
            wrote.append(body["actuator"])
    return wrote


async def test_a_ceiling_that_a_person_raised_again_stays(lay: Lay) -> None:
    lane = lay()
    for dial in "abc":
        lane.show(2.0, 1.0, dial)
    await lane.tick(20)
    assert lane.kept.read().ceiling("host", 1) == 0
    await lane.orders.autonomy(ANN, ceiling=1)
    await lane.tick(600)
    assert lane.kept.read().ceiling("host", 1) == 1, "the three failures have been answered"


async def test_advised_then_act(lay: Lay) -> None:
    lane = lay()
    await lane.orders.autonomy(ANN, mode="advise")
    lane.show(2.0, 1.0)
    await lane.tick(5)
    assert (lane.states(), lane.level()) == (["advised"], 1)
    await lane.orders.autonomy(ANN, mode="act")
    await lane.tick(2)
    assert (lane.states(), lane.level()) == (["advised", "verifying"], 9)


async def test_an_approval_waits_for_the_budget(lay: Lay) -> None:
    lane = lay(turn(tier=3), budget=1)
    lane.show(2.0, 1.0)
    lane.show(2.0, 1.0, "b")
    await lane.tick(1)
    first, second = lane.runs()
    assert (await lane.orders.approve(first.id, first.proposal.plan_hash, ANN)).state in ("approved", "acting")
    await lane.road.tasks.finish()
    with pytest.raises(SteadError, match="1 of 1 actions of this hour are used up"):
        await lane.orders.approve(second.id, second.proposal.plan_hash, ANN)
    await lane.tick(5)
    assert (lane.level(), lane.level("b")) == (9, 1)


async def test_a_lowered_mode_lets_leases_end(lay: Lay) -> None:
    lane = lay()
    lane.show(2.0, 1.0)
    await lane.tick(5)
    lane.show(2.0, 0.1)
    await lane.tick(20)
    assert lane.states() == ["held"]
    await lane.orders.autonomy(ANN, mode="advise")
    await lane.tick(150)
    assert lane.runs()[0].state == "undone"
    assert lane.level() == 1


async def test_refused_for_the_mode_is_proposed_anew_when_the_mode_is_back(lay: Lay) -> None:
    lane = lay(turn(tier=3))
    lane.show(2.0, 1.0)
    await lane.tick(1)
    (run,) = lane.runs()
    await lane.orders.pause("", ANN)
    with contextlib.suppress(SteadError):  # approved, but not begun
        await lane.orders.approve(run.id, run.proposal.plan_hash, ANN)
    await lane.orders.autonomy(ANN, mode="advise")
    await lane.orders.autonomy(ANN, paused=False)
    await lane.tick(2)
    assert lane.states() == ["refused"]
    await lane.orders.autonomy(ANN, mode="act")
    await lane.tick(2)
    assert lane.states() == ["refused", "waiting"]


async def test_a_yes_and_a_no_at_the_same_moment_are_one_after_the_other(lay: Lay) -> None:
    lane = lay(turn(tier=3))
    lane.show(2.0, 1.0)
    await lane.tick(1)
    (run,) = lane.runs()
    answers = await asyncio.gather(
        lane.orders.deny(run.id, "not now", BOB),
        lane.orders.approve(run.id, run.proposal.plan_hash, ANN),
        return_exceptions=True,
    )
    await lane.tick(3)
    assert isinstance(answers[1], SteadError), "the no came first"
    assert (lane.states(), lane.level()) == (["denied"], 1)


async def test_an_undo_by_a_person_and_the_verdict_do_not_cross(lay: Lay) -> None:
    lane = lay()
    lane.show(2.0, 1.0)
    await lane.tick(5)
    lane.show(2.0, 0.1)
    await lane.tick(5)
    (run,) = lane.runs()
    lane.clock.advance(60_000)
    undone, _ = await asyncio.gather(lane.orders.undo(run.id, ANN), lane.road.tick(lane.clock.now()))
    await lane.tick(200)
    assert (undone.state, lane.states(), lane.level()) == ("undone", ["undone"], 1)
    assert lane.road.runs == {}


async def test_a_no_is_not_forgotten_however_much_happens_meanwhile(lay: Lay) -> None:
    lane = lay(turn(tier=3))
    lane.show(2.0, 1.0)
    lane.show(2.0, 1.0, "b")
    await lane.tick(1)
    run, other = lane.runs()
    await lane.orders.deny(run.id, "", ANN)
    await lane.orders.deny(other.id, "", ANN)
    final = lane.runs()[1]
    for _ in range(300):
        lane.road.recent.append(final)
    lane.road.forget(lane.clock.now())
    assert len(lane.road.recent) == 2
    await lane.tick(5)
    assert lane.states() == ["denied", "denied"]


async def test_nothing_is_done_twice_after_a_restart(lay: Lay) -> None:
    lane = lay()
    lane.show(2.0, 1.0)
    await lane.tick(5)
    await lane.again()
    lane.show(2.0, 0.1)
    await lane.tick(20)
    assert (lane.states(), lane.level(), len(lane.dials.writes)) == (["held"], 9, 1)


async def test_what_is_left_alone_gets_no_remedy_and_the_reason_is_known(lay: Lay) -> None:
    lane = lay()
    left = msgspec.structs.replace(lane.road.plugged, spares=lambda subject: "left alone" if subject == "workload:a" else "")
    lane.road.plugged = left
    lane.show(2.0, 1.0, "a")
    lane.show(2.0, 1.0, "b")
    await lane.tick(3)
    assert [run.proposal.steps[0].target.name for run in lane.runs()] == ["b"] and lane.level("a") == 1
    assert len(lane.road.findings) == 2, "it is found all the same"
