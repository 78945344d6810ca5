"""tune-ksm on the real KSM, dying right after each single write on its way there and back: as before, or as wanted, always."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stead.actuators import kernel
from stead.catalog import load_catalog
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import ProposeContext, Wish, bind
from stead.host import LocalHost
from stead.ledger.store import LedgerStore
from stead.model.change import Run, Verdict
from stead.model.errors import SteadError
from stead.model.policy import Policy
from stead.testing import FakeClock
from tests.actuators.ksm import EQUAL, KNOBS, ksm_as_found, number, opted_in, read, write
from tests.flow.bench import Killed
from tests.flow.kit import ANN, POLICY_ACTOR, counter, decision

PACE = 30.0


class Mortal(LocalHost):
    """This machine, on which stead dies right after its `writes`-th write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = -1
        self.paths: list[str] = []

    def write(self, path: str, data: bytes) -> None:
        super().write(path, data)
        self.paths.append(path.rpartition("/")[2])
        self.writes -= 1
        if self.writes == 0:
            raise Killed


class Road:
    """Hands on the real KSM, with a real ledger."""

    def __init__(self, tmp_path: Path) -> None:
        self.path, self.clock, self.new_id = tmp_path / "ledger.db", FakeClock(), counter("i")
        self.open()

    def open(self) -> None:
        self.host = Mortal()
        self.actuators: dict[str, Any] = {"kernel": kernel.actuator(self.host)}
        self.ledger = LedgerStore.open(self.path, "h", self.clock)
        paused = lambda: False  # noqa: E731
        self.hands = Hands(self.host, self.actuators, self.ledger, None, self.clock, Policy(), paused, new_id=self.new_id)

    def again(self) -> None:
        self.ledger.close()
        self.open()

    async def allowed(self) -> Run:
        """The shipped playbook, planned against what is there and allowed."""
        playbook = load_catalog().playbooks["tune-ksm"]
        settings = bind(playbook, None, ProposeContext(latest=lambda m, s: PACE, boot_id=self.host.boot_id))
        assert not isinstance(settings, str)
        wish, now = Wish(playbook, None, POLICY_ACTOR, settings), self.clock.now()
        proposal = await plan(wish, self.actuators, self.host, lambda m, s: PACE, Policy(), now, counter("run"))
        assert not proposal.impossible, proposal.impossible
        run, entries = runs.start(proposal, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return run

    async def held(self) -> Run:
        run = await self.hands.run(await self.allowed())
        assert run.state == "verifying", run.reason
        run, entries = runs.verified(run, Verdict("helped", ""), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return run


def knobs() -> dict[str, str]:
    return {name: read(name) for name in ("run", *KNOBS)}


@pytest.fixture
def before() -> Iterator[dict[str, str]]:
    """KSM stopped, at a pace of its owner's that a change of the advisor's mode resets."""
    with ksm_as_found():
        write("pages_to_scan", "250")
        write("sleep_millisecs", "30")
        yield knobs()


@pytest.fixture
def road(tmp_path: Path, before: dict[str, str]) -> Iterator[Road]:
    made = Road(tmp_path)
    yield made
    made.ledger.close()


async def test_each_write_on_the_way_there_and_back(road: Road, before: dict[str, str]) -> None:
    run = await road.held()
    there = list(road.host.paths)
    assert there[-1] == "run" and there.index("advisor_mode") > there.index("advisor_min_pages_to_scan")
    assert knobs()["advisor_mode"] == "none [scan-time]" and read("advisor_max_pages_to_scan") == "30"
    undone = await road.hands.undo(run, "person", ANN)
    assert undone.state == "undone" and knobs() == before
    assert road.host.paths[-2:] == ["run", "run"]


@pytest.mark.parametrize("nth", range(1, 7))
async def test_death_on_the_way_there(road: Road, before: dict[str, str], nth: int) -> None:
    run = await road.allowed()
    road.host.writes = nth
    with pytest.raises(Killed):
        await road.hands.run(run)
    road.again()
    await road.hands.recover(road.ledger.live_runs())
    final = road.ledger.run(run.id)
    assert final is not None and final.state in ("failed", "verifying")
    if final.state == "verifying":
        assert await road.hands.met(final) == [True]
    else:
        assert knobs() == before, final.reason


@pytest.mark.parametrize("nth", range(1, 9))
async def test_death_on_the_way_back(road: Road, before: dict[str, str], nth: int) -> None:
    with opted_in(2, EQUAL.format(mib=1)):
        run = await road.held()
        road.host.writes = nth
        with pytest.raises(Killed):
            await road.hands.undo(run, "person", ANN)
        road.again()
        await road.hands.recover(road.ledger.live_runs())
        final = road.ledger.run(run.id)
        assert final is not None and final.state == "undone", final
        assert knobs() == before and number("pages_shared") == 0


async def test_another_hand_in_the_middle_is_left_alone(road: Road, before: dict[str, str]) -> None:
    run = await road.held()
    write("advisor_max_cpu", "55")
    undone = await road.hands.undo(run, "lease")
    assert undone.state == "conflict", undone.reason
    assert (read("advisor_max_cpu"), read("run")) == ("55", "1")


async def test_a_second_rule_for_the_same_knobs_is_refused_by_name(road: Road, before: dict[str, str]) -> None:
    first = await road.held()
    stop = load_catalog().playbooks["stop-ksm"]
    settings = bind(stop, None, ProposeContext(latest=lambda m, s: None, boot_id=road.host.boot_id))
    assert not isinstance(settings, str)
    wish, now = Wish(stop, None, ANN, settings), road.clock.now()
    proposal = await plan(wish, road.actuators, road.host, lambda m, s: None, Policy(), now, counter("other"))
    run, entries = runs.start(proposal, decision(), road.hands.writer.stamp())
    await road.ledger.commit(entries, runs=[run])
    refused = await road.hands.run(run)
    assert refused.state == "refused" and first.id in refused.reason
    assert read("run") == "1"


async def test_what_can_not_be_planned_here_is_told(tmp_path: Path) -> None:
    made = kernel.actuator(LocalHost(tmp_path))
    with pytest.raises(SteadError, match="no KSM"):
        made.plan(kernel.Target("kernel", "ksm"), kernel.Knobs(), kernel.Knobs(run=1))
