"""A real busy loop beside a real process on one CPU: its cap is moved until the other loses no more than it may.

Only the tick is missing: the hands, the limit, the kernel, the ledger and the law are what the agent runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.actuators.limit import LimitActuator
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.govern import Governor
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.write import id_source
from stead.host import LocalHost, SystemClock
from stead.ledger.store import LedgerStore
from stead.model.catalog import GovernTemplate, PlaybookDefinition, SettingTemplate
from stead.model.change import Run
from stead.model.observe import Now
from stead.model.policy import Actor, Decision, Policy
from tests.cgroups.groups import group, put, real_groups, sleeper

BUSY = "import os; os.sched_setaffinity(0, {0})\nwhile True: pass"
PART = """import os, time; os.sched_setaffinity(0, {0})
while True:
    began, used = time.perf_counter(), time.thread_time()
    while time.thread_time() - used < 0.005: pass
    time.sleep(max(0.0, 0.010 - (time.perf_counter() - began)))
"""
LEVEL = 30.0
pytestmark = [pytest.mark.alone, pytest.mark.long]  # buys: the law against the real scheduler and quota, and not a model of them


class Delay:
    """The run delay of a process in percent of the time since the last reading: what the contention probe measures."""

    def __init__(self, pid: int) -> None:
        self._path, self.seen = f"/proc/{pid}/schedstat", list[tuple[float, float]]()

    def read(self) -> None:
        self.seen.append((time.monotonic() * 1000, int(Path(self._path).read_text().split()[1]) / 1e6))

    def mean(self, metric: str, subject: str, from_ms: float, to_ms: float) -> float | None:
        inside = [one for one in self.seen if from_ms - 1100 <= one[0] <= to_ms]
        if len(inside) < 2:
            return None
        return 100 * (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def readings(self, metric: str, subject: str, from_ms: float, to_ms: float) -> list[float]:
        return []


@pytest.fixture
def pair() -> Iterator[tuple[LocalHost, LimitActuator, str, int]]:
    host, groups = real_groups()
    with sleeper(BUSY) as hog, sleeper(PART) as protected, group(groups, ("cpu",)) as path, group(groups, ("cpu",)) as other:
        for place, pid in ((path, hog), (other, protected)):
            put(groups, place, pid, ("cpu",))
            Path(groups.folder(place, "cpu") or "", "cpu.shares").write_text("80000")  # what else runs here hardly counts
        yield host, LimitActuator(host), path, protected


async def begun(hands: Hands, host: LocalHost, actuator: LimitActuator, ledger: LedgerStore, path: str) -> Run:
    rule = GovernTemplate("cpu_max_percent", "wait", LEVEL, 5, 100, interval_s=1.0, tighten=0.2, hold_off_s=5.0)
    setting = SettingTemplate("limit", {"cpu_max_percent": 90.0}, lease_s=600.0, govern=rule)
    target = actuator.groups.target(path)
    assert target is not None
    wish = Wish(PlaybookDefinition("cap", settings=(setting,)), None, Actor("user", "uid:0"), (BoundSetting(setting, target),))
    now, new_id = SystemClock().now(), id_source(SystemClock())
    proposal = await plan(wish, {"limit": actuator}, host, lambda m, s: None, Policy(), now, new_id)
    assert proposal.steps, proposal.impossible
    allowed = Decision(proposal.id, "allow", ("test",), ("test",), 0, "act", "p", now.unix_ms)
    run, entries = runs.start(proposal, allowed, runs.Stamp("host1", now, new_id))
    await ledger.commit(entries, runs=[run])
    return await hands.run(run)


async def test_it_finds_the_cap_under_which_the_other_has_its_time(
    tmp_path: Path, pair: tuple[LocalHost, LimitActuator, str, int]
) -> None:
    host, actuator, path, protected = pair
    ledger = LedgerStore.open(tmp_path / "ledger.db", "host1", SystemClock())
    hands = Hands(host, {"limit": actuator}, ledger, None, SystemClock(), Policy(), lambda: False)
    delay = Delay(protected)
    governor = Governor(hands, delay, lambda metric, subject: None)
    before = await actuator.read(host, actuator.groups.target(path))  # type: ignore[arg-type]
    run = await begun(hands, host, actuator, ledger, path)
    caps: list[float] = []
    for _ in range(25):
        time.sleep(1.0)
        delay.read()
        for _, moving in governor.due([run], lambda run_id: False, Now(int(time.time() * 1000), int(time.monotonic() * 1000))):
            run = await moving
        caps += [one.value for one in run.governed]
    rest = delay.mean("wait", "host", delay.seen[-10][0], delay.seen[-1][0])
    assert rest is not None and rest <= LEVEL * 1.2, caps
    assert 10 <= caps[-1] <= 55 and run.governed[0].moves <= 25, caps
    run = await hands.undo(run)
    assert run.state == "undone"
    assert await actuator.read(host, actuator.groups.target(path)) == before  # type: ignore[arg-type]
    ledger.close()
