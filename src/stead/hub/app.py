"""Wiring of the hub: one function makes the application, one runs the process, from root's start to the last request."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope

from stead.config import load_config
from stead.hub import health, live, openapi, openmetrics, orders, page, reads, session, witness
from stead.hub.gate import Gate, NeedsPermission
from stead.hub.gateway import Gateway
from stead.hub.keys import Token, load_key, load_token
from stead.hub.live import Live
from stead.hub.privilege import RunDirectory, drop, find_user
from stead.hub.problems import from_defect, from_http, from_stead
from stead.hub.serve import Server, bound, listen, log_to_stderr
from stead.model.errors import SteadError
from stead.wire.async_door import AsyncDoor

MAX_BODY_BYTES: Final = 1 << 20


def create_app(gateway: Gateway, token: Token, *, hosts: Iterable[str] = (), live_period_s: float = 1.0) -> Litestar:
    """The application: every route with its permission. `hosts` are the names, beside loopback's, that Host may say."""
    gate, watch = Gate(token, hosts), Live(gateway, live_period_s)
    turnstile = witness.Turnstile()

    @contextlib.asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(gateway.run()), asyncio.create_task(watch.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await gateway.door.close()

    return Litestar(
        [
            *reads.ROUTES,
            *orders.ROUTES,
            *session.ROUTES,
            *health.ROUTES,
            *openmetrics.ROUTES,
            *live.ROUTES,
            *witness.ROUTES,
            *page.routes(),
            *openapi.ROUTES,
        ],
        guards=[gate],
        plugins=[NeedsPermission()],
        dependencies={
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
            "gate": Provide(lambda: gate, sync_to_thread=False),
            "live": Provide(lambda: watch, sync_to_thread=False),
            "turnstile": Provide(lambda: turnstile, sync_to_thread=False),
        },
        exception_handlers={SteadError: from_stead, HTTPException: from_http, Exception: from_defect},
        before_send=[_headers],
        lifespan=[running],
        openapi_config=openapi.settings(gate.cookie),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        debug=False,
    )


async def _headers(message: Message, scope: Scope) -> None:
    """What every answer carries."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in page.HEADERS.items():
            headers[name] = value
        headers.setdefault("cache-control", "no-store")


def main(*, state: str | None = None, config: str | None = None, port: int | None = None) -> int:
    """Run the hub until it is told to stop. Gives the exit code; SteadError when it can't start.

    Everything is imported and opened first: after the drop the hub may not even be able to read its own program.
    """
    settings, paths = load_config(config_path=config, state_dir=state)
    bind, number = settings.hub.bind, settings.hub.port if port is None else port
    user = find_user(settings.hub.user) if os.geteuid() == 0 else None
    try:
        Path(paths.state).mkdir(mode=0o700, parents=True, exist_ok=True)
        run_directory = RunDirectory(paths.run)
        owner = Path(paths.state).stat().st_uid
    except OSError as error:
        fix = "run the hub as the state's owner or as root, or name another directory with --state"
        raise SteadError(
            f"the state can't be used: {error.strerror}", error.filename or paths.state, fix, code="state.unusable"
        ) from None
    door = AsyncDoor(paths.socket, hub_key=load_key(paths.hub_key))
    token, _ = load_token(paths.token, f"uid:{owner}")
    log_to_stderr(settings.log.level)
    server = Server(create_app(Gateway(door, token.person, place=paths.socket), token, hosts=(bind, *settings.hub.hosts)))
    listener = bound(bind, number)
    if user is not None:
        drop(user)
    listen(listener)
    door.path = run_directory.socket()
    return server.run_on(listener)
