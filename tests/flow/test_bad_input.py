"""What the kernel, another hand or a rule may do to a run: each ends in a named refusal or a clean undo, and in the ledger.

On a recorded tree of version 2, straight and through systemd; `test_limit_ownership` has real groups of version 1.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stead.actuators import kernel, limit, priority, resident
from stead.cgroups.own_groups import own_path
from stead.cgroups.tree import Groups
from stead.flow import runs
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.ledger.stored import StoreSource
from stead.ledger.why import explain
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Proposal, Run, Target
from stead.model.intent import Intent, Protect
from stead.model.policy import Policy
from stead.protocols import Completed
from tests.actuators.test_limit import hosted, target_of
from tests.cgroups.recorded import RecordedHost
from tests.flow.kit import POLICY_ACTOR, counter, decision
from tests.flow.test_limit_ownership import Bound

WANT = {"cpu_weight": 20, "memory_high_bytes": 64 << 20, "pids_max": 64}
REFUSALS = [errno.EBUSY, errno.EPERM, errno.ENOSPC, errno.EACCES, errno.EROFS]


class Tried(Bound):
    """Hands on one recorded group, and what their ledger says."""

    def __init__(self, tmp_path: Path, systemd: int = 0) -> None:
        host, _, self.path = hosted(tmp_path / "root", systemd)
        super().__init__(tmp_path, host, Groups.of(host))  # type: ignore[arg-type]
        self.recorded: RecordedHost = host
        self.thing = target_of(self.actuators["limit"], self.path)

    def files(self, path: str = "") -> dict[str, bytes]:
        folder = f"/sys/fs/cgroup{path or self.path}"
        return {name: self.host.read(f"{folder}/{name}") for name in self.host.list(folder)}

    async def act_all(self, steps: list[tuple[str, Target, dict[str, Any]]]) -> Run:
        """One run of several settings."""
        bound = tuple(BoundSetting(SettingTemplate(name, state, lease_s=60.0), thing) for name, thing, state in steps)
        settings = tuple(one.template for one in bound)
        wish = Wish(PlaybookDefinition("calm", settings=settings), None, POLICY_ACTOR, bound)
        proposal = await plan(wish, self.actuators, self.host, lambda m, s: None, Policy(), self.clock.now(), counter("many"))
        assert len(proposal.steps) == len(steps), proposal.impossible
        run, entries = runs.start(proposal, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return await self.hands.run(run)

    async def refused(self, actuator: str, thing: Target, **state: Any) -> Run:
        """A wish that can't be planned, recorded as the road does."""
        proposal: Proposal = await self.plan(actuator, thing, **state)
        assert proposal.impossible and not proposal.steps
        run, entries = runs.start(proposal, None, self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return run

    def said(self, run: Run, type_: str) -> str:
        """What the ledger tells of a run, which must have an entry of this type."""
        assert self.ledger.entries(1, run.id, (type_,)), [entry.type for entry in self.ledger.entries(20)]
        explained = explain(run.id, StoreSource(self.ledger))
        return "\n".join([explained.summary, *(link.words for link in explained.chain)])

    def process(self, pid: int = 4800, name: str = "job", ticks: int = 500) -> Target:
        """A process at the root, for `placement`."""
        self.recorded.process(pid, name, ticks=ticks)
        self.recorded._move("/sys/fs/cgroup/cgroup.procs", str(pid))
        return Target("process", str(pid), {"start_ticks": str(ticks), "boot_id": self.host.boot_id})


@pytest.fixture(params=[0, 252], ids=["straight", "systemd"])
def tried(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tried]:
    made = Tried(tmp_path, request.param)
    yield made
    made.ledger.close()


@pytest.fixture
def straight(tmp_path: Path) -> Iterator[Tried]:
    made = Tried(tmp_path)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("file", ["cpu.weight", "memory.high", "pids.max"])
async def test_what_the_kernel_refuses_at_any_knob_is_named_and_the_rest_is_put_back(
    straight: Tried, number: int, file: str
) -> None:
    before = straight.files()
    straight.recorded.refuses[file] = OSError(number, os.strerror(number))
    run = await straight.act("limit", straight.thing, **WANT)
    straight.recorded.refuses.clear()
    assert run.state == "failed" and straight.files() == before
    name = errno.errorcode[number]
    assert name in run.receipts[0].error and name in straight.said(run, "run.failed")


async def test_what_systemd_refuses_is_named_in_its_words_and_nothing_is_left(tmp_path: Path) -> None:
    one = Tried(tmp_path, 252)
    before, asked = one.files(), one.recorded.run

    async def refusing(argv: Any, *more: Any, **named: Any) -> Completed:
        if argv[1] == "set-property" and any("MemoryHigh=67" in word for word in argv):
            return Completed(1, "", "Failed to set unit properties: Access denied\n")
        return await asked(argv, *more, **named)

    one.recorded.run = refusing  # type: ignore[method-assign]
    run = await one.act("limit", one.thing, **WANT)
    assert run.state == "failed" and one.files() == before
    assert "Access denied" in run.receipts[0].error and "Access denied" in one.said(run, "run.failed")
    one.ledger.close()


@pytest.mark.parametrize("number", REFUSALS[:3])
async def test_what_the_kernel_does_not_take_back_is_said_and_tried_again(straight: Tried, number: int) -> None:
    before = straight.files()
    run = await straight.hold("limit", straight.thing, **WANT)
    straight.recorded.refuses["memory.high"] = OSError(number, os.strerror(number))
    run = await straight.hands.undo(run, "lease")
    assert run.state == "undo_failed" and errno.errorcode[number] in straight.said(run, "run.undo_failed")
    straight.recorded.refuses.clear()
    run = await straight.hands.undo(run, runs.AGAIN)
    assert run.state == "undone" and straight.files() == before and straight.said(run, "run.undone")


@pytest.mark.parametrize("end", ["cpu.weight", "memory.high", "pids.max"])
async def test_a_group_that_vanishes_in_the_middle_of_a_write_leaves_nothing_to_put_back(straight: Tried, end: str) -> None:
    write = straight.recorded.write

    def vanishing(file: str, data: bytes) -> None:
        if file.endswith(end) and straight.host.inode(f"/sys/fs/cgroup{straight.path}") is not None:
            straight.recorded.put(f"/sys/fs/cgroup{straight.path}/cgroup.procs", "")
            straight.recorded.remove_folder(f"/sys/fs/cgroup{straight.path}")
            raise OSError(errno.ENODEV, "No such device")
        write(file, data)

    straight.recorded.write = vanishing  # type: ignore[method-assign]
    run = await straight.act("limit", straight.thing, **WANT)
    assert run.state in ("moot", "failed"), run
    assert run.receipts[0].outcome == "moot" and "gone" in straight.said(run, "receipt.made")
    assert straight.ledger.live_runs() == () and straight.host.inode(f"/sys/fs/cgroup{straight.path}") is None


async def test_a_group_that_vanishes_while_it_is_held_is_moot_in_the_record(straight: Tried) -> None:
    """Through systemd what it keeps for the unit's next group is put back: tests/actuators/test_limit_restart.py."""
    run = await straight.hold("limit", straight.thing, **WANT)
    straight.recorded.put(f"/sys/fs/cgroup{straight.path}/cgroup.procs", "")
    straight.recorded.remove_folder(f"/sys/fs/cgroup{straight.path}")
    run = await straight.hands.undo(run, "lease")
    assert run.state == "moot" and "gone" in straight.said(run, "run.moot")
    assert await straight.hands.is_gone(run)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"memory_max_bytes": 8 << 20}, "below the 9 MiB that it uses"),
        ({"memory_high_bytes": 4 << 20}, "below the 9 MiB that it uses"),
        ({"pids_max": 0}, "would start none with at most 0"),
        ({"cpu_max_percent": 0.5}, "less than the 1 %"),
    ],
)
async def test_a_limit_below_what_it_needs_is_refused_and_recorded(tried: Tried, state: dict[str, Any], words: str) -> None:
    before = tried.files()
    run = await tried.refused("limit", tried.thing, **state)
    assert run.state == "unsupported" and words in run.reason and tried.files() == before
    assert words in tried.said(run, "run.unsupported")


