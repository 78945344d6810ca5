"""One run that can't be moved keeps no other from its end: a lease lapses whatever became of somebody else's verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stead.flow import follow, pipeline
from stead.model.change import Run
from tests.flow.road import Lane


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    made = Lane(tmp_path)
    yield made
    made.ledger.close()


async def test_a_verdict_that_can_not_be_made_holds_up_nobody_else(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    await lane.heal()
    assert lane.states() == ["held"] and lane.level("a") == 9
    lane.show(2.0, 3.0, "b")
    await lane.tick(3)
    assert sorted(lane.states()) == ["held", "verifying"]
    (poisoned,) = (run for run in lane.runs() if run.state == "verifying")
    measured = pipeline.measured

    def measure(run: Run, *more: Any) -> Any:
        if run.id == poisoned.id:
            raise ZeroDivisionError("a defect in the verdict of this one")
        return measured(run, *more)

    monkeypatch.setattr(pipeline, "measured", measure)
    lane.road.runs = dict(sorted(lane.road.runs.items(), key=lambda item: item[0] != poisoned.id))  # it comes first
    lane.show(0.1, 0.1, "a")
    for _ in range(120):
        now = lane.clock.advance(1000)
        if now.unix_ms < (poisoned.verify_at_ms or 0):
            await lane.road.tick(now)
        else:
            with pytest.raises(ZeroDivisionError):
                await lane.road.tick(now)
        await lane.road.tasks.finish()
    assert {run.id: run.state for run in lane.runs()} == {poisoned.id: "verifying", lane.runs()[0].id: "undone"}
    assert (lane.level("a"), lane.level("b")) == (1, 9)


async def test_what_is_in_trouble_is_told_and_the_rest_of_the_tick_is_done(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    await lane.heal()
    minded: list[str] = []

    async def fails(*what: Any) -> bool:
        raise RuntimeError("no")

    monkeypatch.setattr(follow, "_move", fails)
    monkeypatch.setattr(lane.road.retries, "mind", lambda road, now: minded.append("retries"))
    monkeypatch.setattr(lane.road.governor, "due", lambda *what: minded.append("governor") or [])
    with pytest.raises(RuntimeError, match="no"):
        await lane.road.tick(lane.clock.advance(1000))
    assert minded == ["governor", "retries"]
