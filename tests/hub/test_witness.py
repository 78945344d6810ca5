from __future__ import annotations

import pytest

from stead.hub.witness import BURST, MAX_BODY_BYTES, Bucket
from stead.model import messages as m
from tests.hub.conftest import FakeAgent

PATH = "/witness/add-checkpoint"
BARE = {"Authorization": ""}
BODY = "old 0\n\nbox/ledger\n1\nAAAA\n\n— box/ledger AAAA\n".encode()


async def test_bytes_go_to_the_agent_and_its_answer_comes_back(client, agent: FakeAgent):
    answer = await client.post(PATH, content=BODY, headers=BARE)
    assert (answer.status_code, answer.content) == (409, b"7\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"
    assert [body for body, _ in agent.asked] == [m.AddCheckpoint(BODY)]


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


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
async def test_a_page_elsewhere_can_not_make_a_browser_ask(client, agent: FakeAgent, headers: dict[str, str]):
    assert (await client.post(PATH, content=BODY, headers={**BARE, **headers})).status_code == 403
    assert agent.asked == []


async def test_an_agent_that_is_away_is_a_503(client, agent: FakeAgent):
    await agent.stop()
    answer = await client.post(PATH, content=BODY, headers=BARE)
    assert answer.status_code == 503 and answer.json()["code"] == "agent.unreachable"
