"""OpenAPI 3.1 of everything here, from the same structs that the handlers answer with."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, Router, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, License, Reference, SecurityScheme

from stead import __version__
from stead.hub.orders import AdviceOrder, HoldOrder, ModeOrder, ReasonOrder
from stead.hub.session import Login

BODIES: Final = (AdviceOrder, HoldOrder, Login, ModeOrder, ReasonOrder)  # they forbid unknown keys, and the description says so


def settings(cookie: str) -> OpenAPIConfig:
    """How the description is made; `cookie` is the session cookie's name."""
    schemes: dict[str, SecurityScheme | Reference] = {
        "bearer": SecurityScheme(type="http", scheme="bearer", description="The token that `stead up` prints"),
        "cookie": SecurityScheme(
            type="apiKey", name=cookie, security_scheme_in="cookie", description="Set by POST /api/v1/session"
        ),
    }
    return OpenAPIConfig(
        title="stead",
        version=__version__,
        description="One host: what it does, what is wrong with it, what would help, and what was done.",
        license=License(name="MIT", identifier="MIT"),
        components=Components(security_schemes=schemes),
        use_handler_docstrings=True,
        openapi_router=Router("/api/v1/schema", route_handlers=[], opt={"permission": "read"}, include_in_schema=False),
        render_plugins=[],
    )


def mended(node: Any) -> Any:
    """The description with each `oneOf` that an integer could meet twice (as integer and as number) told once, as number."""
    if isinstance(node, list):
        return [mended(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: mended(value) for key, value in node.items()}
    one_of = found.get("oneOf", [])
    if {"type": "number"} in one_of:
        found["oneOf"] = [item for item in one_of if item != {"type": "integer"}]
    return found


def document(app: Litestar) -> dict[str, Any]:
    """The whole description, as `/openapi.json` serves it."""
    found: dict[str, Any] = mended(app.openapi_schema.to_schema())
    for kind in BODIES:
        found["components"]["schemas"][kind.__name__]["additionalProperties"] = False
    for operation in (operation for item in found["paths"].values() for operation in item.values()):
        operation.setdefault("security", [])  # open, and it says so
    return found


@get("/openapi.json", opt={"permission": "read"}, include_in_schema=False)
async def schema(request: Request[Any, Any, Any]) -> Response[bytes]:
    """OpenAPI 3.1 of everything here."""
    return Response(msgspec.json.encode(document(request.app)), media_type="application/vnd.oai.openapi+json")


ROUTES = [schema]
