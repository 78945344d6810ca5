"""A governed value on the whole road: moved within its range, yielded, paused, restarted, put back; what is recorded of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.agent.explain import with_limits
from stead.flow.adjust import Choice
from stead.flow.govern_state import TOLD_MS
from stead.flow.record import plan_hash
from stead.ledger.stored import StoreSource
from stead.ledger.why import explain
from stead.model.catalog import GovernTemplate, PlaybookDefinition, Predict, SettingTemplate, Verify
from stead.model.change import Govern, Governed, Run, Step, Target
from stead.model.errors import SteadError
from stead.model.policy import Autonomy
from stead.stats.series import Series
from tests.flow.bench import Killed
from tests.flow.kit import ANN, Dial, dial_step
from tests.flow.road import DELAY, LOAD, Lane

ROOM = 40  # of the dial: above it others suffer
POINTS = ("before_write", "after_write", "after_read")
Lay = Callable[..., Lane]


def governed(name: str = "govern", lease_s: float = 60.0, **more: Any) -> PlaybookDefinition:
    """A playbook that turns a dial of 100 to 60, and then moves it between 10 and 90 by what others suffer."""
    rule = GovernTemplate(
        "level",
        DELAY,
        level=1.0,
        low=10,
        high=90,
        subject="subject",
        interval_s=5.0,
        tighten=0.2,
        loosen=0.5,
        hold_off_s=10.0,
        hold_off_max_s=40.0,
    )
    setting = SettingTemplate("dial", {"level": 60}, lease_s=lease_s, govern=rule)
    fields: dict[str, Any] = dict(
        risk="low",
        tier=1,
        answers=(LOAD,),
        settings=(setting,),
        predict=Predict(DELAY, "down", 0.3, within_s=5.0, meaningful=0.5),
        verify=Verify(window_s=20.0, good_readings=1),
        cooldown_s=20.0,
    )
    return PlaybookDefinition(name, **{**fields, **more})


@pytest.fixture
async def lay(tmp_path: Path) -> AsyncIterator[Lay]:
    lanes: list[Lane] = []

    def make(*playbooks: PlaybookDefinition) -> Lane:
        lane = Lane(tmp_path, *(playbooks or (governed(),)))
        lane.dials.dials["a"] = Dial(100)
        lanes.append(lane)
        return lane

    yield make
    for lane in lanes:
        lane.ledger.close()


def suffer(lane: Lane, load: float = 2.0) -> None:
    """Others suffer by how far the dial is turned up beyond what leaves them room."""
    level = lane.level() or 0
    lane.show(load, 0.2 + max(0, level - ROOM) / 10)


async def live(lane: Lane, seconds: int, load: float = 2.0) -> None:
    """Let time pass with a plant that answers to the dial."""
    for _ in range(seconds):
        suffer(lane, load)
        await lane.tick()


def stands(lane: Lane) -> Governed:
    """Where the value stands, as the road shows it."""
    (run,) = (run for run in lane.road.runs.values() if run.proposal.playbook == "govern")
    return run.governed[0]


def told(lane: Lane, run: Run) -> list[dict[str, Any]]:
    """What the ledger has of a run's moves, oldest first."""
    entries = lane.ledger.entries(1000, run.id, ("run.adjusted",))
    return [msgspec.json.decode(one.leaf)["body"]["moved"][0] for one in sorted(entries, key=lambda one: one.seq)]


def conflicts(lane: Lane) -> int:
    return len([one for one in lane.ledger.entries(1000, "", ("conflict.seen",))])


async def test_it_is_moved_to_where_others_have_room_and_rests_there(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 120)
    assert lane.states("govern") == ["held"]
    assert ROOM - 10 <= (lane.level() or 0) <= ROOM + 10
    shown = stands(lane)
    assert (shown.field, shown.value) == ("level", lane.level()) and shown.moves >= 1
    assert shown.least <= shown.value <= shown.most == 60
    assert DELAY in shown.reason and shown.reading is not None
    writes = len(lane.dials.writes)
    await live(lane, 600)
    assert len(lane.dials.writes) - writes <= 40, "it moves less and less"


async def test_no_move_has_an_entry_of_its_own_and_an_hour_has_a_dozen(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 40)
    for second in range(3600):
        suffer(lane)
        lane.gauge.values[DELAY, "workload:a"] = 3.0 if second % 60 < 15 else 0.1  # as restless as can be
        await lane.tick()
    (run,) = lane.runs("govern")
    entries = told(lane, run)
    assert 2 <= len(entries) <= 3600 * 1000 / TOLD_MS + 1
    assert entries[-1]["count"] > 3 * len(entries)
    assert {"count", "field", "high", "last", "low", "metric", "range", "reading", "reason"} <= set(entries[0])


async def test_its_undo_puts_back_what_was_and_says_where_it_had_been(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 60)
    (run,) = lane.runs("govern")
    await lane.orders.undo(run.id, ANN)
    (run,) = lane.runs("govern")
    assert (run.state, lane.level()) == ("undone", 100)
    (entry,) = told(lane, run)
    assert entry["count"] == run.governed[0].moves > 0 and float(entry["range"]["low"]) == 10


