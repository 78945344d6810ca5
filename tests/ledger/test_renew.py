from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.flow import record
from stead.ledger import tables
from stead.ledger.key_files import KeyFiles
from stead.ledger.keys import KeyRing
from stead.ledger.renew import Renewed, renew
from stead.ledger.standing import KEPT, STOPPED, Standing
from stead.ledger.store import LedgerStore
from stead.model.change import Hold
from stead.model.errors import SteadError
from stead.model.policy import Actor
from stead.testing import FakeClock
from stead.tlog.checkpoint import parse_checkpoint
from stead.tlog.note import parse_note
from tests.flow.bench import Bench, Killed
from tests.flow.kit import ANN, NOW, Dial, approval, counter, dial_step
from tests.ledger.test_store import finding, some_run
from tests.ledger.witnessing import LOG, WITNESS, Log

CLOCK = FakeClock()
BY = Actor("user", "uid:0")


def opened(state: Path) -> LedgerStore:
    store = LedgerStore.open(state / "ledger.db", "host1", CLOCK)
    store.after_commit = Standing(state, map(float, itertools.count(0, 2)).__next__).keep
    return store


def renewed(state: Path, reason: str = "restored from Monday") -> Renewed:
    return renew(state, "host1", CLOCK, KeyRing(KeyFiles(state / "keys")), reason, BY)


def noted(name: str) -> list[record.Entry]:
    return [record.entry("test.noted", record.Stamp("host1", NOW, counter(name)), {})]


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A ledger of four entries with something of everything, kept by a process that has ended."""
    store = opened(tmp_path)
    await store.commit(
        [*noted("a"), *noted("b"), *noted("c")],
        runs=[some_run(answer="ask"), some_run("run-2", answer="deny")],
        approvals=[approval()],
        findings=[finding()],
        holds=[Hold("turn", "dial:a", "f1", ANN, 1)],
        work=lambda db: tables.put_checkpoint(db, "witnessed", LOG.name, 7, Log().grow(7).note),
    )
    await store.commit(noted("d"))
    store.close()
    return tmp_path


def first_entry(store: LedgerStore) -> dict[str, Any]:
    return msgspec.json.decode(store.leaves(0, 1)[0].leaf)


async def test_a_new_log_says_after_which_one_and_why(state: Path) -> None:
    before = (state / KEPT).read_bytes()
    Standing(state).stop(SteadError("a witness is ahead", code="ledger.rolled-back"), Log().grow(1), 9, WITNESS.verifier)
    done = renewed(state)
    assert (done.origin, done.former, done.former_size) == ("host1/ledger/2", "host1/ledger", 4)
    store = opened(state)
    leaf = first_entry(store)
    assert (store.origin, store.size, leaf["type"], leaf["actor"]) == (
        "host1/ledger/2",
        1,
        "ledger.renewed",
        {"id": "uid:0", "kind": "user"},
    )
    body = leaf["body"]
    assert body["reason"] == "restored from Monday" and body["checkpoints"] == [before.decode()]
    assert body["former"] == ["host1/ledger"] and body["stopped"] == {"code": "ledger.rolled-back", "what": "a witness is ahead"}
    assert not (state / STOPPED).exists() and (state / KEPT).read_bytes() == store.checkpoint
    assert (await store.commit(noted("e")))[0].seq == 2
    store.close()
    assert sorted(path.name for path in state.iterdir()) == ["agent.lock", "keys", "ledger.1.db", KEPT, "ledger.db"]


async def test_the_new_log_follows_the_old_one_by_name(state: Path) -> None:
    done = renew(state, "renamed", CLOCK, KeyRing(KeyFiles(state / "keys")), "renamed too", BY)
    assert done.origin == "host1/ledger/2"


async def test_what_still_binds_the_host_is_carried_over(state: Path) -> None:
    old = opened(state)
    runs, findings, holds, approvals = old.live_runs(), old.open_findings(), old.holds(), old.approvals("run-1")
    old.close()
    done = renewed(state)
    assert done.carried == {"runs": 2, "findings": 1, "holds": 1, "approvals": 1, "witnessed": 1} and done.unreadable == ()
    store = opened(state)
    assert runs and (store.live_runs(), store.open_findings(), store.holds(), store.approvals("run-1")) == (
        runs,
        findings,
        holds,
        approvals,
    )
    assert store.run("run-2") is not None and store.kept_checkpoint("witnessed", LOG.name) == (7, Log().grow(7).note)
    store.close()


async def test_the_old_database_is_whole_beside_it(state: Path) -> None:
    done = renewed(state)
    shutil.copy(done.kept, state / "look.db")
    db = sqlite3.connect(state / "look.db")
    assert db.execute("SELECT count(*) FROM entries").fetchone() == (4,)
    db.close()
    again = renewed(state, "and again")
    assert again.origin == "host1/ledger/3" and Path(again.kept).name == "ledger.2.db"


async def test_the_old_log_does_not_come_back_unnoticed(state: Path) -> None:
    done = renewed(state)
    shutil.copy(done.kept, state / "ledger.db")
    store = opened(state)
    problem = Standing(state).check(store, [], [])
    assert problem is not None and problem.problem.code == "ledger.rolled-back"
    store.close()


@pytest.mark.parametrize("harm", ["truncated", "garbage", "gone"])
async def test_a_ledger_that_can_not_be_opened_can_be_renewed(state: Path, harm: str) -> None:
    path = state / "ledger.db"
    if harm == "truncated":
        db = sqlite3.connect(path)
        db.execute("DELETE FROM entries WHERE seq > 2")
        db.commit()
        db.close()
    elif harm == "garbage":
        path.write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    else:
        path.unlink()
    if harm != "gone":
        with pytest.raises(SteadError):
            opened(state)
    done = renewed(state)
    assert (done.origin, done.former_size, bool(done.unreadable)) == ("host1/ledger/2", 4, harm == "garbage")
    assert done.carried["runs"] == (2 if harm == "truncated" else 0) and bool(done.kept) == (harm != "gone")
    store = opened(state)
    assert parse_checkpoint(parse_note(first_entry(store)["body"]["checkpoints"][0].encode()).text).size == 4
    store.close()


async def test_a_ledger_that_vanished_says_so_by_itself(state: Path) -> None:
    (state / "ledger.db").unlink()
    kept = (state / KEPT).read_text()
    store = opened(state)
    body = first_entry(store)["body"]
    assert store.origin == "host1/ledger/2" and body["checkpoints"] == [kept] and "was not there" in body["reason"]
    store.close()


async def test_a_renewal_that_is_cut_off_leaves_the_old_one(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(SteadError, match="disk is full"):
        patch.setattr(os, "link", fail)
        renewed(state)
    store = opened(state)
    assert (store.origin, store.size) == ("host1/ledger", 4)
    store.close()
    assert not (state / "renewing").exists()
    done = renewed(state)
    assert done.origin == "host1/ledger/3" and done.former_size == 4, "the name that was begun is never used again"


async def test_a_new_log_that_is_not_whole_takes_nobodys_place(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says nothing when the last close can't empty the write-ahead log: the file alone would be an empty ledger."""
    close = LedgerStore.close

    def closed(store: LedgerStore) -> None:
        close(store)
        store.path.with_name("ledger.db-wal").write_bytes(b"all of it")

    with monkeypatch.context() as patch, pytest.raises(SteadError, match="write-ahead log"):
        patch.setattr(LedgerStore, "close", closed)
        renewed(state)
    store = opened(state)
    assert (store.origin, store.size) == ("host1/ledger", 4)
    store.close()


