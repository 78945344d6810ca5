"""What a process had started before is lowered with it, each as far as needed, and comes back as it was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.priority import Priority, PriorityActuator
from stead.catalog.loader import load_catalog
from stead.cgroups.insiders import Shield
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.write import to_record
from stead.ledger.store import LedgerStore
from stead.ledger.words import step_words
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import ABSENT, FAMILY, Step, Target
from stead.model.errors import SteadError
from stead.model.policy import Policy
from stead.scheduling import members as members
from stead.scheduling.family import YOUNGEST
from stead.testing import FakeClock, FakeHost
from tests.actuators.families import Family, a_family
from tests.flow.kit import NOW, POLICY_ACTOR, counter, decision

root = pytest.mark.skipif(os.geteuid() != 0, reason="raising a priority again needs CAP_SYS_NICE")
OWN = os.getpriority(os.PRIO_PROCESS, 0)  # what a child has
ALL = Priority(family=["nice=15", "policy=batch", "ionice=idle"])
WEIGHT = Priority(family=["autogroup_nice=19", "nice=19"])


@pytest.fixture
def family() -> Iterator[Family]:
    with a_family() as one:
        yield one


async def levers(family: Family, *pids: int) -> list[tuple[Any, ...]]:
    seen = [await family.seen(pid) for pid in pids]
    return [(one.nice, one.policy, one.ionice_class, one.ionice_level, one.autogroup_nice) for one in seen]


def as_wanted(family: Family, step: Step, now: Any, side: str) -> bool:
    return family.levers.met(now, msgspec.convert(getattr(step, side), Priority))


def ended(pid: int) -> None:
    """End one of somebody else's children, and wait until it is no more than a corpse."""
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in b"ZX":
                return
        except FileNotFoundError:
            return
        time.sleep(0.01)


@root
async def test_the_family_goes_down_with_it_and_each_comes_back_as_it_was(family: Family) -> None:
    first = family.born()
    second, low = family.born(of=first), family.born()
    os.setpriority(os.PRIO_PROCESS, second, 5)
    family.host.scheduler.set_ionice(second, "best_effort", 6)
    os.setpriority(os.PRIO_PROCESS, low, 19)
    os.sched_setscheduler(low, os.SCHED_IDLE, os.sched_param(0))
    pids = (family.pid, first, second, low)
    before = await levers(family, *pids)
    step = await family.lower(ALL)
    assert step.undo == "exact" and step.want is not None and len(step.want["family"]) == 3  # type: ignore[arg-type]
    assert f"({first})" in step.note and "what it has started is lowered with it" in step.note
    after = await levers(family, *pids)
    assert [one[:3] for one in after[1:]] == [(15, "batch", "idle")] * 2 + [(19, "idle", "idle")], "none is raised"
    assert after[0] == before[0], "it is a step of its own"
    now = await family.levers.read(family.host, step.target)
    assert as_wanted(family, step, now, "want") and not as_wanted(family, step, now, "before")
    await family.undo(step)
    assert await levers(family, *pids) == before
    now = await family.levers.read(family.host, step.target)
    assert as_wanted(family, step, now, "before") and not as_wanted(family, step, now, "want")


@root
async def test_a_session_of_their_own_is_weighed_down_too_also_when_its_leader_ends(family: Family) -> None:
    leader = family.born(apart=True)
    follower = family.born(of=leader)
    if family.host.scheduler.autogroup(leader) is None:
        pytest.skip("autogroups are off here")
    before = await levers(family, family.pid, follower)
    step = await family.lower(WEIGHT)
    assert [one[4] for one in await levers(family, family.pid, leader, follower)] == [before[0][4], 19, 19]
    ended(leader)
    await family.undo(step)
    assert await levers(family, family.pid, follower) == before