async def test_when_everything_is_quiet_it_is_loosened_to_the_end_and_its_lease_lapses(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 60)
    (run,) = lane.runs("govern")
    for _ in range(240):
        lane.show(0.1, 0.0)
        await lane.tick()
    (run,) = lane.runs("govern")
    assert (run.state, run.undo_reason, lane.level()) == ("undone", "lease", 100)
    assert run.governed[0].most == 90


async def test_while_it_limits_something_its_lease_goes_on_though_its_finding_has_cleared(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 60)
    await live(lane, 300, load=0.1)  # the finding clears because of it: the load is no more than it should be
    assert lane.road.findings == {}
    assert lane.states("govern") == ["held"], "without it others would suffer again"
    assert (lane.level() or 0) < 60


async def test_what_it_does_not_know_only_loosens(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 60)
    before = lane.level() or 0
    lane.show(2.0, None)
    await lane.tick(40)
    assert before < (lane.level() or 0) == 90 and "not known" in stands(lane).reason


@pytest.mark.parametrize("how", ["pause", "mode"])
async def test_a_pause_or_a_mode_below_act_stops_it_where_it_is(lay: Lay, how: str) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 20)
    if how == "pause":
        await lane.orders.pause("hands off", ANN)
    else:
        lane.kept.write(Autonomy("advise", {"host": 1}))
    level, writes = lane.level(), len(lane.dials.writes)
    await live(lane, 30)
    assert (lane.level(), len(lane.dials.writes)) == (level, writes)
    await live(lane, 60)
    assert (lane.states("govern")[0], lane.level()) == ("undone", 100), "its lease was not renewed"


@pytest.mark.parametrize("value", [77, 100, 3, None])
async def test_another_hand_is_yielded_to_once(lay: Lay, value: int | None) -> None:
    """Also within the range: a living process knows what it left."""
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 60)
    lane.dials.dials["a"] = Dial(value)
    writes = len(lane.dials.writes)
    for _ in range(200):
        lane.show(2.0, 3.0)
        await lane.tick()
    run = lane.runs("govern")[0]
    if value == 100:
        assert run.state == "undone", "it was put back by another"
    else:
        assert (run.state, conflicts(lane)) == ("conflict", 1)
        assert (lane.level(), len(lane.dials.writes)) == (value, writes)
    assert len(told(lane, run)) == 1


async def test_after_a_kill_any_value_in_its_range_is_its_own_and_it_goes_on(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 40)
    level = lane.level()
    await lane.again()
    await live(lane, 10)
    assert lane.states("govern") == ["held"] and conflicts(lane) == 0
    await live(lane, 60)
    assert abs((lane.level() or 0) - (level or 0)) <= 15 and stands(lane).moves > 0
    (run,) = lane.runs("govern")
    await lane.orders.undo(run.id, ANN)
    assert (lane.states("govern"), lane.level()) == (["undone"], 100)


async def test_what_its_law_learned_outlives_a_restart(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 120)
    before = stands(lane)
    await lane.road.stop(lane.clock.now())
    await lane.again()
    await live(lane, 10)
    after = stands(lane)
    assert after.edge and (after.edge, after.hold_off_s) == (before.edge, before.hold_off_s) and after.value <= after.edge


@pytest.mark.parametrize("value", [3, 97])
async def test_after_a_kill_a_value_outside_its_range_is_anothers(lay: Lay, value: int) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 40)
    lane.dials.dials["a"] = Dial(value)
    await lane.again()
    await live(lane, 30)
    assert (lane.states("govern"), lane.level(), conflicts(lane)) == (["conflict"], value, 1)


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_at_any_point_of_a_move_leaves_what_can_be_put_back(lay: Lay, point: str) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 5)

    def crash(name: str) -> None:
        if name == f"act.dial.adjust.{point}":
            raise Killed

    lane.hands.writer.mark = crash
    with pytest.raises(Killed):
        await move(lane, 50)
    assert lane.level() == (60 if point == "before_write" else 50)
    await lane.again()
    await live(lane, 2)
    assert lane.states("govern") == ["verifying"] and conflicts(lane) == 0
    (run,) = lane.runs("govern")
    await lane.orders.undo(run.id, ANN)
    assert (lane.states("govern"), lane.level()) == (["undone"], 100)


async def move(lane: Lane, value: float) -> Run:
    """Move the value by hand, as a law would."""
    (run,) = lane.runs("govern")
    return await lane.hands.adjust(run, 0, lambda present: Choice(value, 1.0, "a test"))


async def test_what_the_system_refuses_leaves_the_value_and_is_said(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 5)
    lane.dials.faults["a"] = [OSError(16, "busy")]
    run = await move(lane, 30)
    assert (lane.level(), run.governed[0].value, run.governed[0].moves) == (60, 60, 0) and "busy" in run.governed[0].reason
    run = await move(lane, 30)
    assert (lane.level(), run.governed[0].value, run.governed[0].moves) == (30, 30, 1) and conflicts(lane) == 0


