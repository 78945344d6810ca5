from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.flow import leases
from stead.ledger.stored import StoreSource
from stead.ledger.why import explain
from stead.model.catalog import SettingTemplate
from stead.model.change import Govern, Governed, Reason, Run, Verdict
from tests.flow.kit import decision, proposal
from tests.flow.road import LOAD, Lane, turn


def held(result: str = "helped", **proposed: Any) -> Run:
    made = msgspec.structs.replace(proposal(), finding_id="f", **proposed)
    verdict = Verdict(result, "as it was")  # type: ignore[arg-type]
    return Run(id="r", proposal=made, state="held", decision=decision(), verdict=verdict)


WANTS = {"keep_while": (Reason("m.demand", "process:1@2", 0.2),)}


@pytest.mark.parametrize(
    ("run", "open_findings", "demand", "stands"),
    [
        (held(), {"f"}, None, True),
        (held(), set(), None, False),
        (held(**WANTS), set(), 1.0, True),  # it works, so its finding has cleared; its contender wants as much as before
        (held(**WANTS), set(), 0.1, False),
        (held(**WANTS), set(), None, False),  # what is unknown keeps nothing
        (held("inconclusive", **WANTS), set(), 1.0, False),
        (held("inconclusive", keep_unclear=True, **WANTS), set(), 1.0, True),
        (held("inconclusive", keep_unclear=True, **WANTS), set(), 0.1, False),
        (held("no_help", keep_unclear=True, **WANTS), {"f"}, 1.0, False),
        (msgspec.structs.replace(held(keep_unclear=True, **WANTS), verdict=None), {"f"}, 1.0, False),
    ],
)
def test_a_lease_stands_while_its_reason_does(run, open_findings, demand, stands):
    assert leases.stands(run, open_findings, lambda metric, subject: demand) is stands


RULE = Govern("cpu_max_percent", "m.stall", "host", 1.0, 10.0, 100.0)
USED = msgspec.structs.replace(RULE, used_metric="m.cores", used_subject="process:1@2", used_times=100.0)


@pytest.mark.parametrize(
    ("rule", "value", "cores", "stands"),
    [
        (RULE, 50.0, None, True),  # it says nothing of what is used: away from its loose end it limits
        (RULE, 100.0, None, False),
        (USED, 50.0, 0.48, True),
        (USED, 50.0, 0.1, False),  # nobody feels it, however the protected work fares for other reasons
        (USED, 50.0, None, False),
        (USED, 100.0, 1.0, False),
    ],
)
def test_a_governed_limit_stands_while_what_it_limits_comes_near_it(rule, value, cores, stands):
    run = held()
    step = msgspec.structs.replace(run.proposal.steps[0], govern=rule)
    governed = (Governed(0, rule.field, value, value, value, 1, 0.9, "in between", 0),)
    run = msgspec.structs.replace(run, proposal=msgspec.structs.replace(run.proposal, steps=(step,)), governed=governed)
    latest = {("m.cores", "process:1@2"): cores}
    assert leases.stands(run, set(), lambda metric, subject: latest.get((metric, subject))) is stands


LEASE_S = 600.0
OVER_S = 60  # a tenth of it


@pytest.fixture
async def lane(tmp_path: Path) -> AsyncIterator[Lane]:
    """A run that helped and is held by what its contender wants, its finding cleared by its own work."""
    settings = (SettingTemplate("dial", {"level": 9}, lease_s=LEASE_S),)
    made = Lane(tmp_path, turn(settings=settings, keep_while={LOAD: 0.2}))
    await made.heal()
    made.show(0.4, 0.2)  # below its band, and above what it is kept by
    await made.tick(5)
    assert (made.states(), made.road.findings) == (["held"], {})
    yield made
    made.ledger.close()


async def test_what_is_over_is_put_back_without_waiting_for_its_lease(lane: Lane) -> None:
    await lane.tick(3 * OVER_S)
    assert (lane.states(), lane.level()) == (["held"], 9), "its contender wants as much as before"
    lane.show(0.1, 0.2)
    await lane.tick(OVER_S)
    assert lane.states() == ["held"]
    await lane.tick(3)
    (run,) = lane.runs()
    assert (run.state, run.undo_reason, lane.level()) == ("undone", "cleared", 1)
    assert (run.lease_until_ms or 0) > lane.clock.now().unix_ms
    words = [link.words for link in explain(run.id, StoreSource(lane.ledger)).chain]
    assert any("its reason is over" in one for one in words), words


@pytest.mark.parametrize(("lease_s", "over_s"), [(8.0, 2), (60.0, 15), (300.0, 30), (3600.0, 360)])
async def test_how_long_a_reason_is_gone_before_it_is_over(tmp_path: Path, lease_s: float, over_s: int) -> None:
    settings = (SettingTemplate("dial", {"level": 9}, lease_s=lease_s),)
    lane = Lane(tmp_path, turn(settings=settings, keep_while={LOAD: 0.2}))
    await lane.heal()
    lane.show(0.4, 0.2)
    await lane.tick(5)
    lane.show(0.1, 0.2)
    await lane.tick(over_s)
    assert lane.states() == ["held"]
    await lane.tick(2)
    assert [run.undo_reason for run in lane.runs()] == ["cleared"]
    lane.ledger.close()


async def test_a_contender_that_rests_for_a_moment_is_still_one(lane: Lane) -> None:
    for _ in range(5):
        lane.show(0.1, 0.2)
        await lane.tick(OVER_S - 5)
        lane.show(0.4, 0.2)
        await lane.tick(2)
    assert (lane.states(), lane.level()) == (["held"], 9)


async def test_what_is_known_by_its_finding_alone_waits_for_its_lease(tmp_path: Path) -> None:
    """The change itself may have cleared it: put back at once it would be made again for ever."""
    lane = Lane(tmp_path)
    await lane.heal()
    lane.show(0.1, 0.2)
    await lane.tick(OVER_S)
    assert (lane.states(), lane.road.findings) == (["held"], {})
    await lane.tick(60)
    (run,) = lane.runs()
    assert (run.state, run.undo_reason) == ("undone", "lease")
    lane.ledger.close()
