from __future__ import annotations

import msgspec
import pytest

from stead.model import messages as m
from stead.model.advice import AdviceList
from tests.hub.conftest import FakeAgent, view

TYPES = {
    "/api/v1/status": m.Status,
    "/api/v1/metrics": m.MetricList,
    "/api/metrics": m.MetricList,
    "/api/v1/metrics/infra.cpu_utilization": m.MetricList,
    "/api/v1/metrics/infra.cpu_utilization/series": m.SeriesAnswer,
    "/api/v1/top": m.TopAnswer,
    "/api/v1/findings": m.FindingList,
    "/api/v1/findings?cleared=true&limit=3": m.FindingList,
    "/api/v1/proposals": m.RunList,
    "/api/v1/proposals?limit=2": m.RunList,
    "/api/v1/runs": m.RunList,
    "/api/v1/runs/run-o": m.RunList,
    "/api/v1/holds": m.HoldList,
    "/api/v1/recommendations?over_s=60&at_least_s=5": AdviceList,
    "/api/v1/ledger/entries": m.EntryList,
    "/api/v1/why?thing=f1": m.Explanation,
}


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
async def test_each_answer_is_the_agents_own_type(client, path, kind):
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(msgspec.json.decode(answer.content, type=kind), kind)


@pytest.mark.parametrize("path", ["/api/v1/hardware", "/api/hardware/status"])
async def test_hardware_brings_facts_loads_and_top_together(client, path):
    body = (await client.get(path)).json()
    assert body["facts"][0]["value"] == "Debian"
    assert body["top"]["by_cpu"][0]["pid"] == 4711
    assert {v["metric"] for v in body["metrics"]} == {"infra.cpu_utilization", "infra.swap_used"}


async def test_unknown_stays_null_with_its_reason(client):
    body = (await client.get("/api/v1/metrics/infra.swap_used")).json()
    assert body["metrics"][0]["value"] is None
    assert body["metrics"][0]["reason"] == "no swap"


async def test_series_passes_the_range_on(client, agent: FakeAgent):
    answer = await client.get("/api/v1/metrics/a.b/series?subject=mount:/var&from=1000&to=2000&points=7")
    assert answer.status_code == 200
    assert agent.orders(m.QuerySeries) == [m.QuerySeries("a.b", "mount:/var", 1000, 2000, 7)]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/api/v1/metrics/a/series?points=0", "points"),
        ("/api/v1/metrics/a/series?from=soon", "from"),
        ("/api/v1/metrics/a/series?from=5&to=5", "from"),
        ("/api/v1/findings?limit=9999", "limit"),
        ("/api/v1/why", "thing"),
    ],
)
async def test_a_bad_request_names_the_key(client, path, key):
    answer = await client.get(path)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert key in answer.json()["detail"]


async def test_what_is_not_there_is_404(client):
    for path in ("/api/v1/metrics/no.such", "/api/v1/runs/zzz", "/api/v1/nothing"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), answer.text


async def test_a_known_list_is_not_sent_again(client):
    first = await client.get("/api/v1/findings")
    again = await client.get("/api/v1/findings", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_when_the_agent_is_away_every_answer_says_so(client, agent: FakeAgent):
    await agent.stop()
    for path in TYPES:
        answer = await client.get(path)
        assert answer.status_code == 503
        assert answer.json()["title"] == "agent unreachable"


async def test_an_unsupported_metric_says_what_is_missing(client, agent: FakeAgent):
    agent.metrics = m.MetricList((view(),), {"learning.sessions_started": "a trainer"})
    assert (await client.get("/api/v1/metrics/learning.sessions_started")).json()["unsupported"] == {
        "learning.sessions_started": "a trainer"
    }