@root
async def test_when_it_has_ended_itself_its_family_is_put_back_still(family: Family) -> None:
    one, other = family.born(), family.born()
    before = await levers(family, one, other)
    step = await family.lower(WEIGHT)
    assert await levers(family, one, other) != before
    ended(family.pid)
    os.waitpid(family.pid, 0)
    now = await family.levers.read(family.host, step.target)
    assert now != ABSENT and as_wanted(family, step, now, "want") and not as_wanted(family, step, now, "before")
    await family.undo(step)
    assert await levers(family, one, other) == before
    for pid in (one, other):
        ended(pid)
    assert await family.levers.read(family.host, step.target) == ABSENT


@root
async def test_one_that_ended_or_that_another_hand_changed_keeps_nobody_from_coming_back(family: Family) -> None:
    gone, changed, left = family.born(), family.born(), family.born()
    before = await levers(family, family.pid, left)
    step = await family.lower(ALL)
    ended(gone)
    os.setpriority(os.PRIO_PROCESS, changed, 11)
    now = await family.levers.read(family.host, step.target)
    assert as_wanted(family, step, now, "want"), "the one is gone, the other is another hand's: it holds"
    await family.undo(step)
    assert await levers(family, family.pid, left) == before
    assert (await family.seen(changed)).nice == 11 and (await family.seen(changed)).policy == "other"


@root
async def test_what_they_started_meanwhile_comes_back_with_each(family: Family) -> None:
    one = family.born()
    os.setpriority(os.PRIO_PROCESS, one, 5)
    step = await family.lower(ALL)
    late = family.born(of=one)
    assert await levers(family, late) == await levers(family, one)
    await family.undo(step)
    assert [line[:2] for line in await levers(family, one, late)] == [(5, "other")] * 2


