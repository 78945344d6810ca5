from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.cli.doctor import witness_checks
from stead.config import find_paths
from stead.ledger.standing import Standing
from stead.ledger.store import LedgerStore
from stead.ledger.stored import COSIGNED
from stead.ledger.tables import put_checkpoint
from stead.model import witness_messages as w
from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, Problem, SteadError
from stead.testing import FakeClock
from tests.cli.conftest import Call
from tests.cli.fake_agent import T0, FakeAgent
from tests.ledger.listed import key
from tests.ledger.test_renew import noted

EYE = w.WitnessView("eye", "http://eye/witness", True, "", 412, T0 - 5_000)
GOOD = w.WitnessList("box/ledger", 412, 412, True, (EYE,), "box/witness+1a08e301+AAAA", (w.WitnessedLog("ear/ledger", 7),))
BACK = Problem("an older state was put back", "box/ledger", "bring it back", "ledger.rolled-back")


def heard(agent: FakeAgent, **changes: Any) -> w.WitnessList:
    answer = msgspec.structs.replace(GOOD, **changes)
    agent.answers[w.GetWitnesses] = answer
    return answer


def test_the_newest_checkpoint_is_handed_in_and_shown(agent: FakeAgent, call: Call) -> None:
    heard(agent)
    shown = call("ledger", "witness")
    assert shown.exit_code == EXIT_OK and agent.asked[0] == w.GetWitnesses(submit=True)
    for words in (
        "box/ledger, 412 entries",
        "with the policy's quorum",
        "eye",
        "cosigned",
        "ear/ledger  7 entries",
        "box/witness+",
    ):
        assert words in shown.stdout
    assert json.loads(call("ledger", "witness", "-o", "json").stdout)["quorum"] is True


def test_without_the_quorum_the_exit_code_says_so_unless_it_was_only_looked_at(agent: FakeAgent, call: Call) -> None:
    away = msgspec.structs.replace(EYE, ok=None, detail="no answer within 10 s", size=None, at_ms=None)
    heard(agent, witnesses=(away,), cosigned=None, quorum=False, logs=(), vkey="")
    shown = call("ledger", "witness")
    assert shown.exit_code == EXIT_FAILURE and "no answer within 10 s" in shown.stdout and "no checkpoint yet" in shown.stdout
    assert call("ledger", "witness", "--list").exit_code == EXIT_OK and w.GetWitnesses() in agent.asked
    heard(agent, stopped=BACK)
    shown = call("ledger", "witness")
    assert shown.exit_code == EXIT_FAILURE and "an older state was put back" in shown.stdout


def test_what_a_log_was_refused_for_is_shown(agent: FakeAgent, call: Call) -> None:
    heard(agent, logs=(w.WitnessedLog("ear/ledger", None), w.WitnessedLog("far/ledger", 9, "signed two different ledgers")))
    shown = call("ledger", "witness", "--list").stdout
    assert "ear/ledger  not asked yet" in shown and "far/ledger  9 entries  signed two different ledgers" in shown


def test_an_answer_that_the_table_has_no_room_for_is_told_below(
    agent: FakeAgent, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = "it does not know this log: give its operator the vkey of `stead ledger key`"
    heard(agent, witnesses=(msgspec.structs.replace(EYE, ok=False, detail=long),), stopped=BACK)
    shown = call("ledger", "witness", "--list").stdout
    assert long in " ".join(shown.split()) and max(map(len, shown.splitlines())) <= 60


def test_the_doctor_names_a_witness_that_is_silent_and_a_ledger_that_stopped(agent: FakeAgent, state: Path) -> None:
    paths = find_paths(str(state))
    heard(agent, witnesses=())
    assert witness_checks(paths) == []
    heard(agent)
    assert [(one.name, one.result, one.detail) for one in witness_checks(paths)] == [("witnesses", "ok", "eye cosigned 412")]
    heard(agent, witnesses=(msgspec.structs.replace(EYE, ok=None, detail="no answer"),), stopped=BACK)
    assert [(one.name, one.result) for one in witness_checks(paths)] == [("ledger", "fail"), ("witnesses", "warn")]
    assert witness_checks(paths)[0].fix == "bring it back"


@pytest.fixture
async def kept(state: Path) -> Path:
    """A ledger of two entries, whose agent has ended."""
    store = LedgerStore.open(state / "ledger.db", "box", FakeClock())
    store.after_commit = Standing(state).keep
    await store.commit([*noted("a"), *noted("b")])
    store.close()
    return state


def test_without_an_agent_the_files_say_whether_the_ledger_stands(kept: Path, call: Call) -> None:
    assert witness_checks(find_paths(str(kept))) == []
    assert call("ledger", "verify").exit_code == EXIT_OK
    Standing(kept).stop(SteadError.of(BACK), _Log(), 9, _Key())  # type: ignore[arg-type]
    (check,) = witness_checks(find_paths(str(kept)))
    assert (check.name, check.result, check.detail) == ("ledger", "fail", "an older state was put back")
    refused = call("ledger", "verify")
    assert refused.exit_code == EXIT_FAILURE and "an older state was put back" in refused.stderr


async def test_witnesses_that_the_configuration_here_does_not_name_are_missed(
    kept: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert call("ledger", "verify").stderr == ""
    store = LedgerStore.open(kept / "ledger.db", "box", FakeClock())
    await store.commit((), work=lambda db: put_checkpoint(db, *COSIGNED, 2, store.checkpoint))
    store.close()
    for words in (("ledger", "verify"), ("ledger", "export", str(tmp_path / "out"))):
        said = call(*words)
        assert said.exit_code == EXIT_OK and said.stderr.count("STEAD_CONFIG=FILE") == 1
    policy = tmp_path / "mine.tlog-policy"
    policy.write_text(f"witness eye {key(8, 'eye').verifier.text}\nquorum none\n")
    (tmp_path / "stead.yaml").write_text(f"ledger:\n  policy: {policy}\n")
    monkeypatch.setenv("STEAD_CONFIG", str(tmp_path / "stead.yaml"))
    assert call("ledger", "verify").stderr == ""


class _Log:
    origin, size = "box/ledger", 2

    def root_at(self, size: int) -> bytes:
        return bytes(32)


class _Key:
    text = "eye"


def test_a_new_ledger_is_begun_when_a_person_says_so(kept: Path, call: Call) -> None:
    assert call("ledger", "renew").exit_code == EXIT_USAGE
    asked = call("ledger", "renew", "--reason", "a test")
    assert asked.exit_code == EXIT_USAGE and "--yes" in asked.stderr and not (kept / "ledger.1.db").exists()
    done = call("ledger", "renew", "--reason", "a test", "--yes")
    assert done.exit_code == EXIT_OK and "box/ledger/2 begins" in done.stdout and "box/ledger, 2 entries known" in done.stdout
    assert "never signs again" in done.stderr and (kept / "ledger.1.db").exists()
    assert "renewed" in call("ledger", "tail").stdout


def test_a_renewal_with_an_agent_or_without_a_ledger_is_refused(agent: FakeAgent, state: Path, call: Call) -> None:
    nothing = call("ledger", "renew", "--reason", "x", "--yes")
    assert nothing.exit_code == EXIT_FAILURE and "no ledger to renew" in nothing.stderr
    missing = call("--state", str(state / "absent"), "ledger", "renew", "--reason", "x", "--yes")
    assert missing.exit_code == EXIT_FAILURE and not (state / "absent").exists()


def test_without_an_agent_no_witness_can_be_asked(state: Path, call: Call) -> None:
    assert call("ledger", "witness").exit_code == EXIT_UNREACHABLE
    assert os.listdir(state) == []
