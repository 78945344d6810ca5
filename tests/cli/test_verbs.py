"""Every verb, called in this process against a fake agent: its answer as a table and as JSON, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest

from stead.cli.root import VERBS, stead
from stead.model import messages as m
from stead.model.errors import (
    EXIT_APPROVAL,
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_PAUSED,
    EXIT_TIMEOUT,
    EXIT_UNDO_FAILED,
    EXIT_UNDONE,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
)
from tests.cli.conftest import Call
from tests.cli.fake_agent import DONE_ID, OTHER_ID, RUN_ID, FakeAgent, done_run, run, status

ASKING = (  # verbs that ask the agent, and what their table must show
    (("status",), "mode"),
    (("top", "--once"), "4711"),
    (("metrics",), "unknown  hung for 9 s"),
    (("metrics", "infra.cpu_utilization", "--since", "1h"), "max 40 %"),
    (("findings",), "sh (pid 4711) has used 1.0 cores"),
    (("why", "pid:4711"), "crossed 0.9 cores"),
    (("proposals",), "would allow"),
    (("proposals", RUN_ID), "autogroup  0 → 19"),
    (("recommend",), "stead recommend --apply 4f1c09aa"),
    (("recommend", "--apply", "4f1c", "--yes"), "is verifying"),
    (("approve", RUN_ID, "--yes"), "approved"),
    (("deny", RUN_ID, "--reason", "no"), "denied"),
    (("runs",), "helped (1.5 → 0.6)"),
    (("runs", DONE_ID), "verified"),
    (("undo", "latest"), "put back"),
    (("cancel", RUN_ID), "cancelled"),
    (("pause", "--reason", "deploy"), "paused"),
    (("resume",), "resumed"),
    (("mode",), "advise"),
    (("mode", "act", "--ceiling", "2"), "act"),
    (("holds",), "uid:1000"),
    (("files",), "/tmp/old%FF"),
    (("lift", "calm-cpu-hog", "process:4711"), "lifted"),
    (("ledger", "tail"), "finding.opened"),
    (("ledger", "search", "decision"), "decision.made"),
    (("ledger", "checkpoint"), "host1/ledger\n5\n"),
    (("ledger", "key"), "signs every checkpoint"),
    (("ledger", "key", "--rotate"), "give it to your witnesses"),
    (("ledger", "verify"), "as signed"),
    (("ledger", "verify", "--deep"), "1 blob as their leaves say"),
)
LOCAL = (("doctor",), ("config", "check"), ("catalog", "validate"))


@pytest.mark.parametrize(("words", "shown"), ASKING, ids=lambda one: " ".join(one) if isinstance(one, tuple) else "")
def test_a_verb_shows_its_answer(agent: FakeAgent, call: Call, words: tuple[str, ...], shown: str) -> None:
    result = call(*words)
    assert result.exit_code == EXIT_OK, result.output
    assert shown in result.stdout
    assert "Traceback" not in result.output and "\x1b" not in result.output


@pytest.mark.parametrize("words", [words for words, _ in ASKING], ids=" ".join)
def test_a_verb_answers_a_program_in_json(agent: FakeAgent, call: Call, words: tuple[str, ...]) -> None:
    result = call(*words, "-o", "json")
    assert result.exit_code == EXIT_OK, result.output
    assert isinstance(json.loads(result.stdout), dict | list)


@pytest.mark.parametrize("words", LOCAL, ids=" ".join)
def test_checks_need_no_agent(call: Call, words: tuple[str, ...]) -> None:
    result = call(*words, "-o", "json")
    assert isinstance(json.loads(result.stdout), dict | list)
    assert "Traceback" not in result.output


@pytest.mark.parametrize("words", [words for words, _ in ASKING], ids=" ".join)
def test_without_an_agent_a_verb_says_how_to_start_one(call: Call, words: tuple[str, ...]) -> None:
    result = call(*words)
    assert result.exit_code == EXIT_UNREACHABLE
    assert "no agent answers at" in result.stderr and "`stead agent`" in result.stderr
    assert result.stdout == ""


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, groups too, with the words that name it."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None, name
            yield from leaves(found, (*path, name))


def test_every_verb_has_help_with_examples_that_name_it() -> None:
    seen = 0
    for path, command in leaves(stead):
        assert command.help, path
        assert command.epilog and "Examples:" in command.epilog, path
        assert f"stead {' '.join(path)}".strip() in command.epilog, path
        seen += 1
    assert seen > len(VERBS)


def test_every_verb_that_asks_has_state_and_output() -> None:
    without = {"agent", "hub", "completion", "help", "ledger", "proof", "catalog", "config"}
    for name in set(VERBS) - without:
        command = stead.get_command(click.Context(stead), name)
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--state", "-o"} <= options, name


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_prints(call: Call, verb: str) -> None:
    shown = call(verb, "--help")
    assert shown.exit_code == EXIT_OK and "Examples:" in shown.stdout
    assert call("help", verb).stdout == shown.stdout


def test_an_ambiguous_and_an_unknown_id(agent: FakeAgent, call: Call) -> None:
    both = call("proposals", RUN_ID[:9])
    assert both.exit_code == EXIT_FAILURE and "several ids" in both.stderr
    none = call("undo", "ffff")
    assert none.exit_code == EXIT_FAILURE and "no proposal or run" in none.stderr


def test_a_prefix_is_enough(agent: FakeAgent, call: Call) -> None:
    assert call("deny", RUN_ID[:11]).exit_code == EXIT_OK
    assert m.Deny(RUN_ID, "") in agent.asked


def test_approve_sends_the_plan_that_was_shown(agent: FakeAgent, call: Call) -> None:
    result = call("approve", RUN_ID, "--yes")
    assert "f" * 64 in result.stdout and "nice       0 → 10" in result.stdout
    assert agent.asked[-1] == m.Approve(RUN_ID, "f" * 64)


def test_approve_asks_and_takes_silence_as_no(agent: FakeAgent, call: Call) -> None:
    result = call("approve", RUN_ID)
    assert result.exit_code == EXIT_USAGE and "--yes" in result.stderr
    assert not any(isinstance(one, m.Approve) for one in agent.asked)


def test_only_what_waits_can_be_approved(agent: FakeAgent, call: Call) -> None:
    result = call("approve", OTHER_ID, "--yes")
    assert result.exit_code == EXIT_FAILURE and "only advice: nothing was changed" in result.stderr


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("kept", EXIT_OK),
        ("undone", EXIT_UNDONE),
        ("undo_failed", EXIT_UNDO_FAILED),
        ("failed", EXIT_FAILURE),
        ("refused", EXIT_APPROVAL),
    ],
)
def test_approve_waits_for_the_verdict(agent: FakeAgent, call: Call, end: str, code: int) -> None:
    path = iter([run("waiting"), run("acting"), run("verifying"), run(end)])
    agent.answers[m.GetRun] = lambda ask: m.RunList((next(path),))
    agent.answers[m.Approve] = m.RunList((run("approved"),))
    assert call("approve", RUN_ID, "--yes", "--wait").exit_code == code


@pytest.mark.parametrize(("end", "code"), [("undone", EXIT_OK), ("undo_failed", EXIT_UNDO_FAILED), ("conflict", EXIT_FAILURE)])
def test_undo_waits_for_the_outcome(agent: FakeAgent, call: Call, end: str, code: int) -> None:
    path = iter([done_run(), done_run("undoing"), done_run(end)])
    agent.answers[m.GetRun] = lambda ask: m.RunList((next(path),))
    agent.answers[m.Undo] = m.RunList((done_run("undoing"),))
    assert call("undo", DONE_ID).exit_code == code


def test_undo_of_what_never_ends_is_a_timeout(agent: FakeAgent, call: Call) -> None:
    agent.answers[m.Undo] = agent.answers[m.GetRun] = m.RunList((done_run("undoing"),))
    result = call("undo", DONE_ID, "--timeout", "0.01")
    assert result.exit_code == EXIT_TIMEOUT and "still undoing" in result.stderr


def test_undo_latest_takes_the_newest_that_wrote_something(agent: FakeAgent, call: Call) -> None:
    older = done_run()
    newer = run("kept", OTHER_ID, receipts=older.receipts, acted_ms=(older.acted_ms or 0) + 1)
    agent.answers[m.ListRuns] = m.RunList((older, newer, run("denied")))
    call("undo", "latest", "--no-wait")
    assert m.Undo(OTHER_ID) in agent.asked
    agent.answers[m.ListRuns] = m.RunList((done_run("undone"),))
    nothing = call("undo", "latest")
    assert nothing.exit_code == EXIT_FAILURE and "nothing to undo" in nothing.stderr


@pytest.mark.parametrize("code", [EXIT_APPROVAL, EXIT_PAUSED])
def test_the_agents_refusal_is_one_sentence_and_its_code(agent: FakeAgent, call: Call, code: int) -> None:
    agent.refuse(m.SetAutonomy, code)
    result = call("mode", "--unlock")
    assert result.exit_code == code
    assert result.stderr == "stead: it needs one more approval (policy): ask a colleague\n"


def test_mode_sends_only_what_was_named(agent: FakeAgent, call: Call) -> None:
    for words, sent in (
        (("act",), m.SetAutonomy("act", None)),
        (("--ceiling", "0"), m.SetAutonomy(None, 0)),
        (("--lock",), m.SetAutonomy(None, None, "host", True)),
        (("--unlock",), m.SetAutonomy(None, None, "host", False)),
        (("--ceiling", "1", "--scope", "env=prod"), m.SetAutonomy(None, 1, "env=prod")),
    ):
        call("mode", *words)
        assert agent.asked[-1] == sent


def test_a_pause_without_an_agent_names_the_file(call: Call, state: object) -> None:
    assert f"{state}/run/pause" in call("pause").stderr


def test_unknown_values_are_never_zero(agent: FakeAgent, call: Call) -> None:
    agent.answers[m.GetStatus] = status(tick_cpu_ms=None, rss_bytes=None)
    assert "unknown of CPU a tick, unknown of memory" in call("status").stdout


def test_a_metric_that_is_not_there_says_why(agent: FakeAgent, call: Call) -> None:
    assert "no source of learning events" in call("metrics", "learning.sources").stderr
    assert "did you mean infra.cpu_utilization" in call("metrics", "infra.cpu_utilisation").stderr
    assert "`stead metrics` lists what there is" in call("metrics", "infra.cpu_utilisat*").stderr, "nothing is near a pattern"
    assert call("metrics", "--since", "1h").exit_code == EXIT_USAGE
    assert call("metrics", "infra.cpu_utilization", "--since", "yesterday").exit_code == EXIT_USAGE


def test_status_shows_an_ill_probe_and_why(agent: FakeAgent, call: Call) -> None:
    shown = call("status").stdout
    assert "probe disk  hung for 9 s" in shown and "probes      1 well" in shown


def test_exit_codes_are_documented(call: Call) -> None:
    shown = call("help", "exit-codes").stdout
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 124, 130):
        assert any(line.split()[0] == str(code) for line in shown.splitlines()[1:]), code


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(call: Call, shell: str) -> None:
    result = call("completion", shell)
    assert result.exit_code == EXIT_OK and "_STEAD_COMPLETE" in result.stdout


def test_a_wrong_call_is_one_line_with_the_way_to_help(call: Call) -> None:
    result = call("statsu")
    assert result.exit_code == EXIT_USAGE
    assert "did you mean `stead status`?" in result.stderr and result.stderr.count("\n") == 1
    assert call("mode", "bogus").exit_code == EXIT_USAGE
    assert call("help", "nonsense").exit_code == EXIT_USAGE
