"""What is started while a process is lowered inherits that, and has to come back with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.priority import Priority, PriorityActuator
from stead.model.change import Target
from stead.model.errors import SteadError
from stead.scheduling.family import YOUNGEST
from stead.testing import FakeHost
from tests.actuators.families import Family, a_family

root = pytest.mark.skipif(os.geteuid() != 0, reason="raising a priority again needs CAP_SYS_NICE")
LOWERED = Priority(nice=15, policy="batch", ionice_class="idle", cpus="0")


@pytest.fixture
def family() -> Iterator[Family]:
    with a_family() as one:
        yield one


@root
async def test_what_was_started_while_it_was_lowered_comes_back_with_it(family: Family) -> None:
    before = await family.seen(family.pid)
    step = await family.lower(LOWERED)
    first = family.born()
    second = family.born(of=first)
    for pid in (first, second):
        inherited = await family.seen(pid)
        assert (inherited.nice, inherited.policy, inherited.ionice_class, inherited.cpus) == (15, "batch", "idle", "0")
    assert step.undo == "exact"
    await family.undo(step)
    assert [await family.seen(pid) for pid in (family.pid, first, second)] == [before] * 3


@root
async def test_what_somebody_set_in_one_of_them_stays_and_the_rest_comes_back(family: Family) -> None:
    step = await family.lower(LOWERED)
    own = family.born()
    os.setpriority(os.PRIO_PROCESS, own, 18)
    family.host.scheduler.set_ionice(own, "best_effort", 7)
    await family.undo(step)
    left = await family.seen(own)
    assert (left.nice, left.ionice_class, left.ionice_level) == (18, "best_effort", 7)
    assert (left.policy, left.cpus) == ((await family.seen(family.pid)).policy, (await family.seen(family.pid)).cpus)


@root
async def test_who_was_there_before_keeps_what_it_had_though_it_is_the_same(family: Family) -> None:
    older, other = family.born(), family.born()
    os.setpriority(os.PRIO_PROCESS, older, 15)
    was = await family.seen(other)
    step = await family.lower(Priority(nice=15))
    await family.undo(step)
    assert (await family.seen(older)).nice == 15 and await family.seen(other) == was


@root
async def test_a_change_of_which_the_start_is_not_known_reaches_nobody_else(family: Family) -> None:
    nice = (await family.seen(family.pid)).nice
    step = await family.lower(Priority(nice=15))
    born = family.born()
    assert step.target.within[YOUNGEST] and step.target.key == family.target.key
    unknown = msgspec.structs.replace(step, target=msgspec.structs.replace(step.target, within={}))
    await family.undo(unknown)
    assert ((await family.seen(family.pid)).nice, (await family.seen(born)).nice) == (nice, 15)


@root
async def test_an_undo_that_was_cut_short_is_gone_on_with(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    before, step = await family.seen(family.pid), await family.lower(LOWERED)
    pids = [family.born() for _ in range(3)]

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(family.levers, "_set", killed)
        with pytest.raises(KeyboardInterrupt):
            await family.undo(step)
    late = family.born()
    assert not family.levers.met(await family.seen(family.pid), msgspec.convert(step.before, Priority)), (
        "it is seen as not undone"
    )
    await family.undo(step)
    assert [await family.seen(pid) for pid in (family.pid, *pids, late)] == [before] * 5


@root
async def test_whoever_can_not_be_put_back_is_named_and_the_others_are(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    nice = (await family.seen(family.pid)).nice
    step = await family.lower(Priority(nice=15))
    stubborn, other = family.born(), family.born()
    monkeypatch.setattr(family.host.scheduler, "set_nice", family.refusing(stubborn))
    with pytest.raises(SteadError, match=f"process {stubborn}: .*not permitted"):
        await family.undo(step)
    assert [(await family.seen(pid)).nice for pid in (family.pid, stubborn, other)] == [nice, 15, nice]


@root
async def test_killed_right_after_it_was_put_back_itself_it_has_left_nobody_behind(family: Family, monkeypatch: Any) -> None:
    before, step = await family.seen(family.pid), await family.lower(LOWERED)
    born, writing = family.born(), family.levers._set

    async def written_and_killed(*what: Any) -> None:
        await writing(*what)
        raise KeyboardInterrupt

    monkeypatch.setattr(family.levers, "_set", written_and_killed)
    with pytest.raises(KeyboardInterrupt):
        await family.undo(step)
    assert [await family.seen(pid) for pid in (family.pid, born)] == [before] * 2


async def test_a_family_is_kept_with_the_target_only_for_what_is_inherited(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.scheduler.add(10)
    (tmp_path / "proc/10").mkdir(parents=True)
    (tmp_path / "proc/10/stat").write_text("10 (hog) S 1 10 10 0 -1 4194560 " + "0 " * 12 + "500 " + "0 " * 30)
    levers = PriorityActuator(host)
    ten = Target("process", "10", {"start_ticks": str(host.start_ticks(10)), "boot_id": host.boot_id})
    now = await levers.read(host, ten)
    assert YOUNGEST not in levers.plan(ten, now, Priority(autogroup_nice=19)).target.within
    assert levers.plan(ten, now, Priority(nice=19)).target.within == {YOUNGEST: str(host.start_ticks(10))}
