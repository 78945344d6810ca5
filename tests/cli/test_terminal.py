"""What happens only on a terminal: the question before an approval, the live table, colours."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stead.cli.verb import as_json, say
from stead.model import ledger_messages as lm
from stead.model import messages as m
from stead.model.errors import EXIT_APPROVAL, EXIT_FAILURE, EXIT_OK, Problem
from tests.cli.fake_agent import RUN_ID, FakeAgent
from tests.cli.test_command import STEAD


class Terminal:
    """A command on a pseudo-terminal of 200 columns."""

    def __init__(self, state: Path, *words: str, **environ: str) -> None:
        self._far, near = pty.openpty()
        env = {**os.environ, "COLUMNS": "200", **environ}
        argv = [*STEAD, "--state", str(state), *words]
        self.process = subprocess.Popen(argv, stdin=near, stdout=near, stderr=near, env=env, start_new_session=True)
        os.close(near)
        self.seen = ""

    def until(self, words: str) -> str:
        """Read until these words were shown."""
        while words not in self.seen and self._read():
            pass
        assert words in self.seen, self.seen
        return self.seen

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._far, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C until it is heard: one that comes just before `input` begins to read is not (CPython)."""
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)

    def end(self) -> int:
        """Read the rest and wait."""
        while self._read():
            pass
        return self.process.wait(20)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._far)

    def _read(self) -> bool:
        try:
            piece = os.read(self._far, 65536)
        except OSError:  # the other side has closed
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)


Start = Callable[..., Terminal]


@pytest.fixture
def terminal(agent: FakeAgent, state: Path) -> Iterator[Start]:
    opened: list[Terminal] = []

    def start(*words: str, **environ: str) -> Terminal:
        opened.append(Terminal(state, *words, **environ))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_no_is_no(agent: FakeAgent, terminal: Start) -> None:
    shown = terminal("approve", RUN_ID)
    before = shown.until("[y/N]")
    assert "autogroup  0 → 19" in before and "Approve plan ffffffffffff?" in before
    shown.type("n\n")
    assert shown.end() == EXIT_APPROVAL
    assert "not approved: nothing was changed" in shown.seen
    assert not any(isinstance(one, m.Approve) for one in agent.asked)


def test_yes_sends_the_plan_that_was_shown(agent: FakeAgent, terminal: Start) -> None:
    shown = terminal("approve", RUN_ID)
    shown.until("[y/N]")
    shown.type("y\n")
    assert shown.end() == EXIT_OK
    assert agent.asked[-1] == m.Approve(RUN_ID, "f" * 64)


def test_ctrl_c_at_the_question_approves_nothing(agent: FakeAgent, terminal: Start) -> None:
    shown = terminal("approve", RUN_ID)
    shown.until("[y/N]")
    shown.interrupt()
    assert shown.end() == 130
    assert not any(isinstance(one, m.Approve) for one in agent.asked)


def test_top_draws_again_until_it_is_left(agent: FakeAgent, terminal: Start) -> None:
    shown = terminal("top", "--interval", "0.2")
    shown.until("4711")
    shown.seen = ""
    shown.until("4711")
    shown.process.send_signal(signal.SIGINT)
    assert shown.end() == EXIT_OK
    assert "Traceback" not in shown.seen
    assert agent.asked.count(m.GetTop()) >= 2


def test_colours_on_a_terminal_but_for_who_wants_none(terminal: Start) -> None:
    coloured = terminal("findings")
    assert coloured.end() == EXIT_OK and "\x1b[33mwarning" in coloured.seen
    plain = terminal("findings", NO_COLOR="1")
    assert plain.end() == EXIT_OK and "\x1b[" not in plain.seen and "warning" in plain.seen


def test_a_narrow_encoding_shows_substitutes(agent: FakeAgent, state: Path) -> None:
    argv = [*STEAD, "--state", str(state), "proposals", RUN_ID]
    done = subprocess.run(argv, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, timeout=30)
    assert done.returncode == EXIT_OK and b"autogroup  0 ? 19" in done.stdout and done.stderr == b""


@pytest.mark.parametrize(
    "words", [("status",), ("resume",), ("runs", RUN_ID), ("metrics", "m.x", "--since", "1h"), ("ledger", "checkpoint")]
)
def test_what_strangers_wrote_can_not_move_the_cursor(agent: FakeAgent, terminal: Start, words: tuple[str, ...]) -> None:
    evil = "\x1b]0;pwned\x07\x9b31m"
    paused = msgspec.structs.replace(agent.answers[m.GetStatus], paused=True, pause_reason=evil)
    agent.answers[m.GetStatus] = agent.answers[m.Resume] = paused
    agent.answers[m.GetRun] = Problem(f"no such run {evil}", "ledger", "look", "run.unknown", EXIT_FAILURE)
    agent.answers[m.GetMetrics] = m.MetricList((m.MetricView("m.x", f"mount:/{evil}", 1.0, "percent", "good", 1_000_000),))
    agent.answers[m.QuerySeries] = m.SeriesAnswer("m.x", f"mount:/{evil}", "percent", "raw", (1_000_000,), (1.0,))
    agent.answers[lm.GetCheckpoint] = lm.LedgerHead(f"{evil}\n5\n".encode(), (), 5, "host1/ledger", b"")
    shown = terminal(*words)
    shown.end()
    assert "pwned" in shown.seen
    assert "\x1b]" not in shown.seen and "\x9b" not in shown.seen and "\x07" not in shown.seen


def test_a_line_keeps_colours_and_nothing_else_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    say("\n\x1b[31mred\x1b[0m \x1b[2J \x9b31m \x07 \u202egnp.exe")
    assert capsys.readouterr().out == "\nred \ufffd[2J \ufffd31m \ufffd \ufffdgnp.exe\n"


def test_json_has_the_same_values_and_nothing_that_can_not_be_seen() -> None:
    value = {"subject": "größe \x9b31m\x7f \u202egnp.exe\u2069 \u200b\ufeff \U000e0041 \ue000 日本"}
    for text in (as_json(value), as_json(value, indent=False)):
        assert json.loads(text) == value and "größe" in text and "日本" in text
        assert all(line.isprintable() for line in text.splitlines())
    assert len(as_json(value, indent=False).splitlines()) == 1
