from __future__ import annotations

from stead.hub.health import grade
from stead.model import messages as m
from tests.hub.conftest import FakeAgent, status


async def test_alive_needs_neither_token_nor_agent(client, agent: FakeAgent):
    await agent.stop()
    answer = await client.get("/healthz", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["status"]) == (200, "pass")
    assert answer.headers["content-type"].startswith("application/health+json")


async def test_ready_tells_each_station(client, agent: FakeAgent):
    agent.status = status(stations=(m.Station("observe", True), m.Station("probe disk", False, "timed out")))
    answer = await client.get("/readyz", headers={"Authorization": ""})
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "warn")
    assert body["checks"]["observe"] == [{"status": "pass"}]
    assert body["checks"]["probe disk"] == [{"status": "warn", "output": "timed out"}]


async def test_without_the_agent_it_is_not_ready(client, agent: FakeAgent):
    await agent.stop()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "fail")
    assert "no agent answers" in answer.json()["output"]
    await agent.start()
    assert (await client.get("/readyz")).status_code == 200


def test_an_unknown_station_is_not_a_good_one():
    assert grade(status(stations=(m.Station("record", None),))).status == "warn"
    assert grade(status(stations=(m.Station("record", True),))).status == "pass"
