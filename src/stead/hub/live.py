"""The live view: each watcher gets one snapshot, then what changed, once a second, encoded once for all of them.

A watcher that does not keep up is dropped rather than waited for; it may come back, and gets a snapshot again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

import msgspec
from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect

from stead.hub.gate import Gate
from stead.hub.gateway import Gateway
from stead.model import messages as m
from stead.model.change import Run
from stead.model.errors import Problem, SteadError
from stead.model.find import Finding
from stead.model.observe import Top

PERIOD_S: Final = 1.0
BACKLOG: Final = 8
LOGIN_S: Final = 5.0
CLOSE_S: Final = 1.0
MAX_WATCHERS: Final = 32
TOO_SLOW, NOT_SIGNED_IN, TOO_MANY = 4408, 4401, 4429


class Snapshot(msgspec.Struct, frozen=True, tag_field="kind", tag="snapshot"):
    """Everything that a page shows. `problem` says why the rest is empty."""

    at_ms: int
    problem: Problem | None
    status: m.Status | None = None
    metrics: tuple[m.MetricView, ...] = ()
    unsupported: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()
    proposals: tuple[Run, ...] = ()
    runs: tuple[Run, ...] = ()
    top: Top | None = None


class Delta(msgspec.Struct, frozen=True, tag_field="kind", tag="delta", omit_defaults=True):
    """What changed since the message before: metrics one by one (`gone`: metric and subject), lists as a whole."""

    at_ms: int
    problem: Problem | None = None
    status: m.Status | None = None
    metrics: tuple[m.MetricView, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] | None = None
    proposals: tuple[Run, ...] | None = None
    runs: tuple[Run, ...] | None = None
    top: Top | None = None


def difference(old: Snapshot, new: Snapshot) -> Delta:
    """What to tell somebody who has `old`. A metric that only has a newer time has not changed."""
    before = {(view.metric, view.subject): view for view in old.metrics}
    after = {(view.metric, view.subject): view for view in new.metrics}
    changed = tuple(view for key, view in after.items() if key not in before or _differs(before[key], view))
    return Delta(
        new.at_ms,
        new.problem,
        new.status if new.status != old.status else None,
        changed,
        tuple(key for key in before if key not in after),
        new.findings if new.findings != old.findings else None,
        new.proposals if new.proposals != old.proposals else None,
        new.runs if new.runs != old.runs else None,
        new.top if new.top != old.top else None,
    )


def _differs(old: m.MetricView, new: m.MetricView) -> bool:
    return (old.value, old.band, old.reason) != (new.value, new.band, new.reason)


class Watcher:
    """One page that watches: what it has still to be told, and whether it was too slow."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG)
        self.dropped = asyncio.Event()

    def tell(self, message: bytes) -> None:
        """Queue a message, or drop the watcher when it is this far behind."""
        if self.queue.full():
            self.dropped.set()
        else:
            self.queue.put_nowait(message)


class Live:
    """Looks at the agent once a second while anybody watches, and hands each watcher what changed."""

    def __init__(self, gateway: Gateway, period_s: float = PERIOD_S) -> None:
        self.gateway, self.period_s = gateway, period_s
        self._watchers: set[Watcher] = set()
        self._last: Snapshot | None = None

    async def join(self) -> Watcher:
        """Begin to watch: the first message is a snapshot. SteadError when too many watch."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise SteadError("too many watch already", "live", "close a page", code="hub.busy")
        if self._last is None or not self._watchers:
            self._last = await self._look()
        watcher = Watcher()
        watcher.tell(msgspec.json.encode(self._last))
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Watch no more."""
        self._watchers.discard(watcher)

    async def run(self) -> None:
        """Once a second, until cancelled."""
        while True:
            await asyncio.sleep(self.period_s)
            if self._watchers:
                await self.tell()

    async def tell(self) -> None:
        """Look once, and queue the difference for everybody."""
        new = await self._look()
        old, self._last = self._last or new, new
        message = msgspec.json.encode(difference(old, new))
        for watcher in list(self._watchers):
            watcher.tell(message)
            if watcher.dropped.is_set():
                self._watchers.discard(watcher)

    async def _look(self) -> Snapshot:
        at_ms = int(time.time() * 1000)
        get = self.gateway.get
        try:
            status, metrics, top = (await get("status")).value, (await get("metrics")).value, (await get("top")).value
            findings, proposals = (await get("findings")).value, (await get("proposals")).value
            runs = (await get("runs")).value
        except SteadError as error:
            return Snapshot(at_ms, error.problem)
        return Snapshot(
            at_ms, None, status, metrics.metrics, metrics.unsupported, findings.findings, proposals.runs, runs.runs, top.top
        )


@websocket("/api/v1/live", opt={"permission": "read", "first_message": True})
async def live(socket: WebSocket[Any, Any, Any], live: NamedDependency[Live], gate: NamedDependency[Gate]) -> None:
    """One watcher. Without cookie or Authorization the first message must be {"token": "…"}: a token is never in an address."""
    await socket.accept()
    if socket.scope["user"] is None and not await _shows_token(socket, gate):
        await socket.close(NOT_SIGNED_IN, "show the token")
        return
    try:
        watcher = await live.join()
    except SteadError as error:
        await socket.close(TOO_MANY, error.problem.what)
        return
    tasks = [asyncio.create_task(work) for work in (_until_closed(socket), _pass_on(socket, watcher), watcher.dropped.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        live.leave(watcher)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if watcher.dropped.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await socket.close(TOO_SLOW, "too slow; connect again")


async def _shows_token(socket: WebSocket[Any, Any, Any], gate: NamedDependency[Gate]) -> bool:
    try:
        async with asyncio.timeout(LOGIN_S):
            said = await socket.receive_data("text")
        return gate.token.matches(str(msgspec.json.decode(said, type=dict[str, str]).get("token", "")))
    except (TimeoutError, msgspec.MsgspecError, WebSocketDisconnect):
        return False


async def _pass_on(socket: WebSocket[Any, Any, Any], watcher: Watcher) -> None:
    while True:
        await socket.send_data((await watcher.queue.get()).decode(), "text")


async def _until_closed(socket: WebSocket[Any, Any, Any]) -> None:
    """What a watcher says after signing in is of no interest; that it is gone, is."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_data("text")


ROUTES = [live]
