from __future__ import annotations

import asyncio
import contextlib

import pytest

from stead import wire
from stead.hub.gateway import Gateway
from stead.model import messages as m
from stead.model.errors import SteadError
from tests.hub.conftest import NOW, FakeAgent, finding


@pytest.fixture
async def gateway(agent: FakeAgent):
    made = Gateway(wire.AsyncDoor(agent.path), "uid:0")
    yield made
    await made.door.close()


async def test_many_who_wait_share_one_question(gateway: Gateway, agent: FakeAgent):
    kept = await asyncio.gather(*(gateway.get("metrics") for _ in range(20)))
    assert len({id(k) for k in kept}) == 1
    assert len(agent.orders(m.GetMetrics)) == 1


async def test_what_is_fresh_is_not_asked_again_and_what_is_old_is(agent: FakeAgent):
    clock = [0.0]
    gateway = Gateway(wire.AsyncDoor(agent.path), "uid:0", lambda: clock[0])
    for _ in range(3):
        await gateway.get("status")
    assert len(agent.orders(m.GetStatus)) == 1
    clock[0] = 2.0
    await gateway.get("status")
    assert len(agent.orders(m.GetStatus)) == 2
    await gateway.door.close()


async def test_old_answers_are_never_passed_off_as_new(agent: FakeAgent):
    clock = [0.0]
    gateway = Gateway(wire.AsyncDoor(agent.path), "uid:0", lambda: clock[0])
    await gateway.get("findings")
    await agent.stop()
    clock[0] = 60.0
    with pytest.raises(SteadError) as error:
        await gateway.get("findings")
    assert error.value.problem.exit_code == 8
    await agent.start()
    assert (await gateway.get("findings")).value.findings == agent.findings
    await gateway.door.close()


async def test_an_answer_under_way_when_an_event_comes_is_not_kept(gateway: Gateway, agent: FakeAgent):
    asking = asyncio.ensure_future(gateway.get("findings"))
    await asyncio.sleep(0)
    gateway.forget("findings")
    await asking
    agent.findings = (finding(id="f9"),)
    assert [f.id for f in (await gateway.get("findings")).value.findings] == ["f9"]


async def test_an_event_marks_what_is_kept_as_old(gateway: Gateway, agent: FakeAgent):
    task = asyncio.create_task(gateway.run())
    try:
        async with asyncio.timeout(5):
            while not agent.orders(m.Subscribe) and not agent._listeners:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            await gateway.get("findings")
            agent.findings = (finding(id="f2"),)
            agent.say(m.Event("finding.opened", "f2", NOW, 1, finding=agent.findings[0]))
            while [f.id for f in (await gateway.get("findings")).value.findings] != ["f2"]:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_with_a_wrong_key_it_says_so(folder):
    agent = FakeAgent(str(folder / "a.sock"), key="right")
    await agent.start()
    gateway = Gateway(wire.AsyncDoor(agent.path, hub_key="wrong"), "uid:0")
    with pytest.raises(SteadError, match="not this agent's"):
        await gateway.get("status")
    await gateway.door.close()
    await agent.stop()
