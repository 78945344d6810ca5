from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from stead.flow import runs
from stead.model.change import Run, Step, Target
from stead.model.errors import SteadError
from stead.model.policy import Policy
from tests.flow.bench import Bench
from tests.flow.kit import ANN, BOB, Dial, Dials, approval, dial_step


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
        *("proposal.made", "metrics.action_recommended", "decision.made", "run.approved", "run.acting"),
        *("attempt.made", "receipt.made", "run.verifying", "verdict.made", "run.held", "receipt.issued"),
        *("run.undoing", "attempt.made", "receipt.made", "run.undone", "receipt.issued"),
    ]
    assert [event.type for event in bench.bus.events] == [
        *("run.acting", "run.verifying", "run.held", "receipt.issued", "run.undoing", "run.undone", "receipt.issued"),
    ]
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


async def test_an_undo_that_failed_can_be_asked_for_again(bench: Bench) -> None:
    run = await bench.hands.run(await bench.given(dial_step("a"), dial_step("b", before=2)))
    was, bench.dials.unreadable = bench.dials.dials["b"], {"a"}
    run = await bench.hands.undo(run, "lease")
    assert run.state == "undo_failed" and bench.dials.dials["b"] != was
    with pytest.raises(SteadError, match="can't be undone"):
        await bench.hands.undo(run, "lease")
    bench.dials.unreadable = set()
    bench.again()
    run = await bench.hands.undo(run, "person")
    assert run.state == "undone" and bench.dials.dials["a"] == Dial(1, "red"), run.reason
    assert [receipt.step for receipt in run.receipts if receipt.direction == "undo"] == [1, 0, 0], "what is back is left alone"


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


async def test_an_actuator_that_is_not_there_any_more(bench: Bench) -> None:
    run = await bench.given(Step("lost", Target("dial", "a"), {"level": 1}, {"level": 2}, "exact"))
    run = await bench.hands.run(run)
    assert run.state == "refused" and "no actuator lost" in run.reason


async def test_renewing_a_lease_looks_whether_it_is_still_ours(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    until = bench.clock.unix_ms + 120_000
    renewed = await bench.hands.renew(run, until)
    assert (renewed.state, renewed.lease_until_ms) == ("held", until)
    bench.dials.dials["a"] = Dial(5, "red")
    assert (await bench.hands.renew(renewed, until)).state == "conflict" and bench.dials.dials["a"].level == 5


async def test_renewing_what_is_gone(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    bench.dials.lives["a"] = "2"
    assert (await bench.hands.renew(run, bench.clock.unix_ms)).state == "moot"


@pytest.mark.parametrize("commits", range(4))
async def test_when_the_ledger_fails_in_the_middle_a_later_call_goes_on(bench: Bench, commits: int) -> None:
    run = await bench.given(dial_step("a", lease_s=60.0), dial_step("b", before=2, lease_s=60.0))
    commit, left = bench.ledger.commit, [commits]

    async def failing(*given: Any, **more: Any) -> Sequence[Any]:
        left[0] -= 1
        if left[0] == -1:
            raise SteadError("the disk is full", code="ledger.full")
        return await commit(*given, **more)

    bench.ledger.commit = failing  # type: ignore[method-assign]
    with contextlib.suppress(SteadError):
        await bench.hands.run(run)
    run = await bench.hands.run(run)
    assert run.state == "verifying" and [bench.dials.dials[name].level for name in "ab"] == [9, 9]


async def test_who_waited_for_the_lock_sees_that_it_is_over(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    first, second = await asyncio.gather(
        bench.hands.undo(run, "lease"), bench.hands.undo(run, "person", ANN), return_exceptions=True
    )
    assert isinstance(first, Run) and first.state == "undone"
    assert isinstance(second, SteadError) and "undone can't be undone" in str(second)
    assert await bench.hands.run(run) == first and len(bench.dials.writes) == 2


async def test_an_actuator_that_can_not_judge_is_not_let_write(bench: Bench) -> None:
    def broken(*_: Any) -> bool:
        raise ZeroDivisionError

    bench.dials.met = broken  # type: ignore[method-assign]
    run = await bench.hands.run(await bench.given())
    assert run.state == "refused" and bench.dials.writes == []


async def test_a_write_that_raises_anything_is_a_receipt(bench: Bench) -> None:
    bench.dials.faults["a"] = [ZeroDivisionError("in the plugin")]
    run = await bench.hands.run(await bench.given())
    assert run.state == "failed" and "in the plugin" in run.receipts[0].error


async def test_what_failed_before_it_changed_anything_is_no_failed_undo(bench: Bench) -> None:
    bench.dials.faults["a"] = [PermissionError(1, "not permitted")]
    run = await bench.hands.run(await bench.given(dial_step(undo="none", undo_reason="one way")))
    assert run.state == "failed" and bench.dials.dials["a"].level == 1


async def test_a_done_step_without_undo_needs_a_person_when_the_next_one_fails(bench: Bench) -> None:
    bench.dials.faults["b"] = [OSError(5, "broken")]
    run = await bench.hands.run(await bench.given(dial_step(undo="none", undo_reason="one way"), dial_step("b", before=2)))
    assert run.state == "undo_failed" and "one way" in run.reason and bench.dials.dials["a"].level == 9
