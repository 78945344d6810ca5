"""A unit that starts again has a new group, which systemd limits as the old one was: that comes back all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.limit import Limit, LimitActuator
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.write import to_record
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import ABSENT, Run, Target, Verdict
from stead.model.errors import SteadError
from stead.model.policy import Policy
from stead.testing import FakeClock
from tests.cgroups.recorded import CONTROL, RecordedHost
from tests.flow.kit import POLICY_ACTOR, counter, decision

UNIT, PATH = "nginx.service", "/system.slice/nginx.service"
FOLDER = f"{CONTROL}/{UNIT}.d"
HELD = {"cpu.max": "20000 100000", "memory.high": str(64 << 20)}
WANT: dict[str, Any] = {"cpu_max_percent": 20.0, "memory_high_bytes": 64 << 20}


class Held:
    """A unit under a limit that a run holds."""

    def __init__(self, root: Path) -> None:
        self.host = RecordedHost(root / "host", 252)
        self.host.group("/system.slice")
        self.host.group(PATH, pids=[4711])
        self.host.process(4711, "nginx", PATH)
        self.host.units[UNIT] = PATH
        self.limit = LimitActuator(self.host)
        self.clock = FakeClock()
        self.ledger = LedgerStore.open(root / "ledger.db", "h", self.clock)
        self.actuators: dict[str, Any] = {"limit": self.limit}
        self.hands = Hands(self.host, self.actuators, self.ledger, None, self.clock, Policy(), lambda: False)
        self._ids = counter()

    def thing(self) -> Target:
        found = self.limit.groups.target(PATH)
        assert found is not None
        return found

    async def act(self, thing: Target, **state: Any) -> Run:
        setting = SettingTemplate("limit", state, lease_s=60.0)
        wish = Wish(PlaybookDefinition("calm", settings=(setting,)), None, POLICY_ACTOR, (BoundSetting(setting, thing),))
        made = await plan(wish, self.actuators, self.host, lambda m, s: None, Policy(), self.clock.now(), self._ids)
        assert not made.impossible, made.impossible
        run, entries = runs.start(made, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return await self.hands.run(run)

    async def hold(self) -> Run:
        run, entries = runs.verified(await self.act(self.thing(), **WANT), Verdict("helped", ""), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        assert sorted(self.host.list(FOLDER)) == ["50-CPUQuota.conf", "50-MemoryHigh.conf"]
        return run

    def stop(self) -> None:
        """The unit ends, and its group goes; what systemd sets for it then reaches no kernel."""
        shutil.move(self.host._under_root(f"/sys/fs/cgroup{PATH}"), self.host._under_root("/sys/fs/cgroup/nowhere"))
        self.host.units[UNIT] = "/nowhere"

    def start(self) -> None:
        """It starts again: a new group, with the limits that its drop-ins say."""
        self.host.group(PATH, pids=[4712])
        self.host.process(4712, "nginx", PATH)
        self.host.units[UNIT] = PATH
        for file, text in HELD.items():
            self.host.put(f"/sys/fs/cgroup{PATH}/{file}", text + "\n")

    def now(self) -> tuple[str, ...]:
        return tuple(self.host.read(f"/sys/fs/cgroup{PATH}/{file}").decode().strip() for file in HELD)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    (tmp_path / "host").mkdir()
    made = Held(tmp_path)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("runs_again", [True, False])
async def test_nothing_is_left_behind_of_a_limit_whose_unit_started_again(held: Held, runs_again: bool) -> None:
    run = await held.hold()
    held.stop()
    if runs_again:
        held.start()
        assert held.now() == tuple(HELD.values())
    assert not await held.hands.is_gone(run), "it is there as long as systemd would set it again"
    assert await held.hands.met(run) == [True]
    ended = await held.hands.undo(run, "lease")
    assert ended.state in ("undone", "moot"), (ended.state, ended.reason)
    assert held.host.inode(FOLDER) is None and await held.limit.read(held.host, run.proposal.steps[0].target) == ABSENT
    if runs_again:
        assert held.now() == ("max 100000", "max")


async def test_a_unit_that_is_gone_for_good_leaves_nothing_either(held: Held) -> None:
    run = await held.hold()
    held.stop()
    held.host.units.clear()  # systemd: not found
    assert (await held.hands.undo(run, "lease")).state == "moot"
    assert held.host.inode(FOLDER) is None


async def test_another_hand_that_limits_the_next_group_is_yielded_to(held: Held) -> None:
    run = await held.hold()
    held.stop()
    held.start()
    held.host.put(f"/sys/fs/cgroup{PATH}/cpu.max", "70000 100000\n")
    assert (await held.hands.undo(run, "lease")).state == "conflict"
    assert held.now()[0] == "70000 100000"


async def test_the_next_group_is_never_limited_for_the_former(held: Held) -> None:
    run = await held.hold()
    former = run.proposal.steps[0].target
    held.stop()
    held.start()
    seen = await held.limit.read(held.host, former)
    with pytest.raises(SteadError, match="this very group is gone"):
        held.limit.plan(former, seen, Limit(cpu_max_percent=10.0))
    with pytest.raises(FileNotFoundError):
        await held.limit.write(held.host, former, Limit(cpu_max_percent=10.0))
    assert held.now() == tuple(HELD.values())


async def test_cut_short_on_the_way_back_it_goes_on(held: Held) -> None:
    run = await held.hold()
    held.stop()
    step = run.proposal.steps[0]
    held.host.remove(f"{FOLDER}/50-CPUQuota.conf")
    seen = await held.limit.read(held.host, step.target)
    assert held.limit.between(to_record(seen), step.before, step.want)
    assert not held.limit.met(seen, msgspec.convert(step.before, Limit))
    await held.limit.put_back(held.host, step.target, msgspec.convert(step.before, Limit))
    assert held.host.inode(FOLDER) is None


async def test_without_anything_of_systemds_it_is_gone(held: Held) -> None:
    former = held.thing()
    held.stop()
    held.start()
    assert await held.limit.read(held.host, former) == ABSENT
    with pytest.raises(FileNotFoundError) as gone:
        await held.limit.put_back(held.host, former, Limit(cpu_max_percent="max"))
    assert gone.value.errno == errno.ENOENT


async def test_the_next_group_waits_for_the_end_of_what_holds_it_already(held: Held) -> None:
    """Planned meanwhile, stead's own limit would be taken for what was there before."""
    run = await held.hold()
    held.stop()
    held.start()
    again = await held.act(held.thing(), cpu_max_percent=10.0)
    assert again.state == "refused" and f"run {run.id} holds limit of cgroup:{PATH}" in again.reason
    assert (await held.act(held.thing(), pids_max=500)).state == "verifying", "another of its limits is free"
    setting = BoundSetting(SettingTemplate("limit", {"cpu_max_percent": 10.0}), held.thing())
    assert setting.would_fight(run.proposal.steps[0])
    assert (await held.hands.undo(run, "lease")).final
    assert (await held.act(held.thing(), cpu_max_percent=10.0)).state == "verifying"


async def test_a_frozen_group_holds_nothing_of_its_successor(held: Held) -> None:
    await held.act(held.thing(), frozen=True)
    held.stop()
    held.start()
    assert (await held.act(held.thing(), frozen=True)).state == "verifying", "needed at once, and systemd keeps nothing"
