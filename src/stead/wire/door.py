"""The blocking client: one question, one answer. The command line uses it, and so can any script."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar, overload

from stead.model.errors import Problem, SteadError
from stead.model.messages import Event, Hello, Reply, ReplyBody, Request, RequestBody, Subscribe
from stead.wire.codec import LINE_LIMIT, decode_outgoing, encode
from stead.wire.errors import lost, too_slow, unreachable

T = TypeVar("T")


class Line:
    """One connection, read and written a line at a time."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self.path, self.timeout_s = path, timeout_s
        self._buffer = bytearray()
        self._seen = 0  # bytes of the buffer already searched for a newline
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(timeout_s)
            self._sock.connect(path)
        except OSError as error:
            self._sock.close()
            raise unreachable(path, error) from None

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._sock.fileno()

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def send(self, line: bytes) -> None:
        """Write one line. SteadError when the agent has gone or takes nothing."""
        try:
            self._sock.settimeout(self.timeout_s)
            self._sock.sendall(line)
        except TimeoutError:
            raise too_slow(self.path, self.timeout_s) from None
        except OSError:
            raise lost(self.path) from None

    def receive(self, timeout_s: float | None) -> bytes | None:
        """Read one line; None when it did not come within `timeout_s` (None: wait for ever). SteadError on hang-up."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            end = self._buffer.find(b"\n", self._seen)
            if end >= 0:
                line = bytes(self._buffer[: end + 1])
                del self._buffer[: end + 1]
                self._seen = 0
                return line
            self._seen = len(self._buffer)
            if self._seen > LINE_LIMIT:
                decode_outgoing(bytes(self._buffer))  # raises: too long
            if not self._more(deadline):
                return None

    def _more(self, deadline: float | None) -> bool:
        """Wait for further bytes; False when the deadline has passed."""
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        try:
            self._sock.settimeout(left)
            piece = self._sock.recv(65536)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            raise lost(self.path) from None
        if not piece:
            raise lost(self.path)
        self._buffer += piece
        return True


class Feed:
    """A subscription of its own: events as they come, or None when a while passes without one."""

    def __init__(self, path: str, topics: Sequence[str] = ("*",), *, timeout_s: float = 10.0, key: str = "") -> None:
        self._line = Line(path, timeout_s)
        self._early: list[Event] = []  # events that overtook the answer to Subscribe
        try:
            if key:
                self._ask(1, Hello(key))
            self._ask(2, Subscribe(tuple(topics)))
        except BaseException:
            self._line.close()
            raise

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._line.fileno()

    def next(self, timeout_s: float | None = None) -> Event | None:
        """Wait for an event, at most `timeout_s` (None: for ever). SteadError when the agent hangs up."""
        if self._early:
            return self._early.pop(0)
        while (line := self._line.receive(timeout_s)) is not None:
            message = decode_outgoing(line)
            if isinstance(message, Event):
                return message
        return None

    def close(self) -> None:
        """Unsubscribe."""
        self._line.close()

    def _ask(self, number: int, body: RequestBody) -> None:
        self._line.send(encode(Request(number, body)))
        answer = answer_to(self._line, number, self._early)
        if isinstance(answer, Problem):
            raise SteadError.of(answer)


class Door:
    """A client of the agent's socket. Connects when first asked, and again after the agent has gone."""

    def __init__(self, path: str, *, timeout_s: float = 10.0, hub_key: str = "") -> None:
        self.path, self.timeout_s = path, timeout_s
        self._key = hub_key
        self._line: Line | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    @overload
    def ask(self, body: RequestBody) -> ReplyBody: ...
    @overload
    def ask(self, body: RequestBody, expect: type[T]) -> T: ...
    def ask(self, body: RequestBody, expect: type[T] | None = None) -> ReplyBody | T:
        """Ask and wait for the answer, of type `expect` if given. SteadError for a problem, silence or no agent."""
        try:
            answer = self._round_trip(body)
        except SteadError:
            self.close()
            raise
        if isinstance(answer, Problem):
            raise SteadError.of(answer)
        return checked(answer, expect) if expect is not None else answer

    def events(self, topics: Sequence[str] = ("*",)) -> Iterator[Event]:
        """Give events as they come, on a connection of their own. SteadError when the agent hangs up."""
        feed = Feed(self.path, topics, timeout_s=self.timeout_s, key=self._key)
        try:
            while True:
                event = feed.next()
                if event is not None:
                    yield event
        finally:
            feed.close()

    def _round_trip(self, body: RequestBody) -> ReplyBody:
        if self._line is None:
            self._line = Line(self.path, self.timeout_s)
            if self._key:
                self._send(self._line, Hello(self._key))
        return self._send(self._line, body)

    def _send(self, line: Line, body: RequestBody) -> ReplyBody:
        self._number += 1
        line.send(encode(Request(self._number, body)))
        return answer_to(line, self._number, None)


def answer_to(line: Line, number: int, events: list[Event] | None) -> ReplyBody:
    """Read until the reply to request `number`; events on the way are kept in `events`. SteadError when it does not come."""
    deadline = time.monotonic() + line.timeout_s
    while (raw := line.receive(max(deadline - time.monotonic(), 0.0))) is not None:
        message = decode_outgoing(raw)
        if isinstance(message, Reply) and message.id in (number, 0):  # 0: the agent could not read even our id
            return message.body
        if isinstance(message, Event) and events is not None:
            events.append(message)
    raise too_slow(line.path, line.timeout_s)


def checked(answer: ReplyBody, expect: type[T]) -> T:
    """Give the answer if it is what was expected. SteadError otherwise: the two sides are of different versions."""
    if isinstance(answer, expect):
        return answer
    what = f"the agent answered with {type(answer).__name__} where {expect.__name__} was expected"
    fix = "use the same version of stead on both sides"
    raise SteadError(what, "agent socket", fix, code="wire.unexpected")
