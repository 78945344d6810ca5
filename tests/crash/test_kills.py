"""A real process is killed at every named point of every step, forward and back: what it touched is verified or restored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stead.actuators.autonomy_file import AutonomyFile
from stead.agent.crash import list_marks, mark_from
from stead.flow import runs
from stead.flow.receipt import BINDS
from stead.host import SystemClock
from stead.ledger.store import LedgerStore
from stead.model.change import Run
from stead.model.policy import Autonomy
from stead.tlog.merkle import leaf_hash
from tests.actuators.children import child

PROGRAM = str(Path(__file__).with_name("program.py"))
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="restoring a priority needs CAP_SYS_NICE")


def start(state: Path, pid: int, verb: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "STEAD_CRASH_AT": crash_at}
    return subprocess.run(
        [sys.executable, PROGRAM, str(state), str(pid), verb],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def levers(pid: int) -> tuple[int, int]:
    return os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid)


def ceiling(state: Path) -> int:
    return AutonomyFile(state, state / "pause", Autonomy("act", {"host": 1})).read().ceilings["host"]


def check_ledger(state: Path) -> None:
    """Every receipt has its attempt, every attempt its receipt, and the entries say the same as the run."""
    store = LedgerStore.open(state / "ledger.db", "crash", SystemClock())
    run = store.run("calm")
    assert run is not None and runs.unsettled(run) is None
    entries = [(entry.type, json.loads(entry.leaf)) for entry in reversed(store.entries(500))]
    attempts = [leaf["body"]["attempt"]["id"] for type_, leaf in entries if type_ == "attempt.made"]
    receipts = [leaf["body"]["receipt"]["attempt_id"] for type_, leaf in entries if type_ == "receipt.made"]
    assert attempts == [attempt.id for attempt in run.attempts] and len(set(attempts)) == len(attempts)
    assert [one for one in receipts if one] == [one.attempt_id for one in run.receipts if one.attempt_id]
    ids = [leaf["id"] for _, leaf in entries]
    assert all(leaf["prev_cause"] in ["", *ids[:place]] for place, (_, leaf) in enumerate(entries)), "a cause comes before"
    check_receipts(store, run, ids)
    store.close()


def check_receipts(store: LedgerStore, run: Run, ids: list[str]) -> None:
    """A run that ended after it touched something has one receipt of that end, which binds all its other leaves."""
    rows = {row.id: row for row in store.entries(500)}
    receipts = [json.loads(row.leaf)["body"] for row in reversed(store.entries(500, run.id, ("receipt.issued",)))]
    last = [one for one in ids if rows[one].type != "receipt.issued" and rows[one].subject == run.id][-1]
    assert run.cause == last and rows[last].type == f"run.{run.state}"
    assert [one["state"] for one in receipts] == ([run.state] if run.final and run.attempts else [])
    for one in receipts:
        bound = {entry["id"]: entry["leaf"] for entry in one["entries"]}
        assert all(leaf == "sha256:" + leaf_hash(rows[id_].leaf).hex() for id_, leaf in bound.items())
        assert {row.id for row in rows.values() if row.type in BINDS[:-1] and row.subject == run.id} <= set(bound)
        assert one["entries_left_out"] == 0 and one["cost"]["fsyncs"] == store.commits(run.id)
        told = [receipt for step in one["steps"] for receipt in step["receipts"] if receipt["attempt"]]
        assert len(told) == len(run.attempts) and all(receipt["operations"] for receipt in told)


@pytest.mark.parametrize("mark", list_marks(["priority", "autonomy"]))
def test_killed_at(mark: str, tmp_path: Path) -> None:
    with child() as pid:
        before, verb = levers(pid), "undo" if ".undo." in mark else "act"
        killed = start(tmp_path, pid, verb, mark)
        assert killed.returncode == -signal.SIGKILL, f"the point was never passed: {killed.stderr}"
        after = start(tmp_path, pid, "recover")
        assert after.returncode == 0, after.stderr
        state = json.loads(after.stdout)["state"]
        now = (*levers(pid), ceiling(tmp_path))
        held, restored = (17, os.SCHED_BATCH, 0), (*before, 1)
        expected = {"verifying": held, "undone": restored, "approved": restored, "failed": restored}
        assert now == expected[state], state
        assert state in ({"undone", "verifying"} if verb == "undo" else {"verifying", "approved"})
        check_ledger(tmp_path)


def test_killed_in_the_recovery_too(tmp_path: Path) -> None:
    with child() as pid:
        before = levers(pid)
        assert start(tmp_path, pid, "undo", "act.priority.undo.after_write").returncode == -signal.SIGKILL
        for _ in range(2):
            start(tmp_path, pid, "recover", "act.autonomy.undo.before_write")
            start(tmp_path, pid, "recover", "act.priority.undo.before_write")
        assert json.loads(start(tmp_path, pid, "recover").stdout)["state"] == "undone"
        assert (*levers(pid), ceiling(tmp_path)) == (*before, 1)
        check_ledger(tmp_path)


def test_the_target_ended_meanwhile(tmp_path: Path) -> None:
    with child() as pid:
        assert start(tmp_path, pid, "act", "act.priority.forward.after_write").returncode == -signal.SIGKILL
    after = start(tmp_path, pid, "recover")
    assert json.loads(after.stdout)["state"] == "moot" and ceiling(tmp_path) == 1


def test_another_hand_came_in_between(tmp_path: Path) -> None:
    with child() as pid:
        assert start(tmp_path, pid, "act", "act.priority.forward.after_write").returncode == -signal.SIGKILL
        subprocess.run(["renice", "-n", "3", "-p", str(pid)], check=True, capture_output=True)
        after = start(tmp_path, pid, "recover")
        assert json.loads(after.stdout)["state"] == "conflict"
        assert levers(pid)[0] == 3 and ceiling(tmp_path) == 1


def test_the_nth_time(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, sig: killed.append(pid))
    mark = mark_from({"STEAD_CRASH_AT": "a.b:2"})
    for name, dead in (("a.b", 0), ("a.c", 0), ("a.b", 1)):
        mark(name)
        assert len(killed) == dead
    mark_from({})("a.b")
    assert killed == [os.getpid()]
