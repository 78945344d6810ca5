"""The command line with a real agent: what it answers is what the verbs understand, and limits hold at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stead.cli.root import stead
from stead.model import messages as m
from stead.model.errors import EXIT_APPROVAL, EXIT_FAILURE, EXIT_OK, SteadError
from stead.wire import Door
from tests.cli.test_command import STEAD

Say = Callable[..., Result]


@pytest.fixture(scope="module")
def real() -> Iterator[Path]:
    """A real agent that may do nothing alone (ceiling 0), in a state of its own."""
    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        config = Path(folder, "stead.yaml")
        config.write_text("safety: {profile: conservative}\n")
        argv = [*STEAD, "--state", folder, "agent", "--config", str(config)]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        until(lambda: has_ticked(Path(folder, "run", "agent.sock")), child)
        yield Path(folder)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=20)
        assert (child.returncode, errors) == (0, "")


def until(look: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait for something that a living child does."""
    for _ in range(600):
        if look():
            return
        assert child.poll() is None, child.stderr and child.stderr.read()
        time.sleep(0.05)
    raise AssertionError("it never came")


def has_ticked(socket: Path) -> bool:
    """Does the agent answer, with values?"""
    try:
        with Door(str(socket)) as door:
            return door.ask(m.GetStatus(), m.Status).ticks > 2
    except SteadError:
        return False


@pytest.fixture
def say(real: Path) -> Say:
    """Say a verb to the real agent."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(stead, ["--state", str(real), *words], prog_name="stead")

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("top", "--once"),
        ("metrics",),
        ("metrics", "infra.psi*"),
        ("findings", "--cleared"),
        ("proposals",),
        ("runs",),
        ("holds",),
        ("files",),
        ("mode",),
        ("ledger", "tail"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_what_it_answers_can_be_shown_both_ways(say: Say, words: tuple[str, ...]) -> None:
    shown = say(*words)
    assert (shown.exit_code, shown.stderr) == (EXIT_OK, "") and shown.stdout
    assert isinstance(json.loads(say(*words, "-o", "json").stdout), dict | list)


def test_a_metric_over_time(say: Say) -> None:
    views = json.loads(say("metrics", "-o", "json").stdout)["metrics"]
    metric = next(view["metric"] for view in views if view["subject"] == "host" and view["value"] is not None)
    shown = say("metrics", metric, "--since", "1m", "--subject", "host")
    assert shown.exit_code == EXIT_OK and f"{metric} of host, the last 1 min" in shown.stdout


def test_limits_follow_each_other_without_waiting(say: Say, real: Path) -> None:
    for words in (("mode", "act"), ("mode", "observe"), ("mode", "act"), ("mode", "--ceiling", "1"), ("mode", "--ceiling", "0")):
        done = say(*words)
        assert done.exit_code == EXIT_OK, (words, done.stderr)
    assert say("pause", "--reason", "a test").exit_code == EXIT_OK
    assert (real / "run" / "pause").exists()
    status = json.loads(say("status", "-o", "json").stdout)
    assert (status["paused"], status["mode"], status["autonomy"]["ceilings"]["host"]) == (True, "act", 0)
    assert say("resume").exit_code == EXIT_OK
    assert say("mode", "advise").exit_code == EXIT_OK
    assert not (real / "run" / "pause").exists()


def test_one_person_locks_and_two_unlock(say: Say) -> None:
    assert say("mode", "--lock").exit_code == EXIT_OK
    alone = say("mode", "--unlock")
    assert alone.exit_code == EXIT_APPROVAL, alone.stderr
    assert "stead approve" in alone.stderr
    runs = json.loads(say("runs", "-o", "json").stdout)["runs"]
    lock = next(
        run["id"]
        for run in runs
        if run["proposal"]["title"].endswith("locks autonomy")
        and "unlocks" not in run["proposal"]["title"]
        and run["state"] in ("kept", "verifying")
    )
    back = say("undo", lock)
    assert back.exit_code == EXIT_FAILURE and "an unlock needs two people" in back.stderr
    assert "nothing to undo" in say("undo", "latest").stderr
    assert json.loads(say("mode", "-o", "json").stdout)["locked"] is True


@pytest.mark.parametrize(
    "words", [("proposals", "nothing"), ("undo", "nothing"), ("why", "nothing"), ("lift", "a", "b"), ("deny", "x")]
)
def test_what_is_not_there_is_one_sentence(say: Say, words: tuple[str, ...]) -> None:
    done = say(*words)
    assert done.exit_code == EXIT_FAILURE
    assert done.stderr.startswith("stead: ") and done.stderr.count("\n") == 1


def test_a_second_agent_on_this_state_is_refused(real: Path) -> None:
    second = subprocess.run([*STEAD, "--state", str(real), "agent"], capture_output=True, text=True, timeout=30)
    assert second.returncode != EXIT_OK
    assert second.stderr.count("\n") == 1 and "Traceback" not in second.stderr


def test_up_starts_the_real_ones_and_stops_them_cleanly() -> None:
    from tests.cli.test_up import free_port

    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        argv = [sys.executable, "-u", *STEAD[1:], "up", "--state", folder, "--port", str(free_port())]
        environ = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environ)
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(line.rstrip())
            if "nothing on this host is changed" in line:
                break
        text = "\n".join(lines)
        assert all(f"✓ {name}" in text for name in ("observe", "find", "propose", "decide", "act", "verify", "record", "hub")), (
            text
        )
        token = Path(folder, "token")
        assert f"#{token.read_text().strip()}" in text and token.stat().st_mode & 0o777 == 0o600
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=30)
        assert (child.returncode, errors) == (0, ""), out
        assert "hub and agent stopped cleanly" in out
