from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from stead.actuators.priority import Priority, actuator
from stead.host import LocalHost
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.model.intent import Intent, Protect
from stead.testing import FakeHost
from tests.actuators.children import THREADS, child, target
from tests.cgroups.recorded import RecordedHost

root = pytest.mark.skipif(os.geteuid() != 0, reason="raising a priority again needs CAP_SYS_NICE")


def stat_line(pid: int, session: int) -> str:
    return f"{pid} (odd ) name) S 1 {session} {session} 0 -1 4194560 " + "0 " * 45


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    """Processes 1 (session 1), 10 and 11 (session 10), 20 (stead's own session), with stead as /proc/self."""
    host = FakeHost(tmp_path)
    for pid, session in ((1, 1), (10, 10), (11, 10), (20, 20)):
        host.scheduler.add(pid)
        (tmp_path / f"proc/{pid}/task/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/stat").write_text(stat_line(pid, session))
    (tmp_path / "proc/10/comm").write_text("shell\n")
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/stat").write_text(stat_line(20, 20))
    return host


def process(host: FakeHost, pid: int) -> Target:
    return Target("process", str(pid), {"start_ticks": str(host.start_ticks(pid)), "boot_id": host.boot_id})


async def test_the_autogroup_of_another_session_says_whom_it_touches(fake: FakeHost) -> None:
    priority, ten = actuator(fake), process(fake, 10)
    step = priority.plan(ten, await priority.read(fake, ten), Priority(nice=19, autogroup_nice=19))
    assert step.before == {"nice": 0, "autogroup_nice": 0} and step.want == {"nice": 19, "autogroup_nice": 19}
    assert step.note == "autogroup nice is of its whole session: 10, begun by shell" and step.undo == "exact"


@pytest.mark.parametrize(("pid", "why"), [(1, "the system's own"), (20, "stead's own")])
async def test_the_autogroup_of_stead_or_the_system_is_left_alone(fake: FakeHost, pid: int, why: str) -> None:
    priority, one = actuator(fake), process(fake, pid)
    with pytest.raises(SteadError, match=why):
        priority.plan(one, await priority.read(fake, one), Priority(autogroup_nice=19))


async def test_a_session_that_protected_work_is_in_is_not_weighed_down_and_is_put_back_all_the_same(fake: FakeHost) -> None:
    (fake.root / "proc/11/stat").write_text(stat_line(11, 10).replace("odd ) name", "postgres"))
    priority, ten = actuator(fake, intent=Intent((Protect(("process:postgres",), name="the shop"),))), process(fake, 10)
    step = priority.plan(ten, await priority.read(fake, ten), Priority(nice=19, autogroup_nice=19))
    assert step.want == {"nice": 19} and "process 11 is in it, postgres, which is to be protected (the shop)" in step.note
    with pytest.raises(SteadError, match="process 11 is in it"):
        priority.plan(ten, await priority.read(fake, ten), Priority(autogroup_nice=19))
    with pytest.raises(SteadError, match="process 11 is in it"):
        await priority.write(fake, ten, Priority(nice=19, autogroup_nice=19))
    assert fake.scheduler.nice(10) == 0
    fake.scheduler.set_autogroup(10, 19)  # it was weighed down before the protected process came
    await priority.write(fake, ten, Priority(nice=0, autogroup_nice=0))
    assert fake.scheduler.autogroup(10) == 0


async def test_without_autogroups_nice_alone_is_planned(fake: FakeHost) -> None:
    fake.scheduler.processes[10]["autogroup"] = None
    priority, ten = actuator(fake), process(fake, 10)
    step = priority.plan(ten, await priority.read(fake, ten), Priority(nice=19, autogroup_nice=19))
    assert step.want == {"nice": 19} and "no autogroup" in step.note


@pytest.mark.parametrize(
    ("want", "undo"),
    [
        (Priority(nice=19), "none"),
        (Priority(policy="idle"), "none"),
        (Priority(ionice_class="idle"), "exact"),
        (Priority(cpus="0"), "exact"),
        (Priority(autogroup_nice=19), "exact"),
    ],
)
async def test_what_can_not_be_raised_again_is_undo_none(fake: FakeHost, want: Priority, undo: str) -> None:
    fake.scheduler.raises = False
    priority, ten = actuator(fake), process(fake, 10)
    step = priority.plan(ten, await priority.read(fake, ten), want)
    assert step.undo == undo and ("CAP_SYS_NICE" in step.undo_reason) == (undo == "none")


async def test_a_negative_autogroup_can_not_be_restored_without_the_capability(fake: FakeHost) -> None:
    fake.scheduler.raises = False
    fake.scheduler.processes[10]["autogroup"] = -5
    priority, ten = actuator(fake), process(fake, 10)
    assert priority.plan(ten, await priority.read(fake, ten), Priority(autogroup_nice=19)).undo == "none"


@pytest.mark.parametrize(
    ("want", "planned"),
    [
        (Priority(nice=99), {"nice": 19}),
        (Priority(ionice_class="best_effort"), {"ionice_class": "best_effort", "ionice_level": 4}),
        (Priority(ionice_class="idle", ionice_level=7), {"ionice_class": "idle", "ionice_level": 0}),
        (Priority(cpus="1,1"), {"cpus": "1"}),
    ],
)
async def test_want_is_as_the_system_will_round_it(fake: FakeHost, want: Priority, planned: dict[str, object]) -> None:
    priority, ten = actuator(fake), process(fake, 10)
    assert priority.plan(ten, await priority.read(fake, ten), want).want == planned


