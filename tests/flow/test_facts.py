from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.flow import facts
from stead.model.observe import Fact
from tests.flow.road import Lane

ALONE = Fact("left_alone", "cgroup:/batch", "what is protected is in it", recorded=True)
CALLED = Fact("called", "cgroup:/batch", "batch")


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    made = Lane(tmp_path)
    yield made
    made.ledger.close()


def recorded(lane: Lane) -> list[tuple[str, str]]:
    stored = reversed(lane.ledger.entries(100, "", ("fact.seen",)))
    return [(one.subject, json.loads(one.leaf)["body"]["value"]) for one in stored]


async def test_what_must_be_proven_is_recorded_once_over_all_lives_and_nothing_else_is(lane: Lane) -> None:
    await lane.road.start(lane.clock.now())
    lane.gauge.facts = [ALONE, CALLED, Fact("os", "host", "Debian")]
    await lane.tick(3)
    assert recorded(lane) == [(ALONE.subject, ALONE.value)]
    assert lane.road.facts() == (Fact("os", "host", "Debian"),)
    await lane.again()
    await lane.tick(2)
    assert len(recorded(lane)) == 1


async def test_other_words_are_recorded_and_those_that_come_back_are_not(lane: Lane) -> None:
    await lane.road.start(lane.clock.now())
    other = Fact(ALONE.name, ALONE.subject, "what is the way in by ssh is in it", recorded=True)
    for fact in (ALONE, other, ALONE, Fact(ALONE.name, ALONE.subject, None, recorded=True), other):
        lane.gauge.facts = [fact]
        await lane.tick()
    assert recorded(lane) == [(one.subject, one.value) for one in (ALONE, other)]


async def test_names_that_never_end_do_not_make_the_record_grow_for_ever(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "RECORDED_MAX", 5)
    await lane.road.start(lane.clock.now())
    for number in range(8):
        lane.gauge.facts = [Fact("left_alone", f"cgroup:/{number}", "x", recorded=True)]
        await lane.tick()
    assert len(recorded(lane)) == 5
