from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stead.hub import live
from stead.hub.keys import new_token
from stead.hub.live import Snapshot, difference
from stead.model import messages as m
from stead.model.errors import Problem
from tests.hub.conftest import NOW, FakeAgent, Hub, finding, run, status, view


class Served:
    """A hub behind a real server on a real port."""

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub, self.port = hub, port
        self.url = f"ws://127.0.0.1:{port}/api/v1/live"
        self.headers = hub.headers


@pytest.fixture
async def served(hub: Hub) -> AsyncIterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        hub.app, ws="websockets-sansio", ws_per_message_deflate=False, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield Served(hub, listener.getsockname()[1])
    server.should_exit = True
    await task


async def message(channel: Any) -> dict[str, Any]:
    async with asyncio.timeout(5):
        return json.loads(await channel.recv())


async def until(channel: Any, key: str) -> dict[str, Any]:
    """The next message that has this key."""
    while key not in (got := await message(channel)):
        pass
    return got


async def test_first_a_snapshot_then_what_changed(served: Served, agent: FakeAgent):
    async with connect(served.url, additional_headers=served.headers) as channel:
        first = await message(channel)
        assert first["kind"] == "snapshot"
        assert {"status", "metrics", "findings", "proposals", "runs", "top"} <= set(first)
        assert first["metrics"][1] == {**first["metrics"][1], "value": None, "reason": "no swap"}
        agent.metrics = m.MetricList((view(value=99.0, band="critical"),))
        changed = await until(channel, "metrics")
        assert changed["kind"] == "delta"
        assert [v["value"] for v in changed["metrics"]] == [99.0]
        assert changed["gone"] == [["infra.swap_used", "host"]]
        assert "top" not in changed


async def test_an_event_brings_the_new_list_at_once(served: Served, agent: FakeAgent):
    async with connect(served.url, additional_headers=served.headers) as channel:
        await message(channel)
        agent.findings = (finding(), finding(id="f2", fingerprint="other", title="another"))
        agent.say(m.Event("finding.opened", "f2", NOW, 1, finding=agent.findings[1]))
        assert [f["id"] for f in (await until(channel, "findings"))["findings"]] == ["f1", "f2"]
        agent.proposals = (run(), run("run-three"))
        agent.say(m.Event("proposal.made", "run-three", NOW, 2, run=agent.proposals[1]))
        assert [r["id"] for r in (await until(channel, "proposals"))["proposals"]] == ["run-one", "run-three"]


async def test_it_says_when_the_agent_goes_and_comes_back(served: Served, agent: FakeAgent):
    async with connect(served.url, additional_headers=served.headers) as channel:
        await message(channel)
        await agent.stop()
        assert (await until(channel, "problem"))["problem"]["exit_code"] == 8
        await agent.start()
        while "problem" in (got := await message(channel)):
            pass
        assert got["kind"] == "delta"


async def test_without_a_token_nothing_is_said(served: Served, agent: FakeAgent):
    for first in ('{"token": "' + new_token() + '"}', "{}", "[]", "not json", '{"token": 5}'):
        async with connect(served.url) as channel:
            await channel.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                await message(channel)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == live.NOT_SIGNED_IN
    async with connect(served.url) as channel:
        await channel.send(json.dumps({"token": served.hub.text}))
        assert (await message(channel))["kind"] == "snapshot"


async def test_a_token_in_the_address_is_worth_nothing(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "LOGIN_S", 0.05)
    async with connect(f"{served.url}?token={served.hub.text}") as channel:
        with pytest.raises(ConnectionClosed):
            await message(channel)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_another_sites_socket_is_refused(served: Served, origin: str):
    with pytest.raises(InvalidStatus) as refused:
        async with connect(served.url, additional_headers=served.headers, origin=origin):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == 403


async def test_the_pages_own_socket_comes_in_by_cookie(served: Served):
    token = served.hub.token
    name, value = f"stead_{token.id}", token.session(int(time.time()))
    own = f"http://127.0.0.1:{served.port}"
    async with connect(served.url, additional_headers={"Cookie": f"{name}={value}"}, origin=own) as channel:  # type: ignore[arg-type]
        assert (await message(channel))["kind"] == "snapshot"


async def test_a_watcher_that_does_not_keep_up_is_dropped(hub: Hub, agent: FakeAgent):
    watch = live.Live(hub.gateway)
    slow, quick = await watch.join(), await watch.join()
    for turn in range(live.BACKLOG + 1):
        while not quick.queue.empty():
            quick.queue.get_nowait()
        agent.metrics = m.MetricList((view(value=float(turn)),))
        hub.gateway.forget()
        await watch.tell()
    assert slow.dropped.is_set() and not quick.dropped.is_set()
    assert slow.queue.qsize() == live.BACKLOG
    await hub.gateway.door.close()


def test_a_difference_is_empty_when_only_time_went_on():
    old = Snapshot(NOW, None, status(), (view(),))
    new = Snapshot(NOW + 1000, None, status(), (view(at_ms=NOW + 1000),))
    assert json.loads(msgspec.json.encode(difference(old, new))) == {"kind": "delta", "at_ms": NOW + 1000}


def test_a_difference_tells_emptied_lists():
    old = Snapshot(NOW, None, findings=(finding(),))
    assert difference(old, Snapshot(NOW, None)).findings == ()
    gone = Problem("gone", "", "")
    assert difference(old, Snapshot(NOW, gone)).problem == gone
