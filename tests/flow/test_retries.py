"""What could not be put back for a passing reason is tried again by stead itself, less and less often, and said to be."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from stead.cli.changes import runs_lines
from stead.flow import runs
from stead.flow.retries import AT_ONCE, WAITS_S, Retries
from stead.ledger.stored import StoreSource
from stead.ledger.why import explain
from stead.model.change import Receipt, Run
from stead.model.errors import SteadError
from stead.model.observe import Now
from tests.flow.bench import Bench
from tests.flow.kit import ANN, NOW, Dial, decision, dial_step, proposal, stamp
from tests.flow.road import Lane, turn
from tests.flow.test_govern_limit import Host

ISSUED = ("receipt.issued",)
BUSY = OSError(errno.EBUSY, "Device or resource busy")


def failed(run_id: str = "run-1", undo: str = "exact", actuator: str = "dial", tries: int = 0) -> Run:
    """A run of which one step could not be put back."""
    steps = (dial_step(undo=undo, undo_reason="" if undo == "exact" else "one way", actuator=actuator),)
    receipts = (Receipt("a1", 0, "forward", "done", None, "", 0), Receipt("u1", 0, "undo", "failed", None, "busy", 0))
    made = msgspec.structs.replace(proposal(steps), id=run_id)
    return Run(run_id, made, "undo_failed", decision(), receipts=receipts, undo_tries=tries)


def at(seconds: float) -> Now:
    return Now(NOW.unix_ms, NOW.mono_ms + round(seconds * 1000))


@pytest.fixture
async def lane(tmp_path: Path) -> AsyncIterator[Lane]:
    """A road on which what was written is about to be put back, for it did not help."""
    made = Lane(tmp_path, turn(cooldown_s=100_000.0))
    made.show(2.0, 1.0)
    await made.tick(3)
    assert (made.states(), made.level()) == (["verifying"], 9)
    yield made
    made.ledger.close()


def test_the_waits_grow_and_stay_at_an_hour() -> None:
    retries, now_s, tried = Retries(), 0.0, list[float]()
    retries.note(failed())
    for _ in range(100_000):
        if retries.due(lambda run: False, at(now_s)):
            tried.append(now_s)
        now_s += 1
        if len(tried) == 6:
            break
    waits = [round(later - sooner) for sooner, later in zip([0.0, *tried], tried, strict=False)]
    assert [wait // 30 * 30 for wait in waits] == [30, 120, 600, 3600, 3600, 3600] and len(WAITS_S) == 4


def test_one_that_somebody_is_at_work_on_waits_and_only_a_few_are_tried_at_once() -> None:
    retries = Retries()
    for number in range(AT_ONCE + 2):
        retries.note(failed(f"run-{number}"))
    assert retries.due(lambda run: False, at(0)) == []
    assert retries.due(lambda run: True, at(60)) == []
    assert len(retries.due(lambda run: False, at(60))) == AT_ONCE
    assert len(retries.due(lambda run: False, at(61))) == 2


@pytest.mark.parametrize(
    "run",
    [
        failed(undo="none"),
        failed(tries=runs.TRIES_MAX),
        failed(actuator="autonomy"),
        msgspec.structs.replace(failed(), state="conflict"),
        msgspec.structs.replace(failed(), state="kept"),
    ],
    ids=["no way back", "tried for days", "autonomy", "conflict", "kept"],
)
def test_what_a_person_has_to_see_to_is_not_tried(run: Run) -> None:
    retries = Retries()
    retries.note(run)
    assert retries.due(lambda _: False, at(0)) == [] and retries.due(lambda _: False, at(100_000)) == []
    with pytest.raises(SteadError):
        runs.begin_undo(run, runs.AGAIN, stamp())


def test_a_step_that_another_hand_owns_is_not_tried_again_with_the_others() -> None:
    run = failed()
    steps = (*run.proposal.steps, dial_step("b"))
    mixed = (Receipt("a2", 1, "forward", "done", None, "", 0), Receipt("u2", 1, "undo", "conflict", None, "", 0))
    run = msgspec.structs.replace(
        run, proposal=msgspec.structs.replace(run.proposal, steps=steps), receipts=(*run.receipts, *mixed)
    )
    assert runs.may_try_again(run) and runs.to_undo(run) == [0]


async def test_a_passing_refusal_is_tried_again_by_itself_until_it_is_put_back(lane: Lane) -> None:
    lane.dials.faults["a"] = [BUSY, BUSY]
    await lane.tick(13)
    assert (lane.states(), lane.level()) == (["undo_failed"], 9)
    (run,) = lane.runs()
    assert run.undo_reason == "no_help" and "stead tries it again by itself" in run.reason
    await lane.tick(30)
    (run,) = lane.runs()
    assert (run.state, run.undo_tries, lane.level()) == ("undo_failed", 1, 9)
    assert "as it has 1 time so far" in run.reason and lane.dials.faults["a"] == []
    await lane.tick(100)
    assert (lane.states(), lane.level()) == (["undo_failed"], 9), "the second wait is two minutes"
    await lane.tick(30)
    (run,) = lane.runs()
    assert (run.state, run.undo_reason, run.undo_tries, lane.level()) == ("undone", "no_help", 2, 1)
    writes = len(lane.dials.writes)
    await lane.tick(700)
    assert len(lane.dials.writes) == writes, "once it is back nothing more is tried"
    assert [one.state for one in lane.road.recent if one.id == run.id] == ["undone"]


async def test_after_a_restart_between_two_tries_it_goes_on(lane: Lane) -> None:
    lane.dials.faults["a"] = [BUSY, BUSY]
    await lane.tick(13 + 31)
    assert [run.undo_tries for run in lane.runs()] == [1]
    await lane.again()
    await lane.tick(33)
    (run,) = lane.runs()
    assert (run.state, run.undo_tries, lane.level()) == ("undone", 2, 1), "it begins with the first wait anew"


async def test_killed_in_a_try_it_is_finished_by_the_next_start(lane: Lane) -> None:
    lane.dials.faults["a"] = [BUSY, BUSY]
    await lane.tick(13)
    (run,) = lane.runs()
    moved, entries = runs.begin_undo(run, runs.AGAIN, lane.hands.writer.stamp())
    await lane.ledger.commit(entries, runs=[moved])
    await lane.again()
    assert (lane.states(), lane.level()) == (["undo_failed"], 9)
    await lane.tick(33)
    assert (lane.states(), lane.level()) == (["undone"], 1)


async def test_another_hand_that_came_in_between_is_left_alone_for_good(lane: Lane) -> None:
    lane.dials.faults["a"] = [BUSY]
    await lane.tick(13)
    lane.dials.dials["a"] = Dial(5)
    await lane.tick(32)
    assert (lane.states(), lane.level()) == (["conflict"], 5)
    await lane.tick(200)
    assert (lane.states(), lane.level()) == (["conflict"], 5)


async def test_a_person_is_not_in_its_way_nor_it_in_theirs(lane: Lane) -> None:
    lane.dials.faults["a"] = [BUSY, BUSY]
    await lane.tick(13)
    run = await lane.orders.undo(lane.runs()[0].id, ANN)
    assert (run.state, run.undo_reason, run.undo_tries) == ("undo_failed", "person", 0)
    await lane.tick(33)
    (run,) = lane.runs()
    assert (run.state, run.undo_reason, lane.level()) == ("undone", "person", 1)


async def test_while_another_run_holds_the_value_it_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run = await bench.hands.run(await bench.given())
    bench.dials.faults["a"] = [BUSY]
    run = await bench.hands.undo(run, "lease")
    other = await bench.hands.run(await bench.given(dial_step(before=9, want=20), id="run-2"))
    assert (run.state, other.state) == ("undo_failed", "verifying")
    assert await bench.hands.undo(run, runs.AGAIN) == run and bench.dials.dials["a"].level == 20
    await bench.hands.undo(other, "lease")
    assert (await bench.hands.undo(run, runs.AGAIN)).state == "undone" and bench.dials.dials["a"].level == 1
    bench.ledger.close()


async def test_what_it_keeps_and_says_is_bounded_however_often_it_is_tried(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run = await bench.hands.run(await bench.given())
    bench.dials.faults["a"] = [BUSY] * (runs.TRIES_MAX + 1)
    run = await bench.hands.undo(run, "lease")
    receipts, sizes = bench.ledger.count(run.id, ISSUED), set[tuple[int, int]]()
    for number in range(1, runs.TRIES_MAX + 1):
        run = await bench.hands.undo(run, runs.AGAIN)
        assert (run.state, run.undo_tries, run.undo_reason) == ("undo_failed", number, "lease")
        sizes.add((len(run.attempts), len(run.receipts)))
    assert max(sizes) == (1 + runs.UNDOS_KEPT + 1, 1 + runs.UNDOS_KEPT + 1)
    assert bench.ledger.count(run.id, ISSUED) == receipts, "one for the first failure; the next when it ends"
    assert not runs.may_try_again(run) and "needs a person" in run.reason
    assert await bench.hands.undo(run, runs.AGAIN) == run, "it is not tried once more"
    bench.dials.faults["a"] = []
    explained = explain(run.id, StoreSource(bench.ledger))
    tries = [link.words for link in explained.chain if "tried again" in link.words]
    assert tries == [f"is being put back: tried again ({runs.TRIES_MAX})"] and "needs a person" in explained.summary
    run = await bench.hands.undo(run, "person")
    assert run.state == "undone" and bench.ledger.count(run.id, ISSUED) == receipts + 1
    bench.ledger.close()


def test_people_are_told_in_the_list_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (_, line) = runs_lines([msgspec.structs.replace(failed(), reason="busy; stead tries it again by itself")], NOW.unix_ms)
    assert "stead tries it again by itself" in line


@pytest.mark.parametrize("systemd", [0, 252])
async def test_a_limit_that_the_kernel_was_too_busy_for(tmp_path: Path, systemd: int) -> None:
    one = Host(tmp_path, systemd)
    before, run = one.files(), await one.begun("cpu_max_percent")
    units = dict(one.host.units)
    one.host.refuses["cpu.max"] = BUSY
    one.host.units.clear()  # systemctl fails; without systemd the kernel refuses
    run = await one.hands.undo(run, "lease")
    assert run.state == "undo_failed", run.reason
    one.again()
    run = await one.hands.undo(run, runs.AGAIN)
    assert (run.state, run.undo_tries) == ("undo_failed", 1) and one.files() != before
    one.host.refuses.clear()
    one.host.units.update(units)
    one.again()
    run = await one.hands.undo(run, runs.AGAIN)
    assert run.state == "undone" and one.files() == before
    one.ledger.close()
