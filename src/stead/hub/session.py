"""Signing in: the token once, in a body, for a cookie that scripts can't read and other sites can't send."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, Response, delete, post
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


class Sessions(Controller):
    """Signing in and out, and who one is."""

    path = "/api/v1/session"
    opt = {"permission": "open"}  # signing in; the others say theirs

    @post("/", status_code=200, security=[], responses=problems(400, 401, 403, 413, 500))
    async def sign_in(self, gate: NamedDependency[Gate], data: JSONBody[Login]) -> Response[Session]:
        """Show the token and get a cookie for 12 hours."""
        if not gate.token.matches(data.token):
            raise NotAuthorizedException("this is not the hub's token")
        return Response(Session(gate.token.person), cookies=[_cookie(gate, gate.token.session(gate.now_s()), SESSION_S)])

    @read("/")
    async def who(self, request: HubRequest) -> Session:
        """Whom this connection speaks for."""
        return Session(request.user or "")

    @delete("/", status_code=200, opt={"permission": "order"}, security=SECURITY, responses=problems(401, 403, 500))
    async def sign_out(self, gate: NamedDependency[Gate]) -> Response[Session]:
        """Forget the cookie: nobody is signed in by it any more."""
        return Response(Session(""), cookies=[_cookie(gate, "", 0)])


def _cookie(gate: Gate, value: str, max_age_s: int) -> Cookie:
    return Cookie(gate.cookie, value=value, max_age=max_age_s, httponly=True, samesite="strict", path="/")


ROUTES = [Sessions]
