"""A governed cap on a recorded tree of version 2, straight and through systemd: moved, killed, put back without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stead.actuators.limit import actuator
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.adjust import Choice
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.ledger.store import LedgerStore
from stead.model.catalog import GovernTemplate, PlaybookDefinition, SettingTemplate
from stead.model.change import Run
from stead.model.intent import Intent, Protect
from stead.model.policy import Policy
from stead.testing import FakeClock
from tests.actuators.test_limit import hosted, target_of
from tests.flow.kit import NOW, POLICY_ACTOR, counter, decision

FIELDS = {
    "cpu_max_percent": (60.0, 20.0, 150.0),
    "memory_high_bytes": (2 << 30, 1 << 30, 4 << 30),
    "io_max": (10_000_000, 1_000_000, 80_000_000),
}
KEYS = {"io_max": ("rbps", "wbps")}


def state_of(field: str, start: float) -> dict[str, Any]:
    """What a playbook wants at first: of IO the same each way, on each disk."""
    return {field: [f"* rbps={start} wbps={start} riops=900"] if field in KEYS else start}


class Host:
    """Hands on one recorded group; `open` again is what a kill leaves."""

    def __init__(self, tmp_path: Path, systemd: int) -> None:
        self.host, self.limit, self.path = hosted(tmp_path / "root", systemd)
        self.ledger_path, self.clock, self.new_id = tmp_path / "ledger.db", FakeClock(), counter("i")
        self.open()

    def open(self) -> None:
        self.ledger = LedgerStore.open(self.ledger_path, "host1", self.clock)
        self.hands = Hands(
            self.host, {"limit": self.limit}, self.ledger, None, self.clock, Policy(), lambda: False, new_id=self.new_id
        )

    def again(self) -> None:
        self.ledger.close()
        self.open()

    def files(self) -> dict[str, bytes]:
        folder = f"/sys/fs/cgroup{self.path}"
        return {name: self.host.read(f"{folder}/{name}") for name in self.host.list(folder)}

    async def begun(self, field: str) -> Run:
        start, low, high = FIELDS[field]
        rule = GovernTemplate(field, "m", 5.0, low, high, keys=KEYS.get(field, ()))
        setting = SettingTemplate("limit", state_of(field, start), lease_s=600.0, govern=rule)
        bound = BoundSetting(setting, target_of(self.limit, self.path))
        wish = Wish(PlaybookDefinition("cap", settings=(setting,)), None, POLICY_ACTOR, (bound,))
        made = await plan(wish, {"limit": self.limit}, self.host, lambda m, s: None, Policy(), NOW, lambda: "run-1")
        assert made.steps, made.impossible
        run, entries = runs.start(made, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return await self.hands.run(run)

    async def moved(self, run: Run, value: float) -> Run:
        return await self.hands.adjust(run, 0, lambda present: Choice(value, 1.0, "a test"))


@pytest.mark.parametrize("systemd", [0, 252])
@pytest.mark.parametrize("field", FIELDS)
async def test_moved_killed_moved_on_and_put_back(tmp_path: Path, field: str, systemd: int) -> None:
    one = Host(tmp_path, systemd)
    before, (start, low, high) = one.files(), FIELDS[field]
    run = await one.begun(field)
    for value in ((start + low) / 2, low, high * 2):
        run = await one.moved(run, value)
        assert run.state == "verifying" and run.governed[0].value == pytest.approx(min(value, high), rel=0.001), run.governed
    one.again()
    run = await one.moved(run, start)
    assert run.governed[0].value == pytest.approx(start, rel=0.001)
    one.again()
    run = await one.hands.undo(run)
    assert run.state == "undone" and one.files() == before
    one.ledger.close()


async def test_of_io_both_ways_are_moved_and_the_operations_left(tmp_path: Path) -> None:
    one = Host(tmp_path, 0)
    run = await one.moved(await one.begun("io_max"), 4_000_000.4)
    assert one.files()["io.max"] == b"254:0 rbps=4000000 wbps=4000000 riops=900 wiops=max\n"
    assert run.governed[0].value == 4_000_000 and run.proposal.steps[0].govern is not None
    one.host.write(f"/sys/fs/cgroup{one.path}/io.max", b"254:0 rbps=5000000")  # another hand, one way
    run = await one.moved(run, 3_000_000)
    assert run.state == "conflict" and b"rbps=5000000 wbps=4000000" in one.files()["io.max"]
    one.ledger.close()


@pytest.mark.parametrize(
    ("there", "most", "first"),
    [
        (b"254:0 rbps=30000000 wbps=30000000 riops=max wiops=max\n", 30_000_000, 10_000_000),
        (b"254:0 rbps=max wbps=3000000 riops=max wiops=max\n", 3_000_000, 3_000_000),
    ],
)
async def test_of_io_it_is_never_looser_than_the_tightest_that_is_there(
    tmp_path: Path, there: bytes, most: int, first: int
) -> None:
    one = Host(tmp_path, 0)
    one.host.write(f"/sys/fs/cgroup{one.path}/io.max", there)
    run = await one.begun("io_max")
    rule = run.proposal.steps[0].govern
    assert rule is not None and (rule.low, rule.high) == (1_000_000, most)
    assert one.files()["io.max"].startswith(f"254:0 rbps={first} wbps={first} ".encode())
    run = await one.hands.undo(run)
    assert one.files()["io.max"] == there
    one.ledger.close()


async def test_an_idle_group_that_a_protected_process_came_into_is_put_back(tmp_path: Path) -> None:
    one = Host(tmp_path, 0)
    before = one.files()
    one.limit = actuator(one.host, intent=Intent((Protect(("process:postgres*",)),)))  # type: ignore[assignment]
    one.again()
    setting = SettingTemplate("limit", {"cpu_idle": True}, lease_s=600.0)
    bound = BoundSetting(setting, target_of(one.limit, one.path))
    wish = Wish(PlaybookDefinition("idle", settings=(setting,)), None, POLICY_ACTOR, (bound,))
    made = await plan(wish, {"limit": one.limit}, one.host, lambda m, s: None, Policy(), NOW, lambda: "run-1")
    run, entries = runs.start(made, decision(), one.hands.writer.stamp())
    await one.ledger.commit(entries, runs=[run])
    run = await one.hands.run(run)
    one.host.process(99, "postgres", one.path)
    one.host.put(f"/sys/fs/cgroup{one.path}/cgroup.procs", "4711\n99\n")
    run = await one.hands.undo(run, "lease")
    assert run.state == "undone", run.reason
    one.host.put(f"/sys/fs/cgroup{one.path}/cgroup.procs", "4711\n")
    assert one.files() == before
    one.ledger.close()