@root
@pytest.mark.parametrize("side", ["forward", "undo"])
async def test_killed_in_the_middle_it_is_seen_to_be_neither_and_is_put_back(family: Family, monkeypatch: Any, side: str) -> None:
    pids = (family.pid, *(family.born() for _ in range(3)))
    before, step = await levers(family, *pids), await family.lower(ALL)
    if side == "forward":
        await family.undo(step)
    setting, left = members.set_levers, [2]

    def killed(*what: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        setting(*what)

    with monkeypatch.context() as patched:
        patched.setattr(members, "set_levers", killed)
        with pytest.raises(KeyboardInterrupt):
            await (
                family.levers.write(family.host, step.target, msgspec.convert(step.want, Priority))
                if side == "forward"
                else family.undo(step)
            )
    now = await family.levers.read(family.host, step.target)
    assert not as_wanted(family, step, now, "want") and not as_wanted(family, step, now, "before")
    assert family.levers.between(to_record(now), step.before, step.want)
    await family.undo(step)
    assert await levers(family, *pids) == before


@root
async def test_what_is_protected_or_beyond_the_bound_stays_and_is_said(family: Family, monkeypatch: Any) -> None:
    near, far = family.born(), family.born()
    with monkeypatch.context() as patched:
        patched.setattr(members, "MOST", 1)
        step = await family.lower(ALL)
    assert [one[0] for one in await levers(family, near, far)] == [15, OWN] and "1 beyond the nearest 1" in step.note
    await family.undo(step)
    family.levers = PriorityActuator(family.host, Shield(own=lambda: {str(near): "of stead's own"}))
    step = await family.lower(ALL)
    assert [one[0] for one in await levers(family, near, far)] == [OWN, 15]
    assert "left as they are: 1" in step.note and "protected" in step.note
    await family.undo(step)


@root
async def test_one_of_a_real_time_class_stays_and_is_said(family: Family) -> None:
    realtime, other = family.born(), family.born()
    try:
        os.sched_setscheduler(realtime, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("no real-time class for this machine's groups")
    step = await family.lower(ALL)
    assert os.sched_getscheduler(realtime) == os.SCHED_FIFO and "left as they are: 1 of a real-time class" in step.note
    assert (await family.seen(other)).nice == 15
    await family.undo(step)


@root
async def test_one_that_is_protected_by_now_is_named_and_none_is_lowered(family: Family) -> None:
    one = family.born()
    step = family.levers.plan(family.target, await family.seen(family.pid), ALL)
    family.levers = PriorityActuator(family.host, Shield(own=lambda: {str(one): "of stead's own"}))
    with pytest.raises(SteadError, match=f"process {one} is of stead's own"):
        await family.levers.write(family.host, step.target, msgspec.convert(step.want, Priority))
    assert (await family.seen(one)).nice == OWN


@root
async def test_a_session_that_something_protected_is_in_by_now_is_not_weighed_down(family: Family) -> None:
    leader = family.born(apart=True)
    os.setpriority(os.PRIO_PROCESS, leader, 19)  # so that its session alone is to be changed
    if (weight := family.host.scheduler.autogroup(leader)) is None:
        pytest.skip("autogroups are off here")
    step = family.levers.plan(family.target, await family.seen(family.pid), WEIGHT)
    assert step.want is not None and step.want["family"] == [f"session:{leader} autogroup_nice=19<{weight}"]
    late = family.born(of=leader)
    family.levers = PriorityActuator(family.host, Shield(own=lambda: {str(late): "of stead's own"}))
    with pytest.raises(SteadError, match=f"process {late} is in it, of stead's own"):
        await family.levers.write(family.host, step.target, msgspec.convert(step.want, Priority))
    assert family.host.scheduler.autogroup(leader) == weight


@root
async def test_whoever_the_system_refuses_is_named_and_the_others_come_back(family: Family, monkeypatch: Any) -> None:
    stubborn, other = family.born(), family.born()
    before = await levers(family, family.pid, other)
    step = await family.lower(Priority(family=["nice=15"]))
    monkeypatch.setattr(family.host.scheduler, "set_nice", family.refusing(stubborn))
    with pytest.raises(SteadError, match=f"{stubborn}@.*not permitted"):
        await family.undo(step)
    assert await levers(family, family.pid, other) == before and (await family.seen(stubborn)).nice == 15


@root
async def test_whom_it_means_is_the_plans_to_say(family: Family) -> None:
    family.born()
    want = Priority(family=["nice=15"])
    assert not family.levers.met(await family.seen(family.pid), want)
    await family.lower(want)
    again = family.levers.plan(family.target, await family.seen(family.pid), want)
    assert not again.diff, "they are that low already"


@pytest.mark.parametrize("lines", [["cpus=0"], ["nice=low"], ["policy=fifo"], ["ionice=realtime"], ["ionice=idle:x"], ["*"]])
def test_what_can_not_be_wanted_of_a_family_is_refused(lines: list[str]) -> None:
    with pytest.raises(SteadError) as refused:
        members.wanted(lines, Target("process", "10"))
    assert refused.value.problem.code == "priority.family"


def test_every_family_that_the_catalogue_wants_is_one() -> None:
    """Under each profile: what is wanted of a family is what is wanted of the process itself."""
    found = 0
    for playbook in load_catalog().playbooks.values():
        own = [one for one in playbook.settings if one.actuator == "priority" and "family" not in one.state]
        for setting in (one for one in playbook.settings if "family" in one.state):
            for profile in (None, *setting.by_profile):
                state = {**setting.state, **setting.by_profile.get(profile, {})} if profile else setting.state
                wanted = members.wanted(state["family"], Target("process", "10"))  # type: ignore[arg-type]
                levers = {**own[0].state, **(own[0].by_profile.get(profile, {}) if profile else {})}
                mine = {key: value for key, value in msgspec.structs.asdict(wanted).items() if value is not None}
                assert mine == levers, playbook.playbook_id
                found += 1
    assert found == 4


@root
async def test_the_plan_says_who_is_lowered_and_counts_the_others(family: Family) -> None:
    pids = [family.born() for _ in range(5)]
    step = family.levers.plan(family.target, await family.seen(family.pid), ALL)
    words = step_words(step)
    assert f"({pids[0]})" in words and "and 2 more" in words and f"{pids[0]}@" in words and f"({pids[4]})" not in words
    assert f"{pids[4]}@" not in words, "a long list is counted too"


@root
async def test_a_conflict_over_the_process_keeps_nobody_else_lowered(family: Family, tmp_path: Path) -> None:
    """Two steps of one run: what another hand took stays as it is, and the family comes back."""
    one = family.born()
    before = await levers(family, one)
    settings = (
        SettingTemplate("priority", {"nice": 15}, lease_s=600.0),
        SettingTemplate("priority", {"family": ["nice=15"]}, lease_s=600.0),
    )
    clock = FakeClock()
    ledger = LedgerStore.open(tmp_path / "ledger.db", "host1", clock)
    actuators = {"priority": family.levers}
    hands = Hands(family.host, actuators, ledger, None, clock, Policy(), lambda: False, new_id=counter("i"))
    bound = tuple(BoundSetting(each, family.target) for each in settings)
    wish = Wish(PlaybookDefinition("lower", settings=settings), None, POLICY_ACTOR, bound)
    made = await plan(wish, actuators, family.host, lambda m, s: None, Policy(), NOW, lambda: "run-1")
    assert [step.owns for step in made.steps] == [("nice",), ("family",)], made.impossible
    run, entries = runs.start(made, decision(), hands.writer.stamp())
    await ledger.commit(entries, runs=[run])
    run = await hands.run(run)
    assert (run.state, await levers(family, one) != before) == ("verifying", True)
    os.setpriority(os.PRIO_PROCESS, family.pid, 12)
    run = await hands.undo(run, "lease")
    assert run.state == "conflict" and await levers(family, one) == before and (await family.seen(family.pid)).nice == 12
    ledger.close()


def test_without_the_right_to_raise_again_they_are_left(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.scheduler.add(10)
    (tmp_path / "proc/10/task/10").mkdir(parents=True)
    (tmp_path / "proc/10/task/10/children").write_text("11")
    host.scheduler.raises = False
    assert members.planned(host, Target("process", "10"), Shield(), Priority(nice=19)) is None


def test_a_line_says_both_sides() -> None:
    lines = ["12@567 nice=19<0 policy=idle<other ionice=idle:0<best_effort:4", "session:12 autogroup_nice=19<0"]
    parsed = members.parse(lines)
    assert [one.line for one in parsed] == lines
    assert parsed[0].back().line == "12@567 nice=0<19 policy=other<idle ionice=best_effort:4<idle:0"
    assert members.met(["12@567 nice=19 policy=idle ionice=idle:0", "session:12 autogroup_nice=19"], lines)
    assert not members.met(["12@567 nice=0 policy=idle"], lines)
    assert members.met(["12@567 nice=3 policy=idle"], lines) and members.met([], lines) and members.met(None, lines)
    assert members.met(["12@568 nice=0"], lines), "another process of that number"
    assert not members.met(None, ["nice=19"]) and not members.met([], ["nice=19", "policy=idle"])


def test_two_rules_for_one_of_a_family_fight() -> None:
    boot = {"boot_id": "b"}
    hog = Target("process", "10", {"start_ticks": "5", **boot}, {FAMILY: "12@567 session:12", YOUNGEST: "567"})
    its = Target("process", "12", {"start_ticks": "567", **boot})
    step = Step("priority", hog, {}, {"family": ["12@567 nice=19<0"]}, "exact", owns=("family",))
    other = Step("priority", its, {}, {"nice": 19}, "exact", owns=("nice",))
    assert step.fights(other) and other.fights(step)
    assert BoundSetting(SettingTemplate("priority", {"nice": 19}), its).would_fight(step)
    own = msgspec.structs.replace(other, target=msgspec.structs.replace(hog, within={}))
    assert not own.fights(step), "the process itself is another step"
    for else_ in ({"start_ticks": "568", **boot}, {"start_ticks": "567", "boot_id": "c"}):
        assert not step.fights(msgspec.structs.replace(other, target=Target("process", "12", else_)))
