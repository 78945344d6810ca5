from __future__ import annotations

import asyncio

import pytest

from stead.model import messages as m
from stead.model.advice import ApplyAdvice
from stead.model.errors import Problem
from tests.hub.conftest import FakeAgent

APPROVE = "/api/v1/proposals/run-one/approve"


async def test_approval_reaches_the_agent_with_plan_and_person(client, agent: FakeAgent):
    answer = await client.post(APPROVE, headers={"If-Match": '"abc123"'})
    assert answer.status_code == 200, answer.text
    assert (m.Approve("run-one", "abc123"), "uid:1000") in agent.asked


async def test_approval_without_a_plan_is_428(client, agent: FakeAgent):
    answer = await client.post(APPROVE)
    assert (answer.status_code, answer.headers["content-type"]) == (428, "application/problem+json")
    assert agent.orders(m.Approve) == []


async def test_approval_of_another_plan_is_412(client, agent: FakeAgent):
    answer = await client.post(APPROVE, headers={"If-Match": '"abc124"'})
    assert answer.status_code == 412
    assert agent.orders(m.Approve) == []


@pytest.mark.parametrize("header", ["*", '""', '"abc123", "other"'])
async def test_no_wildcard_approves(client, agent: FakeAgent, header: str):
    assert (await client.post(APPROVE, headers={"If-Match": header})).status_code in (412, 428)
    assert agent.orders(m.Approve) == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/api/v1/proposals/run-one/deny", {"reason": "no"}, m.Deny("run-one", "no")),
        ("/api/v1/runs/run-two/undo", None, m.Undo("run-two")),
        ("/api/v1/runs/run-two/cancel", None, m.Cancel("run-two")),
        ("/api/v1/holds/lift", {"playbook": "p", "target": "t"}, m.Lift("p", "t")),
        ("/api/v1/recommendations/4f1c09aa/apply", {"over_s": 60.0, "at_least_s": 5.0}, ApplyAdvice("4f1c09aa", 60.0, 5.0)),
        ("/api/v1/pause", {"reason": "look"}, m.Pause("look")),
        ("/api/v1/resume", None, m.Resume()),
        ("/api/v1/mode", {"mode": "act"}, m.SetAutonomy(mode="act")),
        ("/api/v1/mode", {"ceiling": 2, "scope": "web", "locked": True}, m.SetAutonomy(None, 2, "web", True)),
    ],
)
async def test_each_order_is_one_message(client, agent: FakeAgent, path, body, message):
    answer = await client.post(path, json=body) if body is not None else await client.post(path)
    assert answer.status_code == 200, answer.text
    assert (message, "uid:1000") in agent.asked


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/api/v1/mode", {"mode": "god"}, "mode"),
        ("/api/v1/mode", {"ceiling": 3}, "ceiling"),
        ("/api/v1/mode", {}, "mode"),
        ("/api/v1/mode", {"mood": "act"}, "mood"),
        ("/api/v1/holds/lift", {"playbook": "p"}, "target"),
        ("/api/v1/pause", {"reason": 5}, "reason"),
    ],
)
async def test_a_wrong_body_names_the_key(client, agent: FakeAgent, path, body, key):
    answer = await client.post(path, json=body)
    assert answer.status_code == 400
    assert key in answer.json()["detail"]
    assert agent.orders(m.SetAutonomy) + agent.orders(m.Lift) + agent.orders(m.Pause) == []


async def test_a_body_that_is_missing_is_called_so(client, agent: FakeAgent):
    answer = await client.post("/api/v1/pause")
    assert answer.status_code == 400 and answer.json()["detail"] == "body: it is missing: send a JSON object, {} at least"


async def test_a_body_over_a_mebibyte_is_refused(client, agent: FakeAgent):
    answer = await client.post("/api/v1/pause", content=b'{"reason":"' + b"x" * (1 << 20) + b'"}')
    assert answer.status_code == 413
    assert agent.orders(m.Pause) == []


async def test_the_same_key_acts_once(client, agent: FakeAgent):
    key = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(*(client.post("/api/v1/runs/run-two/undo", headers=key) for _ in range(5)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1
    assert len(agent.orders(m.Undo)) == 1
    other = await client.post("/api/v1/runs/run-one/undo", headers=key)
    assert other.status_code == 409
    assert len(agent.orders(m.Undo)) == 1


async def test_a_key_may_be_used_again_when_nothing_reached_the_agent(client, agent: FakeAgent):
    key = {"Idempotency-Key": "k2"}
    await agent.stop()
    assert (await client.post("/api/v1/runs/run-two/undo", headers=key)).status_code == 503
    await agent.start()
    assert (await client.post("/api/v1/runs/run-two/undo", headers=key)).status_code == 200


async def test_what_was_read_before_an_order_is_read_anew_after_it(client, agent: FakeAgent):
    assert (await client.get("/api/v1/status")).json()["mode"] == "advise"
    await client.post("/api/v1/mode", json={"mode": "observe"})
    assert (await client.get("/api/v1/status")).json()["mode"] == "observe"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("approval.stale", 412),
        ("approval.same-person", 403),
        ("peer.refused", 403),
        ("run.unknown", 404),
        ("run.impossible", 409),
        ("agent.defect", 500),
        ("ledger.failed", 500),
    ],
)
async def test_the_agents_refusal_is_passed_on_with_its_remedy(client, agent: FakeAgent, code: str, status: int):
    agent.refuse = Problem("it says no", "the policy", "ask somebody else", code)
    answer = await client.post(APPROVE, headers={"If-Match": '"abc123"'})
    assert answer.status_code == status
    body = answer.json()
    assert (body["code"], body["fix"], body["where"]) == (code, "ask somebody else", "the policy")
    assert body["detail"] == "it says no (the policy): ask somebody else"