async def test_what_outgrew_its_limit_between_plan_and_write_is_refused_and_recorded(straight: Tried) -> None:
    before = straight.files()

    def grows(name: str) -> None:
        if name == "act.limit.forward.before_write":
            straight.recorded.put(f"/sys/fs/cgroup{straight.path}/memory.current", f"{100 << 20}\n")

    straight.hands.writer.mark = grows
    run = await straight.act("limit", straight.thing, cpu_weight=20, memory_max_bytes=64 << 20)
    assert run.state == "failed" and "uses and can't give back" in straight.said(run, "run.failed")
    now = straight.files()
    assert {name: now[name] for name in now if name != "memory.current"} == {
        name: before[name] for name in before if name != "memory.current"
    }


@pytest.mark.parametrize(
    ("pid", "name", "words"),
    [(1, "init", "the init system"), (77, "sshd", "the way in by ssh"), (os.getpid(), "python", "stead itself")],
    ids=["init", "sshd", "stead"],
)
async def test_a_group_with_what_is_never_touched_is_refused_and_recorded(tried: Tried, pid: int, name: str, words: str) -> None:
    tried.recorded.process(pid, name, tried.path)
    tried.recorded.put(f"/sys/fs/cgroup{tried.path}/cgroup.procs", f"4711\n{pid}\n")
    before = tried.files()
    run = await tried.refused("limit", tried.thing, **WANT)
    assert run.state == "unsupported" and tried.files() == before
    assert f"holds process {pid}" in run.reason and words in tried.said(run, "run.unsupported")


