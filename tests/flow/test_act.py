from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.agent.ledger_store import LedgerStore
from stead.flow import runs
from stead.flow.act import Hands
from stead.model.change import Run, Step, Target, Verdict
from stead.model.errors import SteadError
from stead.model.messages import Event
from stead.model.policy import Policy
from stead.testing import FakeClock, FakeHost
from tests.flow.kit import ANN, BOB, Dial, Dials, approval, counter, decision, dial_step, proposal


class Heard:
    """A bus that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def wants(self, topic: str) -> bool:
        return True

    def publish(self, event: Event) -> None:
        self.events.append(event)


class Killed(BaseException):
    """Stands for a crash at a mark, where a real kill would be too slow; tests/crash does the real ones."""


class Bench:
    """Hands on dials, with a real ledger."""

    def __init__(self, tmp_path: Path) -> None:
        self.path, self.clock, self.bus = tmp_path / "ledger.db", FakeClock(), Heard()
        self.dials = Dials(a=Dial(1, "red"), b=Dial(2), c=Dial(3))
        self.host, self.paused, self.crash_at = FakeHost(tmp_path, name="host1"), False, ""
        self.marks: list[str] = []
        self.new_id = counter("i")
        self.open()

    def open(self) -> None:
        self.ledger = LedgerStore.open(self.path, "host1", self.clock)
        self.hands = Hands(
            self.host,
            {"dial": self.dials},
            self.ledger,
            self.bus,
            self.clock,
            Policy(),
            self._paused,
            mark=self._mark,
            new_id=self.new_id,
        )

    def _paused(self) -> bool:
        return self.paused

    def _mark(self, name: str) -> None:
        self.marks.append(name)
        if name == self.crash_at:
            self.crash_at = ""
            raise Killed(name)

    def again(self) -> None:
        """As after a kill: the durable state, and nothing else."""
        self.ledger.close()
        self.open()

    async def given(self, *steps: Step, answer: str = "allow", **more: Any) -> Run:
        asked = {"approvals_needed": 1} if answer == "ask" else {}
        run, entries = runs.start(proposal(steps, **more), decision(answer, **asked), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return run

    async def verdict(self, run: Run, result: str) -> Run:
        run, entries = runs.verified(run, Verdict(result, "because"), self.hands.writer.stamp())  # type: ignore[arg-type]
        await self.ledger.commit(entries, runs=[run])
        return run

    def types(self) -> list[str]:
        return [entry.type for entry in reversed(self.ledger.entries(100))]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.ledger.close()


def outcomes(run: Run, way: str = "forward") -> list[str]:
    return [receipt.outcome for receipt in run.receipts if receipt.direction == way]


async def test_forward_and_back(bench: Bench) -> None:
    run = await bench.hands.run(await bench.given(dial_step(lease_s=60.0)))
    assert run.state == "verifying" and bench.dials.dials["a"] == Dial(9, "red")
    assert outcomes(run) == ["done"] and run.receipts[0].after == {"level": 9, "colour": "red"}
    assert bench.ledger.live_runs() == (run,)
    run = await bench.verdict(run, "helped")
    bench.paused = True  # stops forward writes only
    run = await bench.hands.undo(run, "person", ANN)
    assert run.state == "undone" and bench.dials.dials["a"] == Dial(1, "red")
    assert bench.ledger.live_runs() == () and bench.ledger.run(run.id) == run
    assert bench.types() == [
        *("proposal.made", "decision.made", "run.approved", "run.acting", "attempt.made", "receipt.made", "run.verifying"),
        *("verdict.made", "run.held", "run.undoing", "attempt.made", "receipt.made", "run.undone"),
    ]
    assert [event.type for event in bench.bus.events] == ["run.acting", "run.verifying", "run.undoing", "run.undone"]
    assert next(event for event in bench.bus.events if event.type == "run.undoing").by == ANN


async def test_the_attempt_is_durable_before_the_write(bench: Bench) -> None:
    seen: list[list[str]] = []
    write = bench.dials.write

    async def watching(*arguments: Any) -> None:
        seen.append(bench.types())
        await write(*arguments)

    bench.dials.write = watching  # type: ignore[method-assign]
    await bench.hands.run(await bench.given())
    assert seen[0][-1] == "attempt.made"


async def test_nothing_is_written_when_the_ledger_can_not_take_it(bench: Bench) -> None:
    run = await bench.given()

    async def full(*_: Any, **__: Any) -> Sequence[Any]:
        raise SteadError("the disk is full", code="ledger.full")

    bench.ledger.commit = full  # type: ignore[method-assign]
    with pytest.raises(SteadError, match="full"):
        await bench.hands.run(run)
    assert bench.dials.writes == []


async def test_already_so_is_neither_written_nor_put_back(bench: Bench) -> None:
    run = await bench.hands.run(await bench.given(dial_step(want=1, before=0)))
    assert outcomes(run) == ["already"] and bench.dials.writes == []
    run = await bench.hands.undo(await bench.verdict(run, "helped"), "person", ANN)
    assert run.state == "undone" and bench.dials.writes == []


async def test_a_successor_is_never_written(bench: Bench) -> None:
    run = await bench.given()
    bench.dials.lives["a"] = "2"
    run = await bench.hands.run(run)
    assert run.state == "moot" and bench.dials.writes == []


async def test_a_target_that_ends_while_held_is_moot(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=1.0))), "helped")
    bench.dials.lives["a"] = "2"
    run = await bench.hands.undo(run, "lease")
    assert run.state == "moot" and len(bench.dials.writes) == 1


async def test_drift_between_plan_and_act_needs_a_new_plan(bench: Bench) -> None:
    run = await bench.given(dial_step("b", before=2), dial_step("a"))
    bench.dials.dials["a"] = Dial(5, "red")
    run = await bench.hands.run(run)
    assert run.state == "refused" and "stale" in run.reason and bench.dials.writes == []


async def test_a_plan_that_is_not_the_hashed_one_is_refused(bench: Bench) -> None:
    run = await bench.hands.run(await bench.given(plan_hash="another"))
    assert run.state == "refused" and bench.dials.writes == []


async def test_an_approval_is_used_up_by_the_first_attempt_and_only_once(bench: Bench) -> None:
    run = await bench.given(answer="ask")
    yes = approval(run=run)
    run, entries = runs.approve(run, yes, Policy(), bench.hands.writer.stamp())
    await bench.ledger.commit(entries, runs=[run], approvals=[yes])
    twin = msgspec.structs.replace(run, id="twin")
    assert (await bench.hands.run(run)).state == "verifying"
    assert bench.ledger.approvals("run-1")[0].used_ms == bench.clock.unix_ms
    bench.dials.dials["a"] = Dial(1, "red")
    bench.hands.ledger.live_runs = lambda: ()  # type: ignore[method-assign]
    refused = await bench.hands.run(twin)
    assert refused.state == "refused" and "used already" in refused.reason
    assert len(bench.dials.writes) == 1


async def test_an_approval_that_is_nowhere_on_record_counts_for_nothing(bench: Bench) -> None:
    run = await bench.given(answer="ask")
    run, _ = runs.approve(run, approval(BOB, run=run), Policy(), bench.hands.writer.stamp())
    bench.ledger._live.clear()
    run = await bench.hands.run(run)
    assert run.state == "refused" and "not on record" in run.reason and bench.dials.writes == []


async def test_what_waited_too_long_expires_instead(bench: Bench) -> None:
    run = await bench.given()
    bench.clock.advance(3_600_000)
    assert (await bench.hands.run(run)).state == "expired"


async def test_pause_keeps_a_run_approved(bench: Bench) -> None:
    run = await bench.given()
    bench.paused = True
    assert (await bench.hands.run(run)).state == "approved"
    bench.paused = False
    assert (await bench.hands.run(run)).state == "verifying"


async def test_pause_between_attempt_and_write_stops_the_write(bench: Bench) -> None:
    def pausing(name: str) -> None:
        bench.paused = bench.paused or name.endswith("after_attempt")

    bench.hands.writer.mark = pausing
    run = await bench.hands.run(await bench.given())
    assert run.state == "failed" and "paused" in run.reason and bench.dials.writes == []


async def test_a_failed_step_undoes_the_finished_ones_in_reverse(bench: Bench) -> None:
    bench.dials.faults["c"] = [OSError(1, "refused")]
    run = await bench.hands.run(await bench.given(dial_step("a"), dial_step("b", before=2), dial_step("c", before=3)))
    assert run.state == "failed" and "refused" in run.reason
    assert [name for name, _ in bench.dials.writes] == ["a", "b", "c", "b", "a"]
    assert [bench.dials.dials[name].level for name in "abc"] == [1, 2, 3]


async def test_a_half_written_value_is_put_back(bench: Bench) -> None:
    step = msgspec.structs.replace(dial_step(), before={"level": 1, "colour": "red"}, want={"level": 9, "colour": "blue"})
    bench.dials.half.add("a")
    run = await bench.given(step)

    async def heal(name: str) -> None:
        bench.dials.half.discard("a")

    bench.hands.writer.mark = lambda name: bench.dials.half.discard("a") if "undo" in name else None
    run = await bench.hands.run(run)
    assert run.state == "failed" and bench.dials.dials["a"] == Dial(1, "red")


async def test_a_timeout_is_an_unknown_outcome_that_is_read(bench: Bench) -> None:
    bench.dials.faults["a"] = [5.0]  # it writes, then hangs
    run = await bench.hands.run(await bench.given())
    assert run.state == "verifying" and outcomes(run) == ["done"] and "took longer" in run.receipts[0].error


async def test_what_can_not_be_read_back_is_unknown_and_needs_a_person(bench: Bench) -> None:
    bench.hands.writer.mark = lambda name: bench.dials.unreadable.add("a") if name.endswith("after_write") else None
    run = await bench.hands.run(await bench.given())
    assert run.state == "undo_failed" and outcomes(run) == ["unknown"]


async def test_another_hand_is_never_fought(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=1.0))), "helped")
    bench.dials.dials["a"] = Dial(5, "red")
    run = await bench.hands.undo(run, "lease")
    assert run.state == "conflict" and bench.dials.dials["a"].level == 5
    assert bench.types().count("conflict.seen") == 1


async def test_another_lever_of_the_same_thing_is_no_conflict(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=1.0))), "helped")
    bench.dials.dials["a"] = Dial(9, "green")
    run = await bench.hands.undo(run, "lease")
    assert run.state == "undone" and bench.dials.dials["a"] == Dial(1, "green")


async def test_two_runs_never_hold_one_setting(bench: Bench) -> None:
    await bench.hands.run(await bench.given(dial_step(lease_s=60.0)))
    second = await bench.hands.run(await bench.given(dial_step(before=9, want=12), id="run-2"))
    assert second.state == "refused" and "run-1 holds" in second.reason


async def test_cancel_takes_effect_between_steps(bench: Bench) -> None:
    def cancelling(name: str) -> None:
        bench.hands.cancel("run-1")

    bench.hands.writer.mark = cancelling
    run = await bench.hands.run(await bench.given(dial_step("a"), dial_step("b", before=2)))
    assert run.state == "cancelled" and [name for name, _ in bench.dials.writes] == ["a", "a"]
    assert bench.dials.dials["a"].level == 1


async def test_one_lock_for_each_target(bench: Bench) -> None:
    bench.dials.faults["a"] = [0.05]
    first, second = await bench.given(), await bench.given(id="run-2")
    done = await asyncio.gather(bench.hands.run(first), bench.hands.run(second))
    assert sorted(run.state for run in done) == ["refused", "verifying"] and len(bench.dials.writes) == 1
    assert bench.hands._locks == {}


async def test_leases_that_ended_are_put_back(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    assert await bench.hands.expire_leases([run], bench.clock.advance(59_999)) == []
    moved = await bench.hands.expire_leases([run], bench.clock.advance(1))
    assert [one.state for one in moved] == ["undone"] and bench.dials.dials["a"].level == 1


async def test_does_it_hold(bench: Bench) -> None:
    run = await bench.hands.run(await bench.given(dial_step("a"), dial_step("b", before=2), dial_step("c", before=3)))
    bench.dials.dials["b"] = Dial(4)
    bench.dials.unreadable.add("c")
    assert await bench.hands.met(run) == [True, False, None]


async def test_own_autonomy_moves_while_paused(bench: Bench) -> None:
    class Autonomy(Dials):
        name = "autonomy"

    bench.hands.writer.actuators = {"autonomy": Autonomy(a=Dial(1))}
    bench.paused = True
    run = await bench.given(dial_step(actuator="autonomy"), lowers=True)
    assert (await bench.hands.run(run)).state == "verifying"
    by_policy = await bench.given(dial_step(actuator="autonomy", before=9, want=12), id="run-2")
    assert (await bench.hands.run(by_policy)).state == "approved"


POINTS = ("before_attempt", "after_attempt", "before_write", "after_write", "after_read", "after_receipt")


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("hit", range(2))
@pytest.mark.parametrize("point", POINTS)
async def test_recovery_finishes_or_undoes_at_every_point(bench: Bench, point: str, hit: int, repeat: bool) -> None:
    steps = (dial_step("a", repeat=repeat, lease_s=600.0), dial_step("b", before=2, repeat=repeat, lease_s=600.0))
    run = await bench.given(*steps)
    name, left = f"act.dial.forward.{point}", [hit]

    def mark(here: str) -> None:
        if here == name:
            left[0] -= 1
            if left[0] == -1:
                raise Killed

    bench.hands.writer.mark = mark
    with pytest.raises(Killed):
        await bench.hands.run(run)
    bench.again()
    writes_before = [name for name, _ in bench.dials.writes]
    for moved in await bench.hands.recover(bench.ledger.live_runs()):
        assert moved.state in ("verifying", "failed")
    final = bench.ledger.run("run-1")
    assert final is not None and runs.unsettled(final) is None
    levels = [bench.dials.dials[name].level for name in "ab"]
    expected = {"approved": [1, 2], "verifying": [9, 9], "failed": [1, 2]}
    assert levels == expected[final.state]
    if not repeat:
        again = [name for name, want in bench.dials.writes[len(writes_before) :] if want == Dial(9)]
        assert not set(again) & set(writes_before), "what must not be repeated was"


@pytest.mark.parametrize("hit", range(2))
@pytest.mark.parametrize("point", POINTS)
async def test_recovery_completes_an_undo_at_every_point(bench: Bench, point: str, hit: int) -> None:
    steps = (dial_step("a", lease_s=600.0), dial_step("b", before=2, lease_s=600.0))
    run = await bench.verdict(await bench.hands.run(await bench.given(*steps)), "helped")
    name, left = f"act.dial.undo.{point}", [hit]

    def mark(here: str) -> None:
        if here == name:
            left[0] -= 1
            if left[0] == -1:
                raise Killed

    bench.hands.writer.mark = mark
    with pytest.raises(Killed):
        await bench.hands.undo(run, "person", ANN)
    bench.again()
    await bench.hands.recover(bench.ledger.live_runs())
    final = bench.ledger.run("run-1")
    assert final is not None
    levels = [bench.dials.dials[name].level for name in "ab"]
    assert (final.state, levels) in (("undone", [1, 2]), ("held", [9, 9]))
    assert final.state == "undone" or (point, hit) == ("before_attempt", 0), "only an undo that left no trace is not completed"


async def test_recovery_leaves_another_hands_value(bench: Bench) -> None:
    run = await bench.given()
    bench.crash_at = "act.dial.forward.after_write"
    with pytest.raises(Killed):
        await bench.hands.run(run)
    bench.dials.dials["a"] = Dial(5, "red")
    bench.again()
    (moved,) = await bench.hands.recover(bench.ledger.live_runs())
    assert moved.state == "conflict" and bench.dials.dials["a"].level == 5


async def test_recovery_ends_what_is_gone_and_what_is_overdue(bench: Bench) -> None:
    held = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    gone = await bench.hands.run(await bench.given(dial_step("b", before=2, lease_s=600.0), id="run-2"))
    bench.dials.lives["b"] = "2"
    bench.clock.advance(61_000)
    bench.again()
    moved = {run.id: run.state for run in await bench.hands.recover(bench.ledger.live_runs())}
    assert moved == {held.id: "undone", gone.id: "moot"}
    assert await bench.hands.recover(bench.ledger.live_runs()) == []


async def test_recovery_does_not_write_forward_while_paused(bench: Bench) -> None:
    run = await bench.given()
    bench.crash_at = "act.dial.forward.before_write"
    with pytest.raises(Killed):
        await bench.hands.run(run)
    bench.paused = True
    bench.again()
    (moved,) = await bench.hands.recover(bench.ledger.live_runs())
    assert moved.state == "cancelled" and bench.dials.writes == []


async def test_an_actuator_that_is_not_there_any_more(bench: Bench) -> None:
    run = await bench.given(Step("lost", Target("dial", "a"), {"level": 1}, {"level": 2}, "exact"))
    run = await bench.hands.run(run)
    assert run.state == "refused" and "no actuator lost" in run.reason
