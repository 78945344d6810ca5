"""The door: the kernel says who is there, and that decides what they may order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stead import wire
from stead.agent.bus import QUEUE_LIMIT, LocalBus
from stead.agent.door import MAX_A_STRANGER, MAX_STRANGERS, Doorkeeper
from stead.model import messages as m
from stead.model.errors import SteadError
from stead.model.ledger_messages import EraseBlob, RotateKey
from stead.model.policy import Actor

KEY = "the-hubs-key"


class Desk:
    """Answers everything with Done and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Actor]] = []

    async def answer(self, body: Any, person: Actor) -> m.ReplyBody:
        self.asked.append((body, person))
        if isinstance(body, m.GetTop):
            raise ZeroDivisionError("a defect")
        return m.Done()


class Place:
    def __init__(self, path: Path) -> None:
        self.desk, self.bus, self.ours, self.hubs = Desk(), LocalBus(), set[int](), Counter[int]()
        self.door = Doorkeeper(
            str(path / "run" / "agent.sock"), self.desk.answer, self.bus, KEY, (), self.ours.__contains__, self.hubs
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.door.path))

    async def first_words(self) -> list[Any]:
        """What the door says before anything is asked."""
        reader, writer = await self.connect()
        reply = wire.decode_outgoing(await reader.readline())
        writer.close()
        assert isinstance(reply, m.Reply)
        return [reply.body]

    async def ask(self, *bodies: Any, person: str = "") -> list[Any]:
        reader, writer = await self.connect()
        answers = []
        for number, body in enumerate(bodies, 1):
            writer.write(wire.encode(m.Request(number, body, person)))
            reply = wire.decode_outgoing(await reader.readline())
            assert isinstance(reply, m.Reply) and reply.id == number
            answers.append(reply.body)
        writer.close()
        return answers


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(tmp_path)
    await found.door.open()
    yield found
    await found.door.close()


async def test_a_person_is_the_uid_that_the_kernel_names(place: Place) -> None:
    assert await place.ask(m.Undo("x"), person="uid:4711") == [m.Done()]
    assert place.desk.asked == [(m.Undo("x"), Actor("user", f"uid:{os.getuid()}"))]


async def test_the_hub_proves_itself_and_relays_its_tokens_person(place: Place) -> None:
    assert await place.ask(m.Hello(KEY), m.Undo("x"), person="uid:1000") == [m.Done(), m.Done()]
    assert place.desk.asked == [(m.Undo("x"), Actor("user", "uid:1000"))]
    (refused,) = await place.ask(m.Hello("another key"))
    assert refused.code == "hub.key"


async def test_a_process_that_stead_started_is_no_person_but_may_look_and_pause(place: Place) -> None:
    place.ours.add(os.getpid())
    *refused, looked, paused = await place.ask(m.Approve("x", "h"), EraseBlob("x", "y"), RotateKey(), m.GetStatus(), m.Pause())
    assert [problem.code for problem in refused] == ["peer.own-process"] * 3
    assert (looked, paused) == (m.Done(), m.Done())


async def test_strangers_leave_room_for_people(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = 60_000
    monkeypatch.setattr(wire, "peer_credentials", lambda _: (1, uid, uid))
    held = []
    for number in range(MAX_STRANGERS + MAX_A_STRANGER):
        uid = 60_000 + number // MAX_A_STRANGER
        reader, writer = await place.connect()
        writer.write(wire.encode(m.Request(1, m.Pause())))
        reply = wire.decode_outgoing(await reader.readline())
        assert isinstance(reply, m.Reply) and (reply.body == m.Done()) == (number < MAX_STRANGERS)
        held.append(writer)
    uid = os.getuid()
    assert await place.ask(m.GetStatus()) == [m.Done()]
    uid = 70_000
    (refused,) = await place.first_words()
    assert refused.code == "agent.busy"
    for writer in held:
        writer.close()
    while len(place.door.connections) > 0:
        await asyncio.sleep(0.01)
    assert await place.ask(*[m.Pause()] * 3) == [m.Done()] * 3 and place.door.strangers.total() <= 1


async def test_one_stranger_leaves_room_for_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "peer_credentials", lambda _: (1, 60_000, 60_000))
    held = [await place.connect() for _ in range(MAX_A_STRANGER)]
    (refused,) = await place.first_words()
    assert refused.code == "agent.busy"
    for _, writer in held:
        writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another uid")
async def test_a_stranger_may_only_pause(public_path: Path) -> None:
    place = Place(public_path)
    await place.door.open()
    program = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "f = s.makefile('rwb')\n"
        "for line in sys.argv[2:]: f.write(line.encode() + b'\\n'); f.flush(); print(f.readline().decode().strip())"
    )
    lines = [
        wire.encode(m.Request(n, body)).decode().strip()
        for n, body in enumerate((m.GetStatus(), m.Undo("x"), m.Pause("help")), 1)
    ]
    argv = [sys.executable, "-c", program, str(place.door.path), *lines]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    await place.door.close()
    status, undo, pause = (wire.decode_outgoing(line) for line in out.splitlines())
    assert isinstance(status, m.Reply) and isinstance(undo, m.Reply) and isinstance(pause, m.Reply)
    assert status.body.code == undo.body.code == "peer.refused"  # type: ignore[union-attr]
    assert pause.body == m.Done()
    assert place.desk.asked == [(m.Pause("help"), Actor("user", "uid:65534"))]


async def test_a_defect_is_an_answer_and_the_connection_lives_on(place: Place) -> None:
    broken, fine = await place.ask(m.GetTop(), m.GetStatus())
    assert broken.code == "agent.defect" and "ZeroDivisionError" in broken.what
    assert fine == m.Done()


@pytest.mark.parametrize("line", [b"not json\n", b'{"id":1,"body":{"type":"no-such"}}\n', b"x" * (2 << 20) + b"\n"])
async def test_what_is_no_request_gets_one_sentence_and_a_hang_up(place: Place, line: bytes) -> None:
    reader, writer = await place.connect()
    writer.write(line)
    reply = wire.decode_outgoing(await reader.readline())
    assert isinstance(reply, m.Reply) and isinstance(reply.body, m.Problem)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_events_reach_who_asked_for_them_and_one_who_is_too_slow_is_told(place: Place) -> None:
    reader, writer = await place.connect()
    writer.write(wire.encode(m.Request(1, m.Subscribe(("run.*",)))))
    assert wire.decode_outgoing(await reader.readline()) == m.Reply(1, m.Done())
    await asyncio.sleep(0)
    while not place.bus.subscribers:
        await asyncio.sleep(0.01)
    place.bus.publish(m.Event("finding.opened", "f", 1, 1))
    place.bus.publish(m.Event("run.held", "r", 2, 2))
    event = wire.decode_outgoing(await reader.readline())
    assert isinstance(event, m.Event) and (event.type, event.subject) == ("run.held", "r")
    for number in range(QUEUE_LIMIT + 1):
        place.bus.publish(m.Event("run.held", "r", number, number))
    assert next(iter(place.bus.subscribers)).lost
    writer.close()


async def test_a_living_agents_socket_is_never_taken_and_a_dead_ones_is(place: Place, tmp_path: Path) -> None:
    second = Doorkeeper(str(place.door.path), place.desk.answer, place.bus, KEY, (), place.ours.__contains__, place.hubs)
    with pytest.raises(SteadError, match="another agent"):
        await second.open()
    assert place.door.server is not None
    place.door.server.close()
    await second.open()
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o666
    assert stat.S_IMODE(second.path.parent.stat().st_mode) == 0o711
    await second.close()