async def test_a_realtime_process_is_left_alone(fake: FakeHost) -> None:
    fake.scheduler.processes[10]["policy"] = ("fifo", 50)
    priority, ten = actuator(fake), process(fake, 10)
    now = await priority.read(fake, ten)
    with pytest.raises(SteadError, match="fifo"):
        priority.plan(ten, now, Priority(policy="idle"))
    assert priority.plan(ten, now, Priority(cpus="0")).want == {"cpus": "0"}


async def test_absent_is_no_priority(fake: FakeHost) -> None:
    priority, ten = actuator(fake), process(fake, 10)
    now = await priority.read(fake, ten)
    for one, other in ((now, ABSENT), (ABSENT, Priority(nice=1))):
        with pytest.raises(SteadError):
            priority.plan(ten, one, other)
    with pytest.raises(SteadError):
        await priority.write(fake, ten, ABSENT)
    for strange in (Target("workload", "10"), Target("process", "ten", ten.identity), Target("process", "99", ten.identity)):
        assert await priority.read(fake, strange) == ABSENT


@root
async def test_every_thread_goes_along_and_comes_back() -> None:
    host = LocalHost()
    priority = actuator(host)
    with child(THREADS) as pid:
        mine, nice = target(host, pid), os.getpriority(os.PRIO_PROCESS, pid)
        step = priority.plan(mine, await priority.read(host, mine), Priority(nice=17, cpus="0"))
        await priority.write(host, mine, msgspec.convert(step.want, Priority))
        tids = [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]
        assert len(tids) == 4 and {os.getpriority(os.PRIO_PROCESS, tid) for tid in tids} == {17}
        assert {tuple(os.sched_getaffinity(tid)) for tid in tids} == {(0,)}
        await priority.write(host, mine, msgspec.convert(step.before, Priority))
        assert {os.getpriority(os.PRIO_PROCESS, tid) for tid in tids} == {nice}


@root
async def test_a_thread_that_is_so_already_makes_the_undo_lossy() -> None:
    host = LocalHost()
    priority = actuator(host)
    with child(THREADS) as pid:
        mine = target(host, pid)
        apart = max(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))
        os.setpriority(os.PRIO_PROCESS, apart, 19)
        now = await priority.read(host, mine)
        assert isinstance(now, Priority) and now.apart == ("nice=19",)
        assert priority.plan(mine, now, Priority(nice=19)).undo == "lossy"
        assert priority.plan(mine, now, Priority(nice=18)).undo == "exact"


@root
async def test_who_ends_while_it_is_written_is_gone() -> None:
    host = LocalHost()
    priority = actuator(host)
    with child() as pid:
        mine = target(host, pid)
    assert await priority.read(host, mine) == ABSENT
    with pytest.raises(ProcessLookupError):
        await priority.write(host, mine, Priority(nice=5))


async def test_a_session_gets_its_weight_back_when_its_process_ended_first(fake: FakeHost) -> None:
    priority, eleven = actuator(fake), process(fake, 11)
    step = priority.plan(eleven, await priority.read(fake, eleven), Priority(nice=19, autogroup_nice=19))
    assert step.target.key == eleven.key and step.target.within["leader"] == "10"
    fake.scheduler.set_autogroup(10, 19)  # one autogroup, by whichever process of the session it is set
    fake.scheduler.remove(11)
    (fake.root / "proc/11/stat").unlink()
    left = await priority.read(fake, step.target)
    assert isinstance(left, Priority) and (left.autogroup_nice, left.nice) == (19, None)
    assert priority.met(left, Priority(nice=19, autogroup_nice=19)) and not priority.met(left, Priority(nice=0, autogroup_nice=0))
    await priority.write(fake, step.target, Priority(nice=0, autogroup_nice=0))
    assert fake.scheduler.autogroup(10) == 0
    with pytest.raises(ProcessLookupError):
        await priority.write(fake, step.target, Priority(nice=19, autogroup_nice=19))
    assert fake.scheduler.autogroup(10) == 0, "nothing is lowered for a process that is gone"


async def test_a_process_that_took_the_session_leaders_place_is_left_alone(fake: FakeHost) -> None:
    priority, eleven = actuator(fake), process(fake, 11)
    step = priority.plan(eleven, await priority.read(fake, eleven), Priority(autogroup_nice=19))
    (fake.root / "proc/11/stat").unlink()
    other = msgspec.structs.replace(step.target, within={**step.target.within, "start_ticks": "1"})
    assert await priority.read(fake, other) == ABSENT
    with pytest.raises(ProcessLookupError):
        await priority.write(fake, other, Priority(autogroup_nice=0))


@pytest.mark.parametrize(
    ("name", "want", "owned"), [("ananicy-cpp", {"nice": 7}, True), ("numad", {"nice": 7}, False), ("numad", {"cpus": "0"}, True)]
)
async def test_it_yields_to_who_sets_priorities_by_rules(tmp_path, name, want, owned):
    host = RecordedHost(tmp_path)
    host.process(99, name)
    host.process(4711, "hog", ticks=500)
    levers, mine = actuator(host), Target("process", "4711", {"start_ticks": "500", "boot_id": host.boot_id})
    now = await levers.read(host, mine)
    if not owned:
        assert levers.plan(mine, now, Priority(**want)).want == want
        return
    with pytest.raises(SteadError, match=r"runs here \(process 99\) and sets (nice|cpus): stead yields"):
        levers.plan(mine, now, Priority(**want))