async def test_who_comes_in_between_plan_and_write_is_not_limited_and_that_is_recorded(straight: Tried) -> None:
    straight.actuators["limit"] = limit.actuator(straight.host, intent=Intent((Protect(("process:postgres*",)),)))

    def comes(name: str) -> None:
        if name == "act.limit.forward.before_write":
            straight.recorded.process(99, "postgres", straight.path)
            straight.recorded.put(f"/sys/fs/cgroup{straight.path}/cgroup.procs", "4711\n99\n")

    straight.hands.writer.mark = comes
    run = await straight.act("limit", straight.thing, cpu_weight=20)
    assert run.state == "failed" and "postgres" in straight.said(run, "run.failed")
    assert straight.files()["cpu.weight"] == b"100\n"


async def test_two_rules_that_fight_are_told_apart_by_name_in_the_record(tried: Tried) -> None:
    first = await tried.hold("limit", tried.thing, pids_max=64, cpu_weight=20)
    second = await tried.act("limit", tried.thing, pids_max=32)
    assert second.state == "refused" and f"run {first.id} holds limit of cgroup:{tried.path}" in tried.said(second, "run.refused")
    assert tried.files()["pids.max"] == b"64\n"
    assert (await tried.hands.undo(first, "lease")).state == "undone"


async def test_two_rules_for_one_process_fight_too(straight: Tried) -> None:
    thing = straight.process()
    first = await straight.hold("placement", thing, group="best-effort")
    second = await straight.act("placement", thing, cpu_max_percent=50.0)
    assert second.state == "refused" and first.id in straight.said(second, "run.refused")
    assert (await straight.hands.undo(first, "lease")).state == "undone"
    assert straight.host.inode("/sys/fs/cgroup/stead") is None


