"""A real process is killed at every named point of every step, before every change, and at any time: verified or restored."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stead.actuators.autonomy_file import AutonomyFile
from stead.agent.crash import list_marks, mark_from
from stead.flow import runs
from stead.flow.receipt import BINDS
from stead.flow.write import POINTS
from stead.host import SystemClock
from stead.ledger.store import LedgerStore
from stead.model.change import Run
from stead.model.policy import Autonomy
from stead.tlog.merkle import leaf_hash
from tests.crash.prey import REVERSIBLE, Prey, prey

PROGRAM = str(Path(__file__).with_name("program.py"))
ROOT = Path(__file__).parents[2]
CHANGES_MAX = 60
MEMORY = "/dev/shm"
KILLS = 55  # with the named points, and those before each change, 500 in all
pytestmark = pytest.mark.timeout(600)  # those of the kernel's knobs wait for other tests that have KSM


class Ended(NamedTuple):
    """How it ended: `rc` below 0 by a signal; what the run was by then."""

    rc: int
    state: str
    reason: str
    err: str


class Server:
    """Many short lives of the program, each a fork of one that has everything imported."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        argv = [sys.executable, PROGRAM, "serve"]
        self.process = subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(
        self, state: Path, one: Prey, verb: str, mark: str = "", change: int | None = None, kill_ms: float | None = None
    ) -> Ended:
        environ = {"STEAD_CRASH_AT": mark} | ({} if change is None else {"STEAD_CRASH_CHANGE": str(change)})
        spec = {"settings": one.settings, "root": one.root}
        asked = {"state": str(state), "spec": spec, "verb": verb, "environ": environ, "kill_ms": kill_ms}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["rc"] in (0, -signal.SIGKILL), answer["err"]
        said = json.loads(answer["out"]) if answer["rc"] == 0 else {"state": "", "reason": ""}
        return Ended(answer["rc"], said["state"], said["reason"], answer["err"])

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Where the ledger is: in memory, for what is killed loses nothing by that, and a disk's fsyncs are most of the time."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else tmp_path) as folder:
        yield Path(folder)


def ceiling(state: Path) -> int:
    return AutonomyFile(state, state / "pause", Autonomy("act", {"host": 1})).read().ceilings["host"]


def check(one: Prey, before: Any, state: Path, after: Ended, verb: str) -> None:
    """Verified as wanted, or as it was; and the record says what happened."""
    now = one.look()
    if after.state == "verifying":
        assert one.done(before, now) and ceiling(state) == 0, (before, now, after)
    else:
        fitting = {"undone", "approved", "failed", "none"} if verb == "undo" else {"approved", "failed", "none"}
        assert after.state in fitting, after
        assert now == before and ceiling(state) == 1, (before, now, after)
    check_ledger(state)


def check_ledger(state: Path) -> None:
    """Every receipt has its attempt, every attempt its receipt, and the entries say the same as the run."""
    store = LedgerStore.open(state / "ledger.db", "crash", SystemClock())
    run = store.run("calm")
    if run is None:  # it was killed before there was anything to record
        return store.close()
    assert runs.unsettled(run) is None
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


def named(kinds: tuple[str, ...], own: bool = True) -> list[Any]:
    """(kind, mark): every point of each kind's own actuator; with `own` those of its last step too."""
    names = {"stopped": "process", "ended": "process"}
    points = [(kind, mark) for kind in kinds for mark in list_marks([names.get(kind, kind)])]
    points += [("priority", mark) for mark in list_marks(["autonomy"])] if own else []
    return [one for one in points if one[0] in REVERSIBLE or ".undo." not in one[1]]


@pytest.mark.parametrize(("kind", "mark"), named(("priority", "limit")))
def test_killed_at(kind: str, mark: str, server: Server, tmp_path: Path, state: Path) -> None:
    killed_at(kind, mark, server, tmp_path, state)


@pytest.mark.long  # the same for the other actuators
@pytest.mark.parametrize(("kind", "mark"), named(("placement", "stopped", "kernel", "files", "ended", "resident"), own=False))
def test_killed_at_slowly(kind: str, mark: str, server: Server, tmp_path: Path, state: Path) -> None:
    killed_at(kind, mark, server, tmp_path, state)


def killed_at(kind: str, mark: str, server: Server, tmp_path: Path, state: Path) -> None:
    with prey(kind, tmp_path) as one:
        before, verb = one.look(), "undo" if ".undo." in mark else "act"
        killed = server.ask(state, one, verb, mark)
        assert killed.rc == -signal.SIGKILL, f"the point was never passed: {killed}"
        after = server.ask(state, one, "recover")
        assert after.state in ({"undone", "verifying"} if verb == "undo" else {"verifying", "approved"}), after
        check(one, before, state, after, verb)


@pytest.mark.long  # some 150 real kills: half-written states, which no named point leaves
@pytest.mark.parametrize("verb", ["act", "undo"])
@pytest.mark.parametrize("kind", [kind for kind in REVERSIBLE if kind != "files"])  # of files: tests/files/test_kills.py
def test_killed_before_each_change(kind: str, verb: str, server: Server, tmp_path: Path, state: Path) -> None:
    with prey(kind, tmp_path) as one:
        before = one.look()
        for change in range(1, CHANGES_MAX):
            here = state / str(change)
            here.mkdir()
            if server.ask(here, one, verb, change=change).rc == 0:
                assert change > len(one.settings) - 1, "it changed something by other means than its host"
                check(one, before, here, server.ask(here, one, "recover"), verb)
                put_back(server, here, one)
                return
            check(one, before, here, server.ask(here, one, "recover"), verb)
            put_back(server, here, one)
            assert one.look() == before, change
    raise AssertionError("it never came to an end")


