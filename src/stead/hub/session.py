"""Signing in: the token once, in a body, for a cookie that scripts can't read and other sites can't send."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, delete, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.exceptions import NotAuthorizedException
from litestar.params import JSONBody

from stead.hub.gate import Gate
from stead.hub.keys import SESSION_S
from stead.hub.routes import SECURITY, HubRequest, problems, read


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token, as `stead up` printed it."""

    token: Annotated[str, msgspec.Meta(max_length=200)]


class Session(msgspec.Struct, frozen=True):
    """Whom the hub speaks for."""

    person: str


@post("/api/v1/session", status_code=200, opt={"permission": "open"}, security=[], responses=problems(400, 401, 403, 413, 500))
async def sign_in(gate: NamedDependency[Gate], data: JSONBody[Login]) -> Response[Session]:
    """Show the token and get a cookie for 12 hours."""
    if not gate.token.matches(data.token):
        raise NotAuthorizedException("this is not the hub's token")
    cookie = Cookie(
        gate.cookie, value=gate.token.session(gate.now_s()), max_age=SESSION_S, httponly=True, samesite="strict", path="/"
    )
    return Response(Session(gate.token.person), cookies=[cookie])


@read("/api/v1/session")
async def who(request: HubRequest) -> Session:
    """Whom this connection speaks for."""
    return Session(request.user or "")


@delete("/api/v1/session", opt={"permission": "order"}, security=SECURITY, responses=problems(401, 403, 500))
async def sign_out(request: HubRequest, gate: NamedDependency[Gate]) -> Response[None]:
    """Forget the cookie."""
    return Response(
        None, status_code=204, cookies=[Cookie(gate.cookie, value="", max_age=0, httponly=True, samesite="strict", path="/")]
    )


ROUTES = [sign_in, who, sign_out]
