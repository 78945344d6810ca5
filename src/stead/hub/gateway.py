"""The hub's view of the agent: the newest answers kept encoded, refreshed when somebody looks, and marked old by events.

While nobody looks the agent is asked only whether it lives, so a hub costs the host almost nothing. When it is away, every
answer is a problem that says so; old answers are never passed off as new.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar, cast

import msgspec

from stead.model import messages as m
from stead.model.errors import EXIT_TIMEOUT, EXIT_UNREACHABLE, SteadError

Name = Literal["status", "metrics", "top", "findings", "proposals", "runs"]
QUESTIONS: Final[dict[Name, tuple[m.RequestBody, type[Any]]]] = {
    "status": (m.GetStatus(), m.Status),
    "metrics": (m.GetMetrics(), m.MetricList),
    "top": (m.GetTop(), m.TopAnswer),
    "findings": (m.ListFindings(), m.FindingList),
    "proposals": (m.ListRuns("proposals"), m.RunList),
    "runs": (m.ListRuns("runs"), m.RunList),
}
FRESH_S: Final[dict[Name, float]] = {
    "status": 0.9,
    "metrics": 0.9,
    "top": 0.9,
    "findings": 15.0,
    "proposals": 15.0,
    "runs": 15.0,
}
TRANSITIONS: Final = tuple(
    f"{kind}.*"
    for kind in (
        *("agent", "finding", "proposal", "decision", "approval", "attempt", "receipt", "verdict", "conflict", "run"),
        *("hold", "autonomy", "infrastructure", "governance"),
    )
)
LIFE_S: Final = 5.0
TIMEOUT_S: Final = 5.0
ONCE_LIMIT: Final = 256
T = TypeVar("T")
log = logging.getLogger("stead.hub")


class Door(Protocol):
    """What the gateway needs of `stead.wire.AsyncDoor`."""

    path: str

    async def ask(self, body: m.RequestBody, *, person: str = "", timeout_s: float | None = None) -> m.ReplyBody:
        """Ask one question."""

    def events(
        self, topics: Sequence[str] = ("*",), *, on_connect: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[m.Event]:
        """Listen."""

    async def close(self) -> None:
        """Hang up."""


class Kept:
    """One answer of the agent, as a value and, once asked for, as bytes with their ETag."""

    __slots__ = ("_body", "_etag", "at_s", "value")

    def __init__(self, value: Any, at_s: float) -> None:
        self.value, self.at_s = value, at_s
        self._body = self._etag = b""

    @property
    def body(self) -> bytes:
        """The JSON."""
        if not self._body:
            self._body = msgspec.json.encode(self.value)
        return self._body

    @property
    def etag(self) -> str:
        """A strong validator of the body."""
        if not self._etag:
            self._etag = hashlib.blake2b(self.body, digest_size=12).hexdigest().encode()
        return f'"{self._etag.decode()}"'


class Gateway:
    """The only way from the hub to the agent."""

    def __init__(self, door: Door, person: str, clock_s: Callable[[], float] = time.monotonic, *, place: str = "") -> None:
        self.door, self.person = door, person
        self._place = place  # the socket as people know it; the door's own path may be a handle to it
        self._clock_s = clock_s
        self._kept: dict[Name, Kept] = {}
        self._asking: dict[Name, asyncio.Task[Kept]] = {}
        self._once: OrderedDict[str, tuple[bytes, asyncio.Future[Any]]] = OrderedDict()

    async def run(self) -> None:
        """Listen to the agent, and see that it lives, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._watch_life())

    async def ask(self, body: m.RequestBody, expect: type[T]) -> T:
        """Ask the agent in the token's person's name. SteadError for a problem, or when it is away."""
        try:
            answer = await self.door.ask(body, person=self.person, timeout_s=TIMEOUT_S)
        except SteadError as error:
            if error.problem.exit_code not in (EXIT_UNREACHABLE, EXIT_TIMEOUT):
                raise
            what = error.problem.what.replace(self.door.path, self._place or self.door.path)
            raise SteadError.of(msgspec.structs.replace(error.problem, what=what)) from None
        if not isinstance(answer, expect):
            raise SteadError("the agent gave another answer than asked for", "agent", "update both", code="agent.defect")
        return answer

    async def order(self, body: m.RequestBody, expect: type[T], once: str = "") -> T:
        """Ask for a change, then forget what was kept. The same `once` gives the first answer again, and acts only once."""
        if not once:
            return await self._change(body, expect)
        wanted = msgspec.json.encode(body)
        if once in self._once:
            before, future = self._once[once]
            if before != wanted:
                what = "this Idempotency-Key was used for another request"
                raise SteadError(what, "Idempotency-Key", "use a new key", code="hub.reused")
            return cast(T, await asyncio.shield(future))
        task = asyncio.ensure_future(self._change(body, expect))
        task.add_done_callback(lambda done: self._ordered(once, done))
        self._once[once] = (wanted, task)
        while len(self._once) > ONCE_LIMIT:
            self._once.popitem(last=False)
        return await asyncio.shield(task)

    async def get(self, name: Name) -> Kept:
        """The newest answer, asked for again when it is too old; many who wait share one question. SteadError when away."""
        kept = self._kept.get(name)
        if kept is not None and self._clock_s() - kept.at_s <= FRESH_S[name]:
            return kept
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.ensure_future(self._refresh(name))
            task.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(task)

    def forget(self, *names: Name) -> None:
        """What was kept under these names is old now."""
        for name in names or QUESTIONS:
            self._kept.pop(name, None)
            self._asking.pop(name, None)  # what is under way may have been answered before

    async def _refresh(self, name: Name) -> Kept:
        question, expect = QUESTIONS[name]
        kept = Kept(await self.ask(question, expect), self._clock_s())
        if self._asking.get(name) is asyncio.current_task():
            self._kept[name] = kept
        return kept

    def _asked(self, name: Name, task: asyncio.Task[Kept]) -> None:
        if self._asking.get(name) is task:
            del self._asking[name]
        if not task.cancelled():
            task.exception()  # looked at here, because those who waited may be gone

    def _ordered(self, once: str, task: asyncio.Future[Any]) -> None:
        """An order that never reached the agent may be given again under the same key."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SteadError) and error.problem.code == "agent.unreachable":
            self._once.pop(once, None)

    async def _change(self, body: m.RequestBody, expect: type[T]) -> T:
        try:
            return await self.ask(body, expect)
        finally:
            self.forget()

    async def _listen(self) -> None:
        """Events only mark what is kept as old: the agent stays the one source of truth."""
        while True:
            try:
                async with contextlib.aclosing(cast(Any, self.door.events(TRANSITIONS, on_connect=self._connected))) as events:
                    async for event in events:
                        self._heard(event)
            except SteadError as error:
                log.error("the agent does not let this hub listen: %s", error)
            await asyncio.sleep(LIFE_S)

    async def _connected(self) -> None:
        self.forget()

    def _heard(self, event: m.Event) -> None:
        self.forget("status")
        if event.finding is not None or event.type.startswith("finding."):
            self.forget("findings")
        if event.run is not None or not event.type.startswith("finding."):
            self.forget("proposals", "runs")

    async def _watch_life(self) -> None:
        while True:
            with contextlib.suppress(SteadError):
                await self.get("status")
            await asyncio.sleep(LIFE_S)
