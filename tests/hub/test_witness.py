from __future__ import annotations

import httpx
import pytest

from stead.hub import witness
from stead.hub.serve import Server
from stead.hub.witness import BURST, BURST_OF_ALL, MAX_BODY_BYTES, Bucket, Turnstile
from stead.model import witness_messages as w
from tests.hub.conftest import FakeAgent, Hub

PATH = "/witness/add-checkpoint"
BARE = {"Authorization": ""}
BODY = "old 0\n\nbox/ledger\n1\nAAAA\n\n— box/ledger AAAA\n".encode()


async def test_bytes_go_to_the_agent_and_its_answer_comes_back(client, agent: FakeAgent):
    answer = await client.post(PATH, content=BODY, headers=BARE)
    assert (answer.status_code, answer.content) == (409, b"7\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"
    assert [body for body, _ in agent.asked] == [w.AddCheckpoint(BODY)]


@pytest.mark.parametrize("body", [b"", b"new 0\n", b"{}", b"\xff\xfe"])
async def test_what_is_no_request_never_reaches_the_agent(client, agent: FakeAgent, body: bytes):
    answer = await client.post(PATH, content=body, headers=BARE)
    assert answer.status_code == 400 and agent.asked == []


async def test_a_body_over_its_own_limit_is_refused(client, agent: FakeAgent):
    fits = b"old 0\n" + b"x" * (MAX_BODY_BYTES - 6)
    assert (await client.post(PATH, content=fits, headers=BARE)).status_code == 409
    assert (await client.post(PATH, content=fits + b"x", headers=BARE)).status_code == 413
    assert len(agent.asked) == 1


async def test_more_than_the_burst_have_to_wait(client, agent: FakeAgent):
    answers = [await client.post(PATH, content=b"", headers=BARE) for _ in range(int(BURST) + 30)]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses[: int(BURST)]) == {400} and 429 in statuses
    late = next(answer for answer in answers if answer.status_code == 429)
    assert int(late.headers["retry-after"]) >= 1


def test_the_bucket_fills_at_its_rate():
    now_s = [0.0]
    bucket = Bucket(2, 0.5, lambda: now_s[0])
    assert [bucket.wait_s() for _ in range(3)] == [0, 0, 2]
    now_s[0] = 1.0
    assert bucket.wait_s() == 1
    now_s[0] = 2.0
    assert (bucket.wait_s(), bucket.wait_s()) == (0, 2)
    now_s[0] = 1000.0
    assert [bucket.wait_s() for _ in range(3)] == [0, 0, 2]


async def test_one_client_does_not_use_up_what_another_needs(hub: Hub):
    served = Server(hub.app).config.loaded_app  # with what uvicorn makes of a proxy's headers
    greedy, other = ({"X-Forwarded-For": f"10.9.9.9, {name}"} for name in ("192.0.2.1", "192.0.2.2"))
    transport = httpx.ASGITransport(app=served, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as proxy:
        answers = [await proxy.post(PATH, content=b"", headers=greedy) for _ in range(int(BURST) + 30)]
        assert answers[-1].status_code == 429
        assert (await proxy.post(PATH, content=BODY, headers=other)).status_code == 409
    await hub.gateway.door.close()


def test_all_clients_together_have_a_limit_too():
    turnstile = Turnstile(lambda: 0.0)
    waits = [turnstile.wait_s(f"192.0.2.{number % 250}") for number in range(int(BURST_OF_ALL) + 1)]
    assert not any(waits[:-1]) and waits[-1] > 0


def test_the_addresses_of_one_ipv6_network_are_one_client():
    turnstile = Turnstile(lambda: 0.0)
    waits = [turnstile.wait_s(f"2001:db8::{number:x}") for number in range(int(BURST) + 1)]
    assert not any(waits[:-1]) and waits[-1] > 0
    assert turnstile.wait_s("2001:db8:0:1::1") == 0


def test_the_table_of_clients_is_bounded_and_keeps_those_that_asked_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(witness, "REMEMBERED", 3)
    monkeypatch.setattr(witness, "BURST", 1.0)
    turnstile = Turnstile(lambda: 0.0)
    assert [turnstile.wait_s(name) > 0 for name in "aababcd"] == [False, True, False, True, True, False, False]
    assert turnstile.wait_s("b") > 0  # it asked just before the others
    assert turnstile.wait_s("a") == 0  # forgotten: the overall limit holds all the same


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
async def test_a_page_elsewhere_can_not_make_a_browser_ask(client, agent: FakeAgent, headers: dict[str, str]):
    assert (await client.post(PATH, content=BODY, headers={**BARE, **headers})).status_code == 403
    assert agent.asked == []


async def test_an_agent_that_is_away_is_a_503(client, agent: FakeAgent):
    await agent.stop()
    answer = await client.post(PATH, content=BODY, headers=BARE)
    assert answer.status_code == 503 and answer.json()["code"] == "agent.unreachable"
