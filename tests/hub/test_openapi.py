from __future__ import annotations

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks

from stead.hub.app import create_app
from stead.hub.gateway import Gateway
from stead.hub.keys import Token, new_token
from stead.model import messages as m
from stead.model.errors import Problem, SteadError
from tests.hub.conftest import FakeAgent


async def document(client) -> dict:
    return (await client.get("/openapi.json")).json()


async def test_it_is_openapi_3_1_and_every_operation_says_who_may(client):
    found = await document(client)
    assert found["openapi"].startswith("3.1")
    assert set(found["components"]["securitySchemes"]) == {"bearer", "cookie"}
    open_paths = {"/healthz", "/readyz", "/witness/add-checkpoint"}
    count = 0
    for path, item in found["paths"].items():
        for method, operation in item.items():
            count += 1
            free = path in open_paths or (method, path) == ("post", "/api/v1/session")
            assert operation["security"] == ([] if free else [{"bearer": []}, {"cookie": []}]), (method, path)
            assert operation.get("summary") and operation.get("description"), (method, path)
    assert count >= 29


async def test_every_answer_has_the_type_of_the_agents_structs(client):
    found = await document(client)
    names = set(found["components"]["schemas"])
    assert {"Status", "MetricList", "Finding", "Run", "Proposal", "Step", "Explanation", "ProblemDetails"} <= names
    approve = found["paths"]["/api/v1/proposals/{proposal}/approve"]["post"]
    assert "application/problem+json" in approve["responses"]["412"]["content"]
    assert "/api/metrics" in found["paths"] and "/api/hardware/status" in found["paths"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/status", "Status"),
        ("/api/v1/metrics", "MetricList"),
        ("/api/v1/findings", "FindingList"),
        ("/api/v1/runs", "RunList"),
        ("/api/v1/hardware", "Hardware"),
        ("/api/v1/nothing", "ProblemDetails"),
    ],
)
async def test_answers_keep_to_the_schema(client, path: str, name: str):
    found = await document(client)
    schema = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
    jsonschema.validate((await client.get(path)).json(), schema)


class DirectDoor:
    """Asks the fake agent without a socket: generated requests each run on an event loop of their own."""

    path = ""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent

    async def ask(self, body, *, person="", timeout_s=None):
        answer = self.agent.answer(m.Request(1, body, person))
        if isinstance(answer, Problem):
            raise SteadError.of(answer)
        return answer

    async def close(self) -> None:
        """Nothing is open."""


def described():
    token = Token.of(text := new_token(), "uid:1000")
    app = create_app(Gateway(DirectDoor(FakeAgent("")), token.person), token)
    headers = {"Authorization": f"Bearer {text}", "Host": "127.0.0.1"}
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers), headers


schema, HEADERS = described()
BEYOND_SCHEMA = {  # what a schema can't say: from < to; 428 without If-Match; at least one of three keys
    "/api/v1/metrics/{metric}/series",
    "/api/v1/proposals/{proposal}/approve",
    "/api/v1/mode",
}


@schema.parametrize()
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_requests_never_break_it(case):
    excluded = [checks.positive_data_acceptance] if case.operation.path in BEYOND_SCHEMA else []
    if case.operation.path == "/api/v1/mode":
        excluded.append(checks.negative_data_rejection)  # 0 and 1 are taken as false and true
    if case.operation.path == "/api/v1/session":
        excluded.append(checks.allow_header_conformance)  # Litestar's own OPTIONS knows only the first method there
    case.call_and_validate(headers=HEADERS, excluded_checks=excluded)