def own_file(name: str) -> str:
    return f"{own_path(4800, 500).rpartition('/')[2]}/{name}"


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize(
    "file", ["stead/cgroup.subtree_control", "stead/cpu.idle", own_file("cpu.max"), own_file("cgroup.procs")]
)
async def test_a_placement_that_the_kernel_refuses_leaves_no_group(straight: Tried, number: int, file: str) -> None:
    thing = straight.process()
    straight.recorded.refuses[file] = OSError(number, os.strerror(number))
    run = await straight.act("placement", thing, group="best-effort", cpu_max_percent=50.0)
    assert run.state == "failed" and errno.errorcode[number] in straight.said(run, "run.failed")
    assert straight.host.inode("/sys/fs/cgroup/stead") is None
    assert straight.host.read("/proc/4800/cgroup") == b"0::/\n"


@pytest.mark.parametrize("ends", [own_file("cgroup.procs"), own_file("cpu.max")])
async def test_a_process_that_ends_in_the_middle_leaves_no_group_and_an_entry(straight: Tried, ends: str) -> None:
    thing = straight.process()
    write: Callable[[str, bytes], None] = straight.recorded.write

    def ending(file: str, data: bytes) -> None:
        if file.endswith(ends):
            straight.recorded.remove("/proc/4800/stat")
        write(file, data)

    straight.recorded.write = ending  # type: ignore[method-assign]
    run = await straight.act("placement", thing, group="best-effort", cpu_max_percent=50.0)
    assert run.state in ("moot", "failed"), run
    assert run.receipts and straight.said(run, f"run.{run.state}")
    assert straight.host.inode("/sys/fs/cgroup/stead") is None


@pytest.mark.parametrize("number", REFUSALS)
async def test_what_the_kernel_refuses_of_a_sysctl_is_named_and_as_it_was(straight: Tried, number: int) -> None:
    straight.actuators["kernel"] = kernel.actuator(straight.host)
    straight.recorded.put("/proc/sys/vm/swappiness", "60\n")
    straight.recorded.put("/proc/sys/vm/vfs_cache_pressure", "100\n")
    boot = {"boot_id": straight.host.boot_id}
    settings = [("vm.vfs_cache_pressure", 50), ("vm.swappiness", 10)]
    straight.recorded.refuses["vm/swappiness"] = OSError(number, os.strerror(number))
    run = await straight.act_all([("kernel", Target("sysctl", name, boot), {"value": value}) for name, value in settings])
    assert run.state == "failed" and os.strerror(number) in straight.said(run, "run.failed")
    assert straight.host.read("/proc/sys/vm/vfs_cache_pressure").strip() == b"100", "what was done before it is put back"
    assert straight.host.read("/proc/sys/vm/swappiness").strip() == b"60"


async def test_what_the_scheduler_refuses_is_named_and_what_was_done_is_put_back(straight: Tried) -> None:
    thing, scheduler = straight.process(), straight.recorded.scheduler
    straight.actuators["priority"] = priority.actuator(straight.host)

    def refusing(pid: int, cls: str, level: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    scheduler.set_ionice = refusing  # type: ignore[method-assign]
    run = await straight.act("priority", thing, nice=10, policy="batch", ionice_class="idle")
    assert run.state == "failed" and "not permitted" in straight.said(run, "run.failed")
    assert (scheduler.nice(4800), scheduler.policy(4800)[0]) == (0, "other")


@pytest.mark.parametrize("number", REFUSALS)
async def test_what_can_not_be_reclaimed_is_named(straight: Tried, number: int) -> None:
    straight.actuators["resident"] = resident.actuator(straight.host)
    folder = f"/sys/fs/cgroup{straight.path}"
    straight.recorded.put(f"{folder}/memory.reclaim", "")
    straight.recorded.put(f"{folder}/memory.current", f"{200 << 20}\n")
    straight.recorded.put(f"{folder}/memory.stat", f"inactive_file {150 << 20}\nactive_file 0\nslab_reclaimable 0\n")
    straight.recorded.refuses["memory.reclaim"] = OSError(number, os.strerror(number))
    run = await straight.act("resident", straight.thing, size_bytes=100 << 20)
    assert run.state == "failed" and os.strerror(number) in straight.said(run, "run.failed")
    assert straight.ledger.live_runs() == ()
