"""`stead why` with and without an agent, and from an export; what it names can be proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, Problem
from stead.model.messages import Explanation, Link, Why
from tests.cli import fake_ledger
from tests.cli.conftest import Call
from tests.cli.fake_agent import RUN_ID, FakeAgent
from tests.flow.road import Lane


@pytest.fixture
async def healed(state: Path) -> Path:
    """A state without an agent, in whose ledger a run was proven to help."""
    lane = Lane(state)
    await lane.heal()
    await lane.road.stop(lane.clock.now())
    lane.ledger.close()
    return state


def asked(call: Call, *words: str) -> dict[str, Any]:
    result = call("why", *words, "-o", "json")
    assert result.exit_code == EXIT_OK, result.output
    return dict(json.loads(result.stdout))


def test_without_an_agent_the_file_answers(healed: Path, call: Call) -> None:
    result = call("why", "workload:a")
    assert result.exit_code == EXIT_OK, result.output
    assert "turn is in force" in result.stdout and "receipt: binds 8 entries" in result.stdout and "[entry i-" in result.stdout


def test_an_export_answers_on_any_machine(healed: Path, call: Call, tmp_path: Path) -> None:
    told = asked(call, "dial.level")
    assert call("ledger", "export", str(tmp_path / "out"), "--blobs").exit_code == EXIT_OK
    (healed / "ledger.db").unlink()
    assert asked(call, "dial.level", "--export", str(tmp_path / "out")) == told
    assert call("why", "x", "--export", str(tmp_path)).exit_code == EXIT_USAGE


def test_each_link_can_be_proven(healed: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = {link["entry"] for link in asked(call, "turn")["chain"]}
    assert len(entries) > 7
    for entry in sorted(entries)[:3]:
        result = call("proof", entry)
        assert result.exit_code == EXIT_OK, result.output
        assert (tmp_path / f"{entry}.json").exists()


def test_what_is_not_recorded_is_a_failure_with_what_to_give(healed: Path, call: Call) -> None:
    result = call("why", "nonsense")
    assert result.exit_code == EXIT_FAILURE and "nothing" not in result.stdout and "pid:4711" in result.stderr


def test_an_entry_leads_to_what_it_is_of(agent: FakeAgent, call: Call) -> None:
    """Ids as the chain and `ledger tail` name them: of a run's entry, of one that is of no run, and of nothing."""
    known = Explanation(RUN_ID, "the run", (Link(1, "find", "found", fake_ledger.ENTRY_ID % 3),))
    unknown = Problem("nothing is recorded", "", "ask for another", "why.unknown")
    agent.answers[Why] = lambda ask: known if ask.thing == RUN_ID else unknown
    assert asked(call, fake_ledger.ENTRY_ID % 4)["summary"] == "the run"
    told = asked(call, fake_ledger.ENTRY_ID % 1)
    assert told["summary"].startswith("agent.started") and [link["index"] for link in told["chain"]] == [0]
    refused = call("why", "0199c7a0-ffff")
    assert refused.exit_code == EXIT_FAILURE and "ask for another" in refused.stderr


def test_nothing_is_no_thing(healed: Path, call: Call) -> None:
    assert call("why", " ").exit_code == EXIT_USAGE


def test_long_lines_go_on_below_themselves(healed: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = call("why", "turn").stdout.splitlines()
    for columns in (50, 80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = call("why", "turn").stdout.splitlines()
        assert max(map(len, lines)) <= columns or columns < 80
        assert " ".join(" ".join(lines).split()) == " ".join(" ".join(whole).split())


def test_what_an_export_lacks_is_said_once(healed: Path, call: Call, tmp_path: Path) -> None:
    assert call("ledger", "export", str(tmp_path / "out")).exit_code == EXIT_OK
    shown = call("why", "turn", "--export", str(tmp_path / "out")).stdout
    assert shown.count("was not exported") == 1 and shown.splitlines()[-1].startswith("* ") and "--blobs" in shown


def test_an_agent_that_refuses_is_not_gone_round(healed: Path, agent: FakeAgent, call: Call) -> None:
    assert "crossed 0.9 cores" in call("why", "pid:4711").stdout, "the agent was asked, and not the file"


def test_with_neither_agent_nor_ledger_it_says_how_to_start_one(call: Call) -> None:
    result = call("why", "x")
    assert result.exit_code == EXIT_UNREACHABLE and "`stead agent`" in result.stderr
