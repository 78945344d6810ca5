"""The blocking client against a real socket: answers, problems, silence, hang-ups, and nobody there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stead.model import messages as m
from stead.model.errors import EXIT_APPROVAL, EXIT_TIMEOUT, EXIT_UNREACHABLE, SteadError
from stead.wire import LINE_LIMIT, Door, Feed, encode
from tests.cli.fake_agent import T0, FakeAgent, finding


def event(seq: int) -> m.Event:
    return m.Event("finding.opened", "f", T0, seq, finding=finding())


def ask(path: str, body: m.RequestBody, expect: type[object] = object, **options: Any) -> object:
    """One question on a connection of its own."""
    with Door(path, **options) as door:
        return door.ask(body, expect)


def test_it_asks_and_gives_the_answer(agent: FakeAgent) -> None:
    with Door(str(agent.path)) as door:
        assert door.ask(m.GetStatus(), m.Status).host == "box"
        assert isinstance(door.ask(m.GetTop()), m.TopAnswer)
    assert agent.asked == [m.GetStatus(), m.GetTop()]
    assert agent.peers == [(os.getpid(), os.getuid(), os.getgid())]


def test_a_problem_is_raised_as_it_came(agent: FakeAgent) -> None:
    agent.refuse(m.GetStatus)
    with pytest.raises(SteadError) as caught:
        ask(str(agent.path), m.GetStatus())
    assert caught.value.problem.exit_code == EXIT_APPROVAL
    assert "one more approval" in str(caught.value)


def test_the_hub_says_its_key_first(agent: FakeAgent) -> None:
    ask(str(agent.path), m.GetStatus(), hub_key="k")
    assert agent.asked == [m.Hello("k"), m.GetStatus()]


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SteadError) as caught:
        ask(str(tmp_path / "none.sock"), m.GetStatus())
    assert caught.value.problem.exit_code == EXIT_UNREACHABLE
    assert "no agent answers at" in str(caught.value) and "`stead up`" in str(caught.value)


def test_a_socket_that_nobody_holds_any_more(agent: FakeAgent) -> None:
    path = agent.path
    agent.close()
    path.touch()
    with pytest.raises(SteadError, match="no agent answers"):
        ask(str(path), m.GetStatus())


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(SteadError, match="shorter --state"):
        ask(str(tmp_path / ("x" * 120)), m.GetStatus())


def test_silence_is_a_timeout_with_its_own_code(agent: FakeAgent) -> None:
    agent.silent = True
    with pytest.raises(SteadError) as caught:
        ask(str(agent.path), m.GetStatus(), timeout_s=0.05)
    assert caught.value.problem.exit_code == EXIT_TIMEOUT


def test_an_agent_that_hangs_up_is_told_and_then_asked_anew(agent: FakeAgent) -> None:
    with Door(str(agent.path)) as door:
        door.ask(m.GetStatus())
        agent.hang_up()
        with pytest.raises(SteadError) as caught:
            door.ask(m.GetTop())
        assert caught.value.problem.code == "agent.lost"
        assert isinstance(door.ask(m.GetTop()), m.TopAnswer)


@pytest.mark.parametrize("raw", [b"rubbish\n", b'{"kind":"reply","id":1,"body":{"type":"nothing"}}\n'])
def test_rubbish_from_the_agent_is_one_error(agent: FakeAgent, raw: bytes) -> None:
    agent.raw = raw
    with pytest.raises(SteadError, match="could not be read"):
        ask(str(agent.path), m.GetStatus())


def test_an_endless_line_is_refused_at_the_limit(agent: FakeAgent) -> None:
    agent.raw = b"x" * (LINE_LIMIT + 70_000)
    with pytest.raises(SteadError, match="longer than"):
        ask(str(agent.path), m.GetStatus())


def test_another_kind_of_answer_than_expected(agent: FakeAgent) -> None:
    with pytest.raises(SteadError, match="same version"):
        ask(str(agent.path), m.GetTop(), m.Status)


def test_a_refusal_without_an_id_still_finds_its_asker(agent: FakeAgent) -> None:
    agent.raw = encode(m.Reply(0, SteadError("your line can't be read", code="wire.malformed").problem))
    with pytest.raises(SteadError, match="can't be read"):
        ask(str(agent.path), m.GetStatus())


def test_events_come_on_a_connection_of_their_own(agent: FakeAgent) -> None:
    agent.events = [event(1), event(2)]
    door = Door(str(agent.path))
    stream = door.events(("finding.*",))
    assert [next(stream).seq, next(stream).seq] == [1, 2]
    assert door.ask(m.GetStatus(), m.Status).host == "box"
    door.close()
    assert agent.asked[0] == m.Subscribe(("finding.*",))
    agent.hang_up()
    with pytest.raises(SteadError, match="went away"):
        next(stream)


def test_a_feed_says_none_while_nothing_comes(agent: FakeAgent) -> None:
    agent.events = [event(5)]
    feed = Feed(str(agent.path))
    assert feed.next(1.0) == event(5)
    assert feed.next(0.01) is None
    feed.close()


def test_a_feed_may_be_refused(agent: FakeAgent) -> None:
    agent.refuse(m.Subscribe)
    with pytest.raises(SteadError, match="one more approval"):
        Feed(str(agent.path))
