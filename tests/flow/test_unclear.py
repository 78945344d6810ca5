"""What was done too soon after an onset to be compared: kept where it may have helped, and not where nothing got better."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.flow.verify import Measured, judge
from stead.model.change import Prediction, Run
from stead.model.observe import Now
from tests.flow.kit import dial_step, proposal
from tests.flow.road import DELAY, LOAD, Lane, turn


@pytest.mark.parametrize(
    ("direction", "after", "still_open", "result"),
    [
        ("down", 90.0, True, "no_help"),
        ("down", 57.0, True, "no_help"),  # of the 16 that were predicted: next to nothing
        ("down", 56.0, True, "inconclusive"),  # better than at its worst: that may be its merit
        ("down", 90.0, False, "inconclusive"),  # what it answers is over: what is bad now has another cause
        ("up", 33.0, True, "no_help"),
        ("up", 34.0, True, "inconclusive"),
    ],
)
def test_without_an_effect_to_tell_it_is_kept_unless_nothing_got_better(
    direction: str, after: float, still_open: bool, result: str
) -> None:
    prediction = Prediction("m.delay", "a", direction, 16.0, False, 15.0, 40.0, 2.0)  # type: ignore[arg-type]
    made = proposal((dial_step("a"),), prediction=prediction, good_readings=3, keep_unclear=True)
    seen = Measured(
        after,
        0,
        None,
        "only 2 readings are known from before the change",
        40.0,
        "",
        {"down": 60.0, "up": 30.0}[direction],
        still_open,
    )
    verdict = judge(Run("r", made, "verifying", acted_ms=1), [True], seen, Now(1, 1))
    assert verdict.result == result, verdict.reason


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    more = {"keep_unclear": True, "cooldown_s": 1.0}
    made = Lane(tmp_path, turn(chain=("harder",), **more), turn("harder", level=20, answers=(), **more))
    yield made
    made.ledger.close()


@pytest.mark.parametrize(("left", "states", "level"), [(3.0, (["undone"], 1), 20), (0.2, (["held"], 0), 9)])
async def test_a_rung_that_does_nothing_leaves_the_way_to_the_next(
    lane: Lane, left: float, states: tuple[list[str], int], level: int
) -> None:
    await lane.road.start(lane.clock.now())
    lane.gauge.values = {(LOAD, "workload:a"): 2.0, (DELAY, "workload:a"): 3.0}  # an onset out of nothing
    await lane.tick(2)
    assert lane.states() == ["verifying"]
    lane.gauge.values[DELAY, "workload:a"] = left
    await lane.tick(16)
    (first,) = lane.runs()
    assert first.verdict is not None and first.verdict.effect is None, "too few readings to tell by"
    assert (lane.states(), len(lane.runs("harder"))) == states, first.verdict.reason
    assert lane.level() == level
