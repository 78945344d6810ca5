"""What is to be held grows on while that is planned and written: it is held all the same, at what it can't give back."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead.flow import runs
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.model.catalog import GovernTemplate, PlaybookDefinition, SettingTemplate, StateChange
from stead.model.change import Law, Proposal, Run
from stead.model.policy import Policy
from tests.actuators.test_limit import target_of
from tests.flow.kit import NOW, POLICY_ACTOR, decision
from tests.flow.test_govern_limit import Host

MB = 1 << 20
GROUP, HIGH = "memory_high_bytes", 64 * MB
SEEN = {"infra.memory_hold_at": 6.0 * MB}  # when it was found: the group holds more by now


def grow(one: Host, size: int) -> None:
    """The group holds so much that it can't give back."""
    one.host.put(f"/sys/fs/cgroup{one.path}/memory.current", f"{size}\n")
    one.host.put(f"/sys/fs/cgroup{one.path}/memory.stat", f"anon {size}\nactive_anon {size}\ninactive_file 0\n")


async def planned(one: Host, law: Law = "aimd") -> Proposal:
    hold_at = StateChange(from_metric="infra.memory_hold_at")
    rule = GovernTemplate(GROUP, "m", 1.0, hold_at, HIGH, law=law)
    setting = SettingTemplate("limit", {GROUP: hold_at}, lease_s=60.0, govern=rule)
    bound = BoundSetting(setting, target_of(one.limit, one.path))
    wish = Wish(PlaybookDefinition("hold", settings=(setting,)), None, POLICY_ACTOR, (bound,))
    return await plan(wish, {"limit": one.limit}, one.host, lambda m, s: SEEN.get(m), Policy(), NOW, lambda: "run-1")


async def carried(one: Host, proposal: Proposal) -> Run:
    assert proposal.steps, proposal.impossible
    run, entries = runs.start(proposal, decision(), one.hands.writer.stamp())
    await one.ledger.commit(entries, runs=[run])
    return await one.hands.run(run)


def level(one: Host) -> int:
    return int(one.host.read(f"/sys/fs/cgroup{one.path}/memory.high"))


@pytest.mark.parametrize("systemd", [0, 252])
async def test_a_leak_that_outgrew_its_level_before_the_plan_and_again_before_the_write_is_held(
    tmp_path: Path, systemd: int
) -> None:
    one = Host(tmp_path, systemd)
    before = one.files()["memory.high"]
    grow(one, 12 * MB)
    proposal = await planned(one)
    (step,) = proposal.steps
    assert 12 * MB < int(str((step.want or {})[GROUP])) < 30 * MB, "at what it holds by now, and a little more"
    assert step.govern is not None and step.govern.low == 6 * MB
    grow(one, 30 * MB)
    run = await carried(one, proposal)
    assert run.state == "verifying" and [receipt.outcome for receipt in run.receipts] == ["done"], run.receipts
    assert 30 * MB < level(one) <= 48 * MB and (run.attempts[0].want or {})[GROUP] == level(one), "as the attempt says"
    one.again()
    run = await one.moved(run, 35 * MB)
    assert run.governed[0].value == 35 * MB, "what was raised within the range is still stead's own"
    run = await one.hands.undo(run)
    assert run.state == "undone" and one.files()["memory.high"] == before
    one.ledger.close()


async def test_what_outgrew_the_whole_range_is_not_held_by_a_limit(tmp_path: Path) -> None:
    one = Host(tmp_path, 0)
    grow(one, 12 * MB)
    proposal = await planned(one)
    grow(one, 100 * MB)
    run = await carried(one, proposal)
    assert run.state == "failed" and "can't give back" in run.receipts[0].error and one.files()["memory.high"] == b"max\n"
    late = await planned(one)
    assert not late.steps and "shall be 67108864 at most" in late.impossible
    one.ledger.close()


async def test_where_one_looks_for_what_it_can_do_without_too_little_is_refused(tmp_path: Path) -> None:
    one = Host(tmp_path, 0)
    grow(one, 12 * MB)
    refused = await planned(one, "senpai")
    assert not refused.steps and "below the 12 MiB that it uses" in refused.impossible
    one.ledger.close()


@pytest.mark.parametrize(("grown", "held"), [(28 * MB, True), (36 * MB, False)])
async def test_between_the_last_look_and_the_write_it_may_grow_by_a_fifth(tmp_path: Path, grown: int, held: bool) -> None:
    one = Host(tmp_path, 0)
    proposal = await planned(one)
    assert one.host.read(f"/sys/fs/cgroup{one.path}/memory.current")
    one.hands.writer.mark = lambda name: grow(one, grown) if name.endswith("before_write") else None
    run = await carried(one, proposal)
    assert (run.state == "verifying") is held, run.receipts
    one.ledger.close()
