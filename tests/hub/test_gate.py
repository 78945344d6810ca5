from __future__ import annotations

import pytest
from litestar import Litestar, get
from litestar.exceptions import ImproperlyConfiguredException

from stead.hub.gate import NeedsPermission, handlers_of
from stead.hub.keys import Token, new_token
from tests.hub.conftest import FakeAgent, Hub

OPEN = {"/", "/page.js", "/page.css", "/healthz", "/readyz", "/witness/add-checkpoint"}
FILL = {"metric": "infra.cpu_utilization", "run": "run-one", "proposal": "run-one", "path": "x"}


def routes(hub: Hub) -> list[tuple[str, str]]:
    """Every HTTP route: method and path, placeholders filled."""
    found = []
    for route in hub.app.routes:
        path = route.path_format
        for name, value in FILL.items():
            path = path.replace("{" + name + "}", value)
        for handler in handlers_of(route):
            found += [(method, path) for method in getattr(handler, "http_methods", ()) if method != "OPTIONS"]
    return found


async def test_every_route_but_the_open_ones_needs_the_token(hub: Hub, client, agent: FakeAgent):
    matrix = routes(hub)
    assert len(matrix) > 30
    for method, path in matrix:
        for headers in (
            {"Authorization": ""},
            {"Authorization": f"Bearer {new_token()}"},
            {"Authorization": f"Basic {hub.text}"},
        ):
            answer = await client.request(method, path, headers=headers)
            allowed = path in OPEN or (method, path) == ("POST", "/api/v1/session")
            if allowed:
                assert answer.status_code != 401, (method, path)
            else:
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not [body for body, _ in agent.asked if type(body).__name__ not in ("GetStatus",)]


async def test_every_route_carries_the_security_headers(hub: Hub, client):
    for method, path in [*routes(hub), ("GET", "/nothing")]:
        answer = await client.request(method, path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "access-control-allow-origin" not in answer.headers


def test_a_handler_without_a_permission_can_not_be_registered():
    @get("/open-door")
    async def handler() -> str:
        return "in"

    with pytest.raises(ImproperlyConfiguredException, match="/open-door"):
        Litestar([handler], plugins=[NeedsPermission()], openapi_config=None)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::2]", "", "[", "localhost@evil"]
)
async def test_another_name_for_this_machine_is_refused(client, host: str):
    for path in ("/", "/api/v1/status"):
        assert (await client.get(path, headers={"Host": host})).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.1"])
async def test_loopbacks_own_names_are_fine(client, host: str):
    assert (await client.get("/api/v1/status", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9000", "null", "http://localhost:8000", "file://"])
async def test_another_site_can_change_nothing(client, agent: FakeAgent, origin: str):
    answer = await client.post("/api/v1/pause", json={}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert agent.asked == []


async def test_a_session_by_cookie(hub: Hub, client, agent: FakeAgent):
    bare = {"Authorization": ""}
    wrong = await client.post("/api/v1/session", json={"token": new_token()}, headers=bare)
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    signed = await client.post("/api/v1/session", json={"token": hub.text}, headers=bare)
    assert signed.json() == {"person": "uid:1000"}
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and hub.text not in cookie
    assert (await client.get("/api/v1/status", headers=bare)).status_code == 200
    # without an Origin a cookie changes nothing; with the page's own it does
    assert (await client.post("/api/v1/pause", json={}, headers=bare)).status_code == 403
    own = {**bare, "Origin": "http://127.0.0.1:8000"}
    assert (await client.post("/api/v1/pause", json={}, headers=own)).status_code == 200
    out = await client.delete("/api/v1/session", headers=own)
    assert out.json() == {"person": ""}
    client.cookies.clear()
    assert (await client.get("/api/v1/status", headers=bare)).status_code == 401


def test_a_session_ends_after_twelve_hours_and_can_not_be_forged():
    token = Token.of(new_token(), "uid:0")
    other = Token.of(new_token(), "uid:0")
    value = token.session(1000)
    assert token.in_session(value, 1000 + 12 * 3600 - 1)
    assert not token.in_session(value, 1000 + 12 * 3600)
    assert not other.in_session(value, 1000)
    until, _, proof = value.partition(".")
    for forged in (f"{int(until) + 1}.{proof}", f"{until}.", "", ".", "x.y", f"{until}.{proof[:-1]}é"):
        assert not token.in_session(forged, 1000)