async def test_what_can_not_be_renewed_is_refused(state: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = opened(state)
    with pytest.raises(SteadError) as caught:
        renewed(state)
    assert caught.value.problem.code == "state.in-use"
    store.close()
    with pytest.raises(SteadError, match="needs a reason"):
        renewed(state, "  ")
    with pytest.raises(SteadError, match="no ledger to renew"):
        renewed(tmp_path_factory.mktemp("empty"))
    assert not (state / "renewing").exists()


async def test_what_a_lease_held_is_still_put_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    cut_off = await bench.given(dial_step("b", before=2, lease_s=60.0), id="run-2")
    bench.crash_at = "act.dial.forward.after_write"
    with pytest.raises(Killed):
        await bench.hands.run(cut_off)
    bench.ledger.close()
    assert renewed(tmp_path).carried["runs"] == 2
    bench.open()
    assert bench.ledger.live_runs() and bench.dials.dials["a"] == Dial(9, "red") and bench.dials.dials["b"] == Dial(9)
    await bench.hands.recover(bench.ledger.live_runs())
    for left in bench.ledger.live_runs():
        await bench.hands.undo(left, "lease")
    assert (bench.dials.dials["a"], bench.dials.dials["b"]) == (Dial(1, "red"), Dial(2)) and not bench.ledger.live_runs()
    assert (bench.types()[0], bench.types()[-1], run.state) == ("ledger.renewed", "receipt.issued", "held")
    bench.ledger.close()
