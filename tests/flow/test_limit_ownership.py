"""Limits on real groups of this machine, held under a lease: who else sets them, what vanishes, what the kernel refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stead.actuators import limit, placement
from stead.cgroups.tree import Groups
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.host import LocalHost
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Proposal, Run, Target, Verdict
from stead.model.policy import Policy
from stead.testing import FakeClock
from tests.actuators.children import target
from tests.cgroups.groups import group, placed, put, real_groups, removed, sleeper
from tests.flow.kit import POLICY_ACTOR, counter, decision


class Bound:
    """Hands on this machine, with the actuators of control groups."""

    def __init__(self, tmp_path: Path, host: LocalHost, groups: Groups) -> None:
        self.host, self.groups, self.clock = host, groups, FakeClock()
        self.actuators: dict[str, Any] = {"limit": limit.actuator(host), "placement": placement.actuator(host)}
        self.ledger = LedgerStore.open(tmp_path / "ledger.db", "h", self.clock)
        self.hands = Hands(host, self.actuators, self.ledger, None, self.clock, Policy(), lambda: False)
        self._ids = counter()

    async def plan(self, actuator: str, thing: Target, **state: Any) -> Proposal:
        setting = SettingTemplate(actuator, state, lease_s=60.0)
        wish = Wish(PlaybookDefinition("calm", settings=(setting,)), None, POLICY_ACTOR, (BoundSetting(setting, thing),))
        return await plan(wish, self.actuators, self.host, lambda m, s: None, Policy(), self.clock.now(), self._ids)

    async def act(self, actuator: str, thing: Target, **state: Any) -> Run:
        proposal = await self.plan(actuator, thing, **state)
        assert not proposal.impossible, proposal.impossible
        run, entries = runs.start(proposal, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return await self.hands.run(run)

    async def hold(self, actuator: str, thing: Target, **state: Any) -> Run:
        run, entries = runs.verified(await self.act(actuator, thing, **state), Verdict("helped", ""), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return run

    def text(self, path: str, controller: str, file: str) -> str:
        return self.host.read(f"{self.groups.folder(path, controller)}/{file}").decode().strip()


@pytest.fixture
def bound(tmp_path: Path) -> Any:
    host, groups = real_groups()
    made = Bound(tmp_path, host, groups)
    yield made
    made.ledger.close()


@pytest.fixture
async def some(bound: Bound) -> AsyncIterator[tuple[str, Target]]:
    with sleeper() as pid, group(bound.groups) as path:
        put(bound.groups, path, pid)
        thing = bound.groups.target(path)
        assert thing is not None
        yield path, thing


async def test_the_end_of_the_lease_restores_exactly(bound: Bound, some: tuple[str, Target]) -> None:
    path, thing = some
    run = await bound.hold("limit", thing, cpu_weight=10, cpu_max_percent=50.0, pids_max=100)
    assert bound.text(path, "cpu", "cpu.shares") == "102" and bound.text(path, "pids", "pids.max") == "100"
    bound.clock.advance(60_000)
    assert (await bound.hands.undo(run, "lease")).state == "undone"
    assert bound.text(path, "cpu", "cpu.shares") == "1024" and bound.text(path, "pids", "pids.max") == "max"
    assert bound.text(path, "cpu", "cpu.cfs_quota_us") == "-1"


async def test_who_sets_it_in_mid_lease_owns_it_and_that_is_said_once(bound: Bound, some: tuple[str, Target]) -> None:
    path, thing = some
    run = await bound.hold("limit", thing, cpu_weight=10)
    Path(f"{bound.groups.folder(path, 'cpu')}/cpu.shares").write_text("333")
    moved = await bound.hands.undo(run, "lease")
    assert moved.state == "conflict" and bound.text(path, "cpu", "cpu.shares") == "333"
    assert len(bound.ledger.entries(types=["conflict.seen"])) == 1
    assert bound.ledger.live_runs() == (), "once, and never again"


async def test_another_rule_for_the_same_group_is_refused_by_name(bound: Bound, some: tuple[str, Target]) -> None:
    path, thing = some
    first = await bound.hold("limit", thing, cpu_weight=10)
    second = await bound.act("limit", thing, cpu_weight=20)
    assert second.state == "refused" and f"run {first.id} holds limit of cgroup:{path}" in second.reason
    assert bound.text(path, "cpu", "cpu.shares") == "102"


async def test_two_rules_may_hold_two_limits_of_one_group_and_let_go_in_any_order(bound: Bound, some: tuple[str, Target]) -> None:
    path, thing = some
    slow = await bound.hold("limit", thing, cpu_weight=10)
    frozen = await bound.hold("limit", thing, frozen=True)
    assert bound.text(path, "freezer", "freezer.state") == "FROZEN"
    assert (await bound.hands.undo(slow, "lease")).state == "undone"
    assert bound.text(path, "cpu", "cpu.shares") == "1024" and bound.text(path, "freezer", "freezer.state") == "FROZEN"
    assert (await bound.hands.undo(frozen, "lease")).state == "undone"
    assert bound.text(path, "freezer", "freezer.state") == "THAWED"


async def test_a_group_that_vanished_leaves_nothing_to_put_back(bound: Bound, some: tuple[str, Target]) -> None:
    path, thing = some
    run = await bound.hold("limit", thing, cpu_weight=10)
    folder = Path(str(bound.groups.folder(path, "cpu")))
    put(bound.groups, "/", int((folder / "cgroup.procs").read_text()), ("cpu",))
    removed(folder)
    folder.mkdir()  # another group of the same name
    assert (await bound.hands.undo(run, "lease")).state == "moot"
    assert bound.text(path, "cpu", "cpu.shares") == "1024"


async def test_what_the_kernel_refuses_fails_and_what_was_written_before_it_is_put_back(
    bound: Bound, some: tuple[str, Target]
) -> None:
    path, thing = some
    run = await bound.act("limit", thing, cpu_weight=10, io_max=["9:250 wbps=1048576"])
    assert run.state == "failed" and "ENODEV: there is no such device" in run.receipts[0].error
    assert bound.text(path, "cpu", "cpu.shares") == "1024"


async def test_what_may_not_be_limited_is_told_in_the_plan(bound: Bound) -> None:
    thing = bound.groups.target("/")
    assert thing is not None
    proposal = await bound.plan("limit", thing, pids_max=1000, cpu_weight=10)
    assert proposal.impossible.startswith("unsupported: ") and not proposal.steps


async def test_a_process_moved_on_by_another_hand_is_its(bound: Bound) -> None:
    with placed(bound.groups) as pid, group(bound.groups, ("cpu",)) as elsewhere:
        run = await bound.hold("placement", target(bound.host, pid), group="best-effort")
        put(bound.groups, elsewhere, pid, ("cpu",))
        moved = await bound.hands.undo(run, "lease")
        assert moved.state == "conflict" and bound.groups.path_of(pid, "cpu") == elsewhere


async def test_a_placed_process_that_ended_leaves_no_group(bound: Bound) -> None:
    with placed(bound.groups) as pid:
        run = await bound.hold("placement", target(bound.host, pid), group="best-effort")
        own = bound.groups.path_of(pid, "cpu")
        assert own is not None
    assert bound.groups.id_of(own) is None or (await bound.hands.undo(run, "lease")).state in ("undone", "moot")
    assert bound.groups.id_of(own) is None