def put_back(server: Server, state: Path, one: Prey) -> None:
    """Undo what recovery left in force."""
    after = server.ask(state, one, "undo")
    assert after.state in ("undone", "failed"), after


def lasting(server: Server, state: Path, one: Prey) -> float:
    """How long one life takes that is not cut short, in seconds."""
    state.mkdir()
    began = time.monotonic()
    assert server.ask(state, one, "undo").state == "undone"
    return time.monotonic() - began


@pytest.mark.long  # 330 real kills at any time between the first look and the last receipt
@pytest.mark.parametrize("kind", REVERSIBLE)
def test_killed_at_any_time(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    rng, killed = random.Random(kind), 0
    with prey(kind, tmp_path) as one:
        before = one.look()
        whole_ms = 1000 * min(lasting(server, state / f"whole-{nth}", one) for nth in range(3))
        for turn in range(10 * KILLS):
            here = state / str(turn)
            here.mkdir()
            verb = rng.choice(("act", "undo"))
            died = server.ask(here, one, verb, kill_ms=rng.uniform(0, 0.8 * whole_ms))
            killed += died.rc != 0
            check(one, before, here, server.ask(here, one, "recover"), verb)
            put_back(server, here, one)
            assert one.look() == before, turn
            if killed == KILLS:
                return
    raise AssertionError(f"of {10 * KILLS} lives only {killed} were killed: the others had ended by then")


@pytest.mark.parametrize("kind", ["priority", "limit", "placement"])
def test_killed_in_the_recovery_too(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    killed_in_the_recovery(kind, server, tmp_path, state)


@pytest.mark.long  # the same for what takes seconds each
@pytest.mark.parametrize("kind", ["kernel", "files"])
def test_killed_in_the_recovery_too_slowly(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    killed_in_the_recovery(kind, server, tmp_path, state)


def killed_in_the_recovery(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    with prey(kind, tmp_path) as one:
        before = one.look()
        assert server.ask(state, one, "undo", f"act.{kind}.undo.after_write").rc == -signal.SIGKILL
        for point in (*POINTS, *POINTS):
            server.ask(state, one, "recover", f"act.{kind}.undo.{point}")
        after = server.ask(state, one, "recover")
        assert after.state == "undone" and one.look() == before and ceiling(state) == 1
        check_ledger(state)


@pytest.mark.parametrize("kind", ["priority", "limit", "placement"])
def test_the_target_ended_meanwhile(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    with prey(kind, tmp_path) as one:
        assert server.ask(state, one, "act", f"act.{kind}.forward.after_write").rc == -signal.SIGKILL
    after = server.ask(state, one, "recover")
    assert after.state == "moot" and ceiling(state) == 1, after


@pytest.mark.parametrize("kind", ["priority", "limit", "placement", "kernel"])
def test_another_hand_came_in_between(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    """What it set stays; the step that nobody touched is put back; the conflict is recorded once."""
    with prey(kind, tmp_path) as one:
        before = one.look()
        last = f"act.{kind}.forward.after_write" + (f":{len(one.settings) - 1}")  # of the step that it meddles with
        assert server.ask(state, one, "act", last).rc == -signal.SIGKILL
        assert one.meddle is not None
        one.meddle()
        theirs = one.look()
        for _ in range(2):
            after = server.ask(state, one, "recover")
            assert after.state == "conflict" and ceiling(state) == 1, after
        check_conflict(one, before, theirs, state, kind)


@pytest.mark.parametrize("kind", ["priority", "limit", "placement", "kernel"])
def test_another_hand_came_while_it_was_held(kind: str, server: Server, tmp_path: Path, state: Path) -> None:
    with prey(kind, tmp_path) as one:
        before = one.look()
        assert server.ask(state, one, "act").state == "verifying"
        assert one.meddle is not None
        one.meddle()
        theirs = one.look()
        after = server.ask(state, one, "undo")
        assert after.state == "conflict" and ceiling(state) == 1, after
        check_conflict(one, before, theirs, state, kind)


def check_conflict(one: Prey, before: Any, theirs: Any, state: Path, kind: str) -> None:
    """Everything is as the other hand left it, but for steps of their own that were put back; one entry says so."""
    now = one.look()
    if kind == "kernel":  # of which the first step, KSM, is nobody's but stead's
        assert now["run"] == "0" and now["vm.dirty_writeback_centisecs"] == theirs["vm.dirty_writeback_centisecs"]
    elif kind == "priority":  # so is the family
        assert now == [theirs[0], *before[1:]]
    else:
        assert now == theirs
    store = LedgerStore.open(state / "ledger.db", "crash", SystemClock())
    assert len(store.entries(500, "calm", ("conflict.seen",))) == 1
    store.close()
    check_ledger(state)


def test_without_the_server_too(tmp_path: Path) -> None:
    """As it is run by hand: one process, one life."""
    with prey("priority", tmp_path) as one:
        spec = json.dumps({"settings": one.settings})
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "STEAD_CRASH_AT": "act.priority.forward.after_write"}
        argv = [sys.executable, PROGRAM, str(tmp_path), spec]
        died = subprocess.run([*argv, "act"], env=environ, capture_output=True, timeout=60)
        assert died.returncode == -signal.SIGKILL, died.stderr
        after = subprocess.run([*argv, "undo"], env={**environ, "STEAD_CRASH_AT": ""}, capture_output=True, timeout=60)
        assert after.returncode == 0, after.stderr
        assert json.loads(after.stdout)["state"] == "undone", after


def test_the_nth_time(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, sig: killed.append(pid))
    mark = mark_from({"STEAD_CRASH_AT": "a.b:2"})
    for name, dead in (("a.b", 0), ("a.c", 0), ("a.b", 1)):
        mark(name)
        assert len(killed) == dead
    mark_from({})("a.b")
    assert killed == [os.getpid()]
