"""Who may come in, decided before any handler runs: the Host header, the Origin, the token, and a declared permission.

A page on the internet can make a browser talk to loopback. It can't forge Host (against DNS rebinding) or Origin
(against cross-site posts and sockets), and no header of ours invites it (no CORS).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute, WebSocketRoute

from stead.hub.keys import Token

PERMISSIONS: Final = ("open", "witness", "read", "order")
NO_TOKEN: Final = ("open", "witness")  # a log that asks a witness has none: the signature on its checkpoint stands for one
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
SAFE: Final = ("GET", "HEAD", "OPTIONS")
Connection = ASGIConnection[Any, Any, Any, Any]


class NeedsPermission(ReceiveRoutePlugin):
    """Refuses to register a handler that does not say who may call it."""

    __slots__ = ()

    def receive_route(self, route: BaseRoute) -> None:
        """Look at each handler of a new route. ImproperlyConfiguredException when one has no permission."""
        for handler in handlers_of(route):
            if handler.opt.get("permission") not in PERMISSIONS and not _is_options(handler):
                raise ImproperlyConfiguredException(f"the handler at {route.path} declares no permission")


class Gate:
    """The guard of every route."""

    def __init__(self, token: Token, hosts: Iterable[str] = (), clock_s: Callable[[], float] = time.time) -> None:
        self.token = token
        self.cookie = f"stead_{token.id}"
        self.hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self._clock_s = clock_s

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Let a connection through, with its person in `user`, or raise 400, 401 or 403."""
        self._check_host(connection)
        changes = connection.scope["type"] == ScopeType.WEBSOCKET or connection.scope.get("method") not in SAFE
        if changes:
            self._check_origin(connection)
        connection.scope["user"] = None
        if _is_options(handler) or handler.opt["permission"] in NO_TOKEN:
            return
        by = self.who(connection)
        if by is None and handler.opt.get("first_message"):
            return
        if by is None:
            raise NotAuthorizedException("show the token", headers={"WWW-Authenticate": 'Bearer realm="stead"'})
        if by == "cookie" and changes and "origin" not in connection.headers:
            raise PermissionDeniedException("a change by cookie must say its Origin")
        connection.scope["user"] = self.token.person

    def who(self, connection: Connection) -> Literal["bearer", "cookie"] | None:
        """How the connection proved itself, if it did."""
        scheme, _, text = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.token.matches(text.strip()):
            return "bearer"
        value = connection.cookies.get(self.cookie, "")
        return "cookie" if value and self.token.in_session(value, self.now_s()) else None

    def now_s(self) -> int:
        """Unix seconds."""
        return int(self._clock_s())

    def _check_host(self, connection: Connection) -> None:
        name = _host_name(connection.headers.get("host", ""))
        if name not in self.hosts:
            raise PermissionDeniedException("this name is not one of the hub's: add it to hub.hosts")

    def _check_origin(self, connection: Connection) -> None:
        origin = connection.headers.get("origin")
        if origin is None:
            return
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or parts.netloc.lower() != connection.headers.get("host", "").lower():
            raise PermissionDeniedException("another site may not do this")


def handlers_of(route: BaseRoute) -> list[BaseRouteHandler]:
    """The handlers behind one path."""
    if isinstance(route, HTTPRoute):
        return [handler for handler, _ in route.route_handler_map.values()]
    return [route.route_handler] if isinstance(route, WebSocketRoute) else []


def _host_name(header: str) -> str:
    """The name in a Host header, without port and brackets; empty when it is malformed."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _is_options(handler: BaseRouteHandler) -> bool:
    """Litestar answers OPTIONS by itself, with the methods that a path has and nothing else."""
    return getattr(handler, "http_methods", None) == {"OPTIONS"}
