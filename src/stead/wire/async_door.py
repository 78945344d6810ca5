"""The client of the agent's socket for the hub: many questions at once on one connection, and events that survive a restart.

A question is never sent twice: when the connection breaks before the answer, the asker is told so. A subscription is: it
reconnects with back-off until its iterator is closed, and tells its owner through `on_connect`, who then asks for the
state that was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar, overload

from stead.model.errors import EXIT_TIMEOUT, EXIT_UNREACHABLE, Problem, SteadError
from stead.model.messages import Event, Hello, Reply, ReplyBody, Request, RequestBody, Subscribe
from stead.wire.codec import LINE_LIMIT, decode_outgoing, encode
from stead.wire.door import checked
from stead.wire.errors import lost, too_slow, unreachable

T = TypeVar("T")
FIRST_WAIT_S = 0.1
QUEUE_LENGTH = 4_000  # events that an iterator may lag behind
LONGEST_WAIT_S = 5.0


class Connection:
    """One open connection: its reader task gives replies to those who wait and events to a queue."""

    def __init__(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.path = path
        self.events: asyncio.Queue[Event | SteadError] = asyncio.Queue(QUEUE_LENGTH)
        self._reader, self._writer = reader, writer
        self._number = 0
        self._waiting: dict[int, asyncio.Future[ReplyBody]] = {}
        self._ended: SteadError | None = None
        self._task = asyncio.create_task(self._read(), name="stead-wire-reader")

    @classmethod
    async def open(cls, path: str, key: str, timeout_s: float) -> Connection:
        """Connect, and say hello with the key if there is one. SteadError when nobody answers or the key is refused."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
        except TimeoutError:
            raise too_slow(path, timeout_s) from None
        except OSError as error:
            raise unreachable(path, error) from None
        connection = cls(path, reader, writer)
        try:
            if key:
                await connection.ask(Hello(key), "", timeout_s)
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def closed(self) -> bool:
        """Nothing more will come."""
        return self._ended is not None

    async def ask(self, body: RequestBody, person: str, timeout_s: float) -> ReplyBody:
        """Send one request and wait for its reply. SteadError for a problem, a timeout or a hang-up."""
        if self._ended is not None:
            raise self._ended
        self._number += 1
        number = self._number
        future: asyncio.Future[ReplyBody] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(encode(Request(number, body, person)))
                await self._writer.drain()
                answer = await future
        except TimeoutError:
            raise too_slow(self.path, timeout_s) from None
        except OSError:
            raise lost(self.path) from None
        finally:
            self._waiting.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()  # looked at, so that a lost connection is reported once, to the asker
        if isinstance(answer, Problem):
            raise SteadError.of(answer)
        return answer

    async def close(self) -> None:
        """Hang up; whoever still waits is told."""
        self._task.cancel()
        await asyncio.wait({self._task})
        self._end(lost(self.path))
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        """Take in lines until the agent hangs up or sends what can't be read."""
        try:
            while line := await self._reader.readline():
                self._take(decode_outgoing(line))
            self._end(lost(self.path))
        except SteadError as error:
            self._end(error)
        except (OSError, ValueError):  # ValueError: a line beyond the limit
            self._end(lost(self.path))

    def _take(self, message: Reply | Event) -> None:
        if isinstance(message, Event):
            self._queue(message)
            return
        future = self._waiting.get(message.id)
        if future is not None and not future.done():
            future.set_result(message.body)

    def _queue(self, event: Event | SteadError) -> None:
        """Keep an event for the iterator; when it does not keep up, the oldest goes (its `seq` shows the gap)."""
        if self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(event)

    def _end(self, error: SteadError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._queue(error)


class AsyncDoor:
    """A client of the agent's socket for asyncio. Safe to use from many tasks of one loop."""

    def __init__(self, path: str, hub_key: str = "", *, timeout_s: float = 10.0) -> None:
        self.path, self.timeout_s = path, timeout_s
        self._key = hub_key
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether the connection for questions stands at this moment."""
        return self._connection is not None and not self._connection.closed

    @overload
    async def ask(self, body: RequestBody, *, person: str = "", timeout_s: float | None = None) -> ReplyBody: ...
    @overload
    async def ask(self, body: RequestBody, expect: type[T], *, person: str = "", timeout_s: float | None = None) -> T: ...
    async def ask(
        self, body: RequestBody, expect: type[T] | None = None, *, person: str = "", timeout_s: float | None = None
    ) -> ReplyBody | T:
        """Ask and wait for the answer, of type `expect` if given. SteadError for a problem, silence or no agent."""
        connection = await self._open()
        answer = await connection.ask(body, person, self.timeout_s if timeout_s is None else timeout_s)
        return checked(answer, expect) if expect is not None else answer

    async def events(
        self, topics: Sequence[str] = ("*",), *, on_connect: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Event]:
        """Give events for ever, on a connection of their own that is opened again whenever it breaks.

        `on_connect` is awaited after each subscription, the first included, before its first event. A refusal (a wrong
        hub key, an unreadable answer) is raised: waiting would not mend it.
        """
        wait_s = FIRST_WAIT_S
        while True:
            connection: Connection | None = None
            try:
                connection = await Connection.open(self.path, self._key, self.timeout_s)
                await connection.ask(Subscribe(tuple(topics)), "", self.timeout_s)
                wait_s = FIRST_WAIT_S
                if on_connect is not None:
                    await on_connect()
                while not isinstance(event := await connection.events.get(), SteadError):
                    yield event
            except SteadError as error:
                if error.problem.exit_code not in (EXIT_UNREACHABLE, EXIT_TIMEOUT):
                    raise
            finally:
                if connection is not None:
                    await connection.close()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def close(self) -> None:
        """Hang up. Iterators over events end when they are closed themselves."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _open(self) -> Connection:
        """The connection for questions, opened if there is none."""
        async with self._opening:
            if self._connection is not None and self._connection.closed:
                await self.close()
            if self._connection is None:
                self._connection = await Connection.open(self.path, self._key, self.timeout_s)
            return self._connection
