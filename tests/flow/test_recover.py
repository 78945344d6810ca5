"""What a crash leaves behind, at every named point: finished, or put back. Real kills are in tests/crash."""

from __future__ import annotations

import json

import pytest

from stead.flow import runs
from stead.model.errors import SteadError
from tests.flow.bench import Bench, Killed
from tests.flow.kit import ANN, Dial, dial_step

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
    issued = [json.loads(one.leaf)["body"]["state"] for one in bench.ledger.entries(100, "run-1", ("receipt.issued",))]
    assert issued == ([final.state] if final.final and final.attempts else [])
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
    issued = [json.loads(one.leaf) for one in reversed(bench.ledger.entries(100, "run-1", ("receipt.issued",)))]
    assert [one["body"]["state"] for one in issued] == ["held", "undone"][: 1 + final.final]
    assert [one["body"]["supersedes"] for one in issued] == ["", issued[0]["id"]][: len(issued)]


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
    assert (moved.state, moved.undo_reason) == ("failed", "paused") and bench.dials.writes == []


async def test_recovery_never_stops_the_start(bench: Bench) -> None:
    run = await bench.given()
    bench.crash_at = "act.dial.forward.after_write"
    with pytest.raises(Killed):
        await bench.hands.run(run)
    bench.again()
    commit = bench.ledger.commit

    async def full(*_: object, **__: object) -> None:
        raise SteadError("the disk is full", code="ledger.full")

    bench.ledger.commit = full  # type: ignore[assignment,method-assign]
    assert await bench.hands.recover(bench.ledger.live_runs()) == []
    bench.ledger.commit = commit  # type: ignore[method-assign]
    assert (await bench.hands.run(run)).state == "verifying"


async def test_recovery_waits_for_what_is_still_under_way(bench: Bench) -> None:
    run = await bench.given(dial_step(repeat=False))
    bench.crash_at = "act.dial.forward.after_write"
    with pytest.raises(Killed):
        await bench.hands.run(run)
    bench.again()
    read, refusals = bench.dials.read, [1]

    async def busy(*arguments: object) -> object:
        if refusals.pop() if refusals else 0:
            raise SteadError("it is under way")
        return await read(*arguments)  # type: ignore[arg-type]

    bench.dials.read = busy  # type: ignore[assignment,method-assign]
    (moved,) = await bench.hands.recover(bench.ledger.live_runs())
    assert moved.state == "verifying" and not refusals


async def test_recovery_leaves_what_stays_unknown_to_a_person(bench: Bench) -> None:
    run = await bench.given(dial_step(repeat=False))
    bench.crash_at = "act.dial.forward.after_write"
    with pytest.raises(Killed):
        await bench.hands.run(run)
    bench.dials.unreadable.add("a")
    bench.again()
    (moved,) = await bench.hands.recover(bench.ledger.live_runs())
    assert moved.state == "undo_failed" and [receipt.outcome for receipt in moved.receipts] == ["unknown", "unknown"]
