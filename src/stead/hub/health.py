"""Is the hub alive, and is each station of the road well? In the form of draft-inadarei-api-health-check (health+json)."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from litestar import Response, get

from stead import __version__
from stead.hub.routes import Agent
from stead.model import messages as m
from stead.model.errors import SteadError

MEDIA_TYPE: Final = "application/health+json"
Grade = Literal["pass", "warn", "fail"]


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One station."""

    status: Grade
    output: str = ""


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole, and each station by name."""

    status: Grade
    version: str = ""
    output: str = ""
    checks: dict[str, tuple[Check, ...]] = {}


def grade(status: m.Status) -> Health:
    """A station that fails, or whose health is unknown, is a warning: the hub still serves."""
    checks: dict[str, tuple[Check, ...]] = {
        s.name: (Check("pass" if s.ok else "warn", s.detail or ("" if s.ok is not None else "unknown")),) for s in status.stations
    }
    well = all(check.status == "pass" for found in checks.values() for check in found)
    return Health("pass" if well else "warn", status.version, checks=checks)


@get("/healthz", opt={"permission": "open"}, security=[], media_type=MEDIA_TYPE)
async def alive() -> Health:
    """The hub's process answers; nothing else is asked."""
    return Health("pass", __version__)


@get("/readyz", opt={"permission": "open"}, security=[], media_type=MEDIA_TYPE)
async def ready(gateway: Agent) -> Response[Health]:
    """Each station's health; 503 while the agent does not answer."""
    try:
        health = grade((await gateway.get("status")).value)
    except SteadError as error:
        output = str(error.problem)
        health = Health("fail", __version__, output, {"agent": (Check("fail", output),)})
    body: Any = health
    return Response(body, status_code=503 if health.status == "fail" else 200, media_type=MEDIA_TYPE)


ROUTES = [alive, ready]
