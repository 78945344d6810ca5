"""The asyncio client against a real socket: many at once, reconnects, and no answer that is invented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stead.model import messages as m
from stead.model.errors import EXIT_TIMEOUT, EXIT_UNREACHABLE, SteadError
from stead.wire import AsyncDoor, async_door
from tests.cli.fake_agent import T0, FakeAgent, finding


@pytest.fixture
async def door(agent: FakeAgent) -> AsyncIterator[AsyncDoor]:
    one = AsyncDoor(str(agent.path), "the key")
    yield one
    await one.close()


async def test_many_questions_at_once_each_get_their_own_answer(agent: FakeAgent, door: AsyncDoor) -> None:
    answers = await asyncio.gather(*(door.ask(body) for body in (m.GetStatus(), m.GetTop(), m.GetMetrics()) for _ in range(20)))
    kinds = [type(one) for one in answers]
    assert kinds == [m.Status] * 20 + [m.TopAnswer] * 20 + [m.MetricList] * 20
    assert agent.asked[0] == m.Hello("the key")
    assert agent.asked.count(m.Hello("the key")) == 1


async def test_it_speaks_for_a_person(agent: FakeAgent, door: AsyncDoor) -> None:
    await door.ask(m.Approve("r", "hash"), m.RunList, person="uid:1000")
    assert agent.people == ["", "uid:1000"]


async def test_a_problem_is_raised(agent: FakeAgent, door: AsyncDoor) -> None:
    agent.refuse(m.Deny)
    with pytest.raises(SteadError, match="one more approval"):
        await door.ask(m.Deny("r"))
    assert door.connected


async def test_a_wrong_key_is_refused(agent: FakeAgent, door: AsyncDoor) -> None:
    agent.refuse(m.Hello)
    with pytest.raises(SteadError, match="one more approval"):
        await door.ask(m.GetStatus())
    with pytest.raises(SteadError):
        await anext(door.events())


async def test_silence_is_a_timeout_and_the_next_question_works(agent: FakeAgent, door: AsyncDoor) -> None:
    await door.ask(m.GetStatus())
    agent.silent = True
    with pytest.raises(SteadError) as caught:
        await door.ask(m.GetStatus(), timeout_s=0.05)
    assert caught.value.problem.exit_code == EXIT_TIMEOUT
    agent.silent = False
    assert await door.ask(m.GetStatus(), m.Status)


async def test_who_waits_when_the_agent_goes_is_told_and_the_door_opens_again(agent: FakeAgent, door: AsyncDoor) -> None:
    await door.ask(m.GetStatus())
    agent.silent = True
    waiting = [asyncio.create_task(door.ask(m.Undo("r"))) for _ in range(3)]
    while agent.asked.count(m.Undo("r")) < 3:
        await asyncio.sleep(0.01)
    agent.hang_up()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [one.problem.code for one in outcomes if isinstance(one, SteadError)] == ["agent.lost"] * 3
    agent.silent = False
    assert await door.ask(m.GetStatus(), m.Status)
    assert agent.asked.count(m.Undo("r")) == 3, "an order is never sent again by itself"


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SteadError) as caught:
        await AsyncDoor(str(tmp_path / "none")).ask(m.GetStatus())
    assert caught.value.problem.exit_code == EXIT_UNREACHABLE


async def test_rubbish_ends_the_connection_and_not_the_process(agent: FakeAgent, door: AsyncDoor) -> None:
    await door.ask(m.GetStatus())
    agent.raw = b"rubbish\n"
    with pytest.raises(SteadError, match="could not be read"):
        await door.ask(m.GetStatus())
    agent.raw = None
    assert await door.ask(m.GetStatus(), m.Status)


async def test_events_go_on_after_the_agent_came_back(agent: FakeAgent, door: AsyncDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_door, "FIRST_WAIT_S", 0.01)
    agent.events = [m.Event("finding.opened", "f", T0, 1, finding=finding())]
    connects = 0

    async def count() -> None:
        nonlocal connects
        connects += 1

    stream = door.events(("finding.*",), on_connect=count)
    assert (await anext(stream)).seq == 1
    path = agent.path
    agent.close()
    pending = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    assert not pending.done()
    again = FakeAgent(path)
    again.events = [m.Event("finding.opened", "f", T0, 2, finding=finding())]
    assert (await pending).seq == 2
    assert connects == 2
    await stream.aclose()  # type: ignore[attr-defined]
    again.close()
