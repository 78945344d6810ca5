"""Two controllers and one process: a real one, reniced by a second process in the middle of the lease."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators import priority
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.host import LocalHost
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Run, Step, Target, Verdict
from stead.model.policy import Policy
from stead.testing import FakeClock
from tests.actuators.children import child, target
from tests.flow.kit import POLICY_ACTOR, counter, decision

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="raising a priority again needs CAP_SYS_NICE")


class Held:
    """A real process that stead holds at nice 17, under a lease of 60 s."""

    def __init__(self, tmp_path: Path, pid: int) -> None:
        self.host, self.clock, self.pid = LocalHost(), FakeClock(), pid
        self.nice = os.getpriority(os.PRIO_PROCESS, pid)
        self.actuators: dict[str, Any] = {"priority": priority.actuator(self.host)}
        self.ledger = LedgerStore.open(tmp_path / "ledger.db", "h", self.clock)
        self.hands = Hands(self.host, self.actuators, self.ledger, None, self.clock, Policy(), lambda: False)
        self.run: Run

    async def hold(self) -> None:
        setting = SettingTemplate("priority", {"nice": 17}, lease_s=60.0)
        wish = Wish(
            PlaybookDefinition("calm", settings=(setting,)),
            None,
            POLICY_ACTOR,
            (BoundSetting(setting, target(self.host, self.pid)),),
        )
        proposal = await plan(wish, self.actuators, self.host, lambda m, s: None, Policy(), self.clock.now(), counter())
        run, entries = runs.start(proposal, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        run = await self.hands.run(run)
        self.run, entries = runs.verified(run, Verdict("helped", ""), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[self.run])

    def now(self) -> int:
        return os.getpriority(os.PRIO_PROCESS, self.pid)

    def renice(self, nice: int) -> None:
        subprocess.run(["renice", "-n", str(nice), "-p", str(self.pid)], check=True, capture_output=True)


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    with child() as pid:
        made = Held(tmp_path, pid)
        await made.hold()
        assert made.now() == 17
        yield made
        made.ledger.close()


async def test_the_end_of_the_lease_restores_exactly(held: Held) -> None:
    held.clock.advance(60_000)
    moved = await held.hands.undo(held.run, "lease")
    assert moved.state == "undone" and held.now() == held.nice


async def test_who_renices_it_in_mid_lease_owns_it(held: Held) -> None:
    held.renice(4)
    assert await held.hands.met(held.run) == [False]
    held.clock.advance(60_000)
    moved = await held.hands.undo(held.run, "lease")
    assert moved.state == "conflict" and held.now() == 4
    assert len(held.ledger.entries(types=["conflict.seen"])) == 1
    assert held.ledger.live_runs() == (), "once, and never again"
    assert held.now() == 4


async def test_who_restores_it_by_hand_has_done_the_undo(held: Held) -> None:
    held.renice(held.nice)
    moved = await held.hands.undo(held.run, "person")
    assert moved.state == "undone" and moved.receipts[-1].outcome == "already"


def test_two_steps_of_one_process_fight_whatever_their_family_is_by_then() -> None:
    one = Target("process", "10", {"start_ticks": "5"}, {"youngest": "5"})
    later = msgspec.structs.replace(one, within={"youngest": "9"})
    other = msgspec.structs.replace(one, identity={"start_ticks": "6"})
    steps = [Step("priority", of, {"nice": 0}, {"nice": 19}, "exact") for of in (one, later, other)]
    assert steps[0].fights(steps[1]) and not steps[0].fights(steps[2])
