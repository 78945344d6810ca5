"""`stead ledger erase`: an order to the agent, after a question."""

from __future__ import annotations

import json

from stead.model.errors import EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE
from stead.model.ledger_messages import EraseBlob
from tests.cli.conftest import Call
from tests.cli.fake_agent import RUN_ID, FakeAgent
from tests.cli.fake_ledger import ENTRY_ID

ENTRY = ENTRY_ID % 2
WHY = ("--reason", "asked by the person")


def orders(agent: FakeAgent) -> list[EraseBlob]:
    return [one for one in agent.asked if isinstance(one, EraseBlob)]


def test_the_agent_is_told_which_and_why_and_the_new_entry_is_shown(agent: FakeAgent, call: Call) -> None:
    result = call("ledger", "erase", ENTRY, *WHY, "--yes")
    assert result.exit_code == EXIT_OK and "Entry 6 says so: e0006" in result.stdout
    assert "exports made with --blobs" in " ".join(result.stdout.split())
    assert orders(agent) == [EraseBlob(ENTRY, "asked by the person")]
    shown = json.loads(call("ledger", "erase", ENTRY, *WHY, "--yes", "-o", "json").stdout)
    assert [(one["id"], one["type"], one["subject"]) for one in shown["entries"]] == [("e0006", "blob.erased", ENTRY)]


def test_nothing_is_erased_without_a_yes_and_a_reason(agent: FakeAgent, call: Call) -> None:
    result = call("ledger", "erase", ENTRY, *WHY)
    assert result.exit_code == EXIT_USAGE and "add --yes" in result.stderr
    assert call("ledger", "erase", ENTRY, "--yes").exit_code == EXIT_USAGE
    assert orders(agent) == []


def test_a_run_is_no_entry(agent: FakeAgent, call: Call) -> None:
    result = call("ledger", "erase", RUN_ID, *WHY, "--yes")
    assert result.exit_code == EXIT_USAGE and "is a run or finding" in result.stderr and orders(agent) == []
    assert f"--subject {RUN_ID}" in result.stderr


def test_without_an_agent_nobody_erases(call: Call) -> None:
    assert call("ledger", "erase", ENTRY, *WHY, "--yes").exit_code == EXIT_UNREACHABLE
