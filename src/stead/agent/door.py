"""The agent's door: a Unix socket that speaks JSON lines with whoever the kernel says is there.

The kernel names the peer (SO_PEERCRED). Root, the agent's own uid and `agent.admins` are people who may order; the hub
proves itself with its key and then speaks for its token's person; anyone else may only pause. A process that stead's own
workloads or runs started is never a person: what it asks to change is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from stead import wire
from stead.agent.bus import LocalBus, Subscriber
from stead.model import messages as m
from stead.model.advice import ApplyAdvice
from stead.model.errors import EXIT_FAILURE, Problem, SteadError
from stead.model.ledger_messages import EraseBlob, RotateKey
from stead.model.policy import Actor

MAX_CONNECTIONS: Final = 64
MAX_STRANGERS: Final = 32  # of them by uids that may only pause (the hub is one until it has said who it is)
MAX_A_STRANGER: Final = 8
MAX_LINE: Final = 1 << 20
ORDERS: Final = (m.Approve, m.Deny, m.Undo, m.Cancel, m.Lift, m.Resume, m.SetAutonomy, RotateKey, EraseBlob, ApplyAdvice)
FREE: Final = (m.Pause, m.Hello)


class Peer(msgspec.Struct):
    """Who is at the other end of one connection."""

    pid: int
    uid: int
    hub: bool = False

    def person(self, named: str) -> Actor:
        """The person behind a request: the hub relays its token's; anyone else is their uid."""
        return Actor("user", named) if self.hub and named else Actor("hub" if self.hub else "user", f"uid:{self.uid}")


Answer = Callable[[Any, Actor], Awaitable[m.ReplyBody]]


class Doorkeeper:
    """Accepts connections, tells people from strangers, and passes requests on to `answer`."""

    def __init__(
        self,
        path: str,
        answer: Answer,
        bus: LocalBus,
        hub_key: str,
        admins: tuple[int, ...],
        ours: Callable[[int], bool],
        hubs: Counter[int],
    ) -> None:
        self.path, self.answer, self.bus = Path(path), answer, bus
        self.hub_key = hub_key
        self.people = {0, os.geteuid(), *admins}
        self.ours = ours  # was this pid started by a workload or a run of ours?
        self.hubs = hubs  # pids that proved themselves as our hub
        self.server: asyncio.Server | None = None
        self.connections: set[asyncio.StreamWriter] = set()
        self.strangers: Counter[int] = Counter()  # uid → its connections

    async def open(self) -> None:
        """Listen. The run directory is 0711 and the socket 0666: who may do what is decided by peer credentials."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.parent.chmod(0o711)
        if self.path.exists():
            if answers(self.path):
                raise SteadError(
                    "another agent answers here",
                    str(self.path),
                    "stop it first, or give this one its own --state",
                    code="agent.running",
                )
            self.path.unlink()
        self.server = await asyncio.start_unix_server(self._serve, str(self.path), limit=MAX_LINE)
        self.path.chmod(0o666)

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self.server is None:
            return
        self.server.close()
        for writer in list(self.connections):
            writer.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid, _ = wire.peer_credentials(writer.get_extra_info("socket"))
        peer = Peer(pid, uid)
        self.connections.add(writer)
        strange = uid not in self.people
        self.strangers[uid] += strange
        listening: list[asyncio.Task[None]] = []
        try:
            if self._crowded(uid):
                raise SteadError(
                    "too many connections to the agent", str(self.path), "close some and try again", code="agent.busy"
                )
            while line := await reader.readline():
                await self._one(line, peer, writer, listening)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except (SteadError, ValueError) as error:
            problem = (
                error.problem if isinstance(error, SteadError) else Problem("line too long", "agent socket", "", "wire.malformed")
            )
            with contextlib.suppress(ConnectionError):
                writer.write(wire.encode(m.Reply(0, problem)))
                await writer.drain()
        finally:
            for task in listening:
                task.cancel()
            self.connections.discard(writer)
            self.strangers[uid] -= strange
            if peer.hub:
                self.hubs.subtract((peer.pid,))
            writer.close()

    def _crowded(self, uid: int) -> bool:
        """Are there too many connections for one more of this uid? Strangers can't fill the room that people need."""
        of_uid, of_all = self.strangers[uid], self.strangers.total()
        return of_uid > MAX_A_STRANGER or (of_uid > 0 and of_all > MAX_STRANGERS) or len(self.connections) > MAX_CONNECTIONS

    async def _one(self, line: bytes, peer: Peer, writer: asyncio.StreamWriter, listening: list[asyncio.Task[None]]) -> None:
        request = wire.decode_request(line)
        body = request.body
        try:
            self._admit(body, peer)
            if isinstance(body, m.Hello):
                peer.hub = True
                self.hubs[peer.pid] += 1
                reply: m.ReplyBody = m.Done()
            elif isinstance(body, m.Subscribe):
                listening.append(asyncio.create_task(self._tell(writer, body.topics)))
                reply = m.Done()
            else:
                reply = await self.answer(body, peer.person(request.person))
        except SteadError as error:
            reply = error.problem
        except Exception as error:  # a defect answers as one, and the connection lives on
            reply = Problem(
                f"the agent failed to answer: {type(error).__name__}: {error}",
                "agent",
                "see stead.log",
                "agent.defect",
                EXIT_FAILURE,
            )
        writer.write(wire.encode(m.Reply(request.id, reply)))
        await writer.drain()

    def _admit(self, body: Any, peer: Peer) -> None:
        if isinstance(body, m.Hello):
            if not hmac.compare_digest(body.key.encode(), self.hub_key.encode()):
                raise SteadError(
                    "the hub's key is not this agent's", "hub.key", "start the hub on the same state", code="hub.key"
                )
            return
        if isinstance(body, FREE) or peer.hub:
            return
        if peer.uid not in self.people:
            raise SteadError(
                f"uid {peer.uid} may only pause here",
                str(self.path),
                "use root, the agent's own user or one of agent.admins",
                code="peer.refused",
            )
        if isinstance(body, ORDERS) and self.ours(peer.pid):
            raise SteadError(
                "a process that stead started is not a person",
                f"pid {peer.pid}",
                "order from your own shell",
                code="peer.own-process",
            )

    async def _tell(self, writer: asyncio.StreamWriter, topics: tuple[str, ...]) -> None:
        waker = asyncio.Event()
        subscriber = self.bus.subscribe(topics, waker.set)
        try:
            while not subscriber.lost:
                await waker.wait()
                waker.clear()
                await drain(subscriber, writer)
            writer.write(wire.encode(m.Reply(0, Problem("this listener was too slow", "events", "connect again", "events.lost"))))
        except ConnectionError:
            pass
        finally:
            self.bus.unsubscribe(subscriber)
            writer.close()


async def drain(subscriber: Subscriber, writer: asyncio.StreamWriter) -> None:
    """Write what is queued."""
    while subscriber.queue:
        writer.write(wire.encode(subscriber.queue.popleft()))
    await writer.drain()


def answers(path: Path) -> bool:
    """Does somebody listen on this socket?"""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