async def test_what_the_actuator_refuses_to_plan_by_now_is_not_written(lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 5)

    def refuse(target: Target, now: Any, want: Any) -> Step:
        raise SteadError("it is below its working set", str(target))

    writes = len(lane.dials.writes)
    monkeypatch.setattr(lane.dials, "plan", refuse)
    run = await move(lane, 30)
    assert len(lane.dials.writes) == writes and "below its working set" in run.governed[0].reason


async def test_a_move_that_took_too_long_is_its_own_whichever_way_it_ended(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 5)
    lane.dials.faults["a"] = [1.0]  # it writes, and hangs
    lane.hands.writer.mark = lambda name: lane.dials.unreadable.add("a") if name == "act.dial.adjust.after_write" else None
    run = await move(lane, 30)
    assert (lane.level(), run.governed[0].moves) == (30, 0) and "can't be read" in run.governed[0].reason
    lane.hands.writer.mark = lambda name: None
    lane.dials.unreadable.clear()
    run = await move(lane, 25)
    assert (lane.level(), run.governed[0].value, conflicts(lane)) == (25, 25, 0)


async def test_a_target_that_is_gone_ends_it(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 30)
    lane.dials.lives["a"] = "another"
    del lane.dials.dials["a"]
    await lane.tick(10)
    assert lane.states("govern") == ["moot"]


async def test_at_its_end_the_process_tells_the_ledger_where_the_value_stands(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 40)
    (run,) = lane.runs("govern")
    assert told(lane, run) == []
    await lane.road.stop(lane.clock.now())
    (run,) = lane.runs("govern")
    assert len(told(lane, run)) == 1 and run.governed[0].value == lane.level()


async def test_what_is_kept_wanted_by_a_metric_goes_on_while_that_is_so(lay: Lay) -> None:
    plain = governed(settings=(SettingTemplate("dial", {"level": 30}, lease_s=60.0),), keep_while={DELAY: 0.05})
    lane = lay(plain)
    await lane.road.start(lane.clock.now())
    await live(lane, 30)
    await live(lane, 300, load=0.1)
    assert (lane.states("govern"), lane.road.findings) == (["held"], {})
    lane.show(0.1, None)
    await lane.tick(80)
    assert (lane.states("govern"), lane.level()) == (["undone"], 100), "what is not known keeps nothing"


def test_what_governs_is_remembered_at_full_rate(lay: Lay) -> None:
    lane = lay(governed(predict=None))
    series = lane.road.series
    assert isinstance(series, Series)
    lane.show(2.0, 1.0)
    lane.road.observe(lane.clock.advance(1000))
    now = lane.clock.now()
    assert series.mean(DELAY, "workload:a", 0, now.mono_ms) == 1.0


async def test_why_tells_the_range_where_it_stands_and_why_and_repeated_moves_once(lay: Lay) -> None:
    lane = lay()
    await lane.road.start(lane.clock.now())
    await live(lane, 40)
    for second in range(1500):
        suffer(lane)
        lane.gauge.values[DELAY, "workload:a"] = 3.0 if second % 60 < 15 else 0.1
        await lane.tick()
    (run,) = lane.runs("govern")
    explained = explain(run.id, StoreSource(lane.ledger))
    moves = [link.words for link in explained.chain if "in" in link.words and "moves" in link.words]
    assert len(told(lane, run)) >= 3 and len(moves) == 1 and "of 10 to 90" in moves[0] and DELAY in moves[0]
    assert any("level is then moved between 10 and 90 by m.delay" in link.words for link in explained.chain)
    assert "in force" in explained.summary
    now = with_limits(explained, tuple(lane.road.runs.values())).chain[-1]
    assert now.entry == "" and now.words.startswith("now: level is ")
    assert with_limits(explained, ()) == explained


def test_the_range_is_part_of_what_is_approved() -> None:
    step = dial_step()
    rule = Govern("level", "m", "host", 1.0, 2.0, 9.0)
    hashes = {
        plan_hash([msgspec.structs.replace(step, govern=one)]) for one in (None, rule, msgspec.structs.replace(rule, high=10.0))
    }
    assert len(hashes) == 3


async def test_a_short_lease_is_renewed_often_and_recorded_seldom(lay: Lay) -> None:
    lane = lay(governed(lease_s=20.0))
    await lane.road.start(lane.clock.now())
    await live(lane, 1800)
    (run,) = lane.runs("govern")
    assert run.state == "held" and (run.lease_until_ms or 0) > lane.clock.now().unix_ms
    assert 5 <= len(lane.ledger.entries(1000, run.id, ("run.held",))) <= 8
    await lane.again()
    await live(lane, 5)
    assert lane.states("govern") == ["held"], "what is durable of a lease is its newest end"
