from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stead.flow import record, runs
from stead.ledger.store import LedgerStore
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.testing import FakeClock
from tests.flow.kit import ANN, NOW, approval, counter, decision, proposal

CLOCK = FakeClock()
STAMP = record.Stamp("host1", NOW, counter("e"))
root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore.open(tmp_path / "ledger.db", "host1", CLOCK)
    yield opened
    opened.close()


def some_run(run_id: str = "run-1", answer: str = "allow", **more: object) -> Run:
    return runs.start(proposal(id=run_id, **more), decision(answer), STAMP)[0]


def finding(**more: object) -> Finding:
    made = Finding("f1", "band|m|host", "band", "m", "host", "warning", "Hot", 2.0, 1.0, "cores", 1, 2, 3)
    return msgspec.structs.replace(made, **more)


def note(text: str = "x", bulk: object = None) -> record.Entry:
    return record.entry("test.noted", STAMP, {"text": text}, subject="s", bulk=bulk)


async def test_what_is_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = LedgerStore.open(path, "host1", CLOCK)
    run, entries = runs.start(proposal(), decision("ask", approvals_needed=1), STAMP)
    hold = Hold("turn", "dial:a", "f1", ANN, 1)
    stored = await store.commit(
        entries, runs=[run], approvals=[approval()], findings=[finding()], holds=[hold], meta={"colour": "red"}
    )
    assert [one.seq for one in stored] == list(range(1, len(entries) + 1))
    store.close()
    store = LedgerStore.open(path, "host1", CLOCK)
    assert store.live_runs() == (run,) and store.run("run-1") == run and store.run("run") == run
    assert store.open_findings() == (finding(),) and store.holds() == (hold,) and store.meta("colour") == "red"
    assert store.approvals("run-1") == (approval(),)
    assert [entry.type for entry in store.entries(10)] == [entry.type for entry in reversed(entries)]
    assert store.entry(stored[0].id) == stored[0]
    await store.commit(
        [note()], findings=[finding(cleared_ms=9)], drop_holds=[("turn", "dial:a")], runs=[some_run(answer="deny")]
    )
    assert store.live_runs() == () and store.open_findings() == () and store.holds() == ()
    assert store.findings(cleared=True) == (finding(cleared_ms=9),) and store.findings() == ()
    store.close()


async def test_the_leaf_is_kept_exactly_and_its_blob_beside_it(store: LedgerStore) -> None:
    (stored,) = await store.commit([note("é", bulk={"who": "ann"})])
    kept = store.entry(stored.id)
    assert kept is not None and kept.leaf == stored.leaf and '"text":"é"'.encode() in kept.leaf
    assert b"ann" not in kept.leaf and store.bulk(stored.id) == b'{"who":"ann"}'


async def test_an_approval_is_used_once_or_nothing_is_written(store: LedgerStore) -> None:
    await store.commit([], approvals=[approval(), approval(id="late", expires_ms=CLOCK.unix_ms)])
    await store.commit([note()], use_approvals=["yes-uid:1000"])
    for void, why in (("yes-uid:1000", "used already"), ("late", "expired"), ("none", "not on record")):
        with pytest.raises(SteadError, match=why):
            await store.commit([note("never")], runs=[some_run("run-9")], use_approvals=[void])
    assert store.run("run-9") is None and len(store.entries(10)) == 1 and store.live_runs() == ()
    assert [one.used_ms for one in store.approvals("run-1")] == [CLOCK.unix_ms, None]


async def test_one_that_is_refused_does_not_take_others_of_its_group_down(store: LedgerStore) -> None:
    good = [store.commit([note(str(number))]) for number in range(20)]
    bad = [store.commit([note("bad")], use_approvals=["none"]) for _ in range(3)]
    results = await asyncio.gather(*good, *bad, return_exceptions=True)
    assert sum(isinstance(result, SteadError) for result in results) == 3
    assert len(store.entries(100)) == 20
    assert store.changes == 23 and store.transactions < 23, "commits that wait together share one fsync"


async def test_an_entry_that_fits_no_leaf_is_refused(store: LedgerStore) -> None:
    odd = msgspec.structs.replace(note(), host="h" * 70_000)
    with pytest.raises(SteadError, match="does not fit"):
        await store.commit([odd])
    same = note()
    await store.commit([same])
    with pytest.raises(SteadError, match="can't be recorded"):
        await store.commit([same])
    assert len(store.entries(10)) == 1


def deep(levels: int = 5000) -> dict[str, object]:
    body: dict[str, object] = {}
    for _ in range(levels):
        body = {"in": body}
    return body


@pytest.mark.parametrize(
    "odd",
    [{"ts_ms": 10**18}, {"ts_ms": 2**70}, {"ts_ms": "now"}, {"id": None}, {"type": ["t"]}, {"subject": {}}, {"body": deep()}],
    ids=["year", "number", "words", "id", "type", "subject", "body"],
)
async def test_an_odd_entry_falls_alone(store: LedgerStore, odd: dict[str, object]) -> None:
    jobs = [store.commit([note(str(number))]) for number in range(5)]
    results = await asyncio.gather(*jobs, store.commit([msgspec.structs.replace(note(), **odd)]), return_exceptions=True)
    assert isinstance(results[-1], SteadError) and results[-1].problem.code == "ledger.unfit"
    assert [entries[0].seq for entries in results[:-1]] == [1, 2, 3, 4, 5] and store.trouble == ""


async def test_reading_runs(store: LedgerStore) -> None:
    for number, answer in enumerate(["ask", "allow", "deny"]):
        run = msgspec.structs.replace(some_run(f"run-{number}", answer), updated_ms=number)
        await store.commit([], runs=[run])
    assert [run.id for run in store.runs()] == ["run-2", "run-1", "run-0"]
    assert [run.id for run in store.runs("proposals")] == ["run-0"]
    assert [run.id for run in store.runs("runs")] == ["run-1"]
    assert [run.id for run in store.runs(since_ms=2)] == ["run-2"] and len(store.runs(limit=1)) == 1
    assert [run.id for run in store.runs_of("finding-1")] == ["run-2", "run-1", "run-0"]
    with pytest.raises(SteadError, match="several runs"):
        store.run("run")
    assert store.run("%") is None and store.run("") is None and store.run("x'--") is None
    assert store.entries(types=["none"]) == () and store.entries(subject="none") == ()


async def test_only_runs_that_changed_something_count_for_the_budget(store: LedgerStore) -> None:
    for name, lowers in (("a", False), ("b", True)):
        run, _ = runs.begin(some_run(name, lowers=lowers), STAMP)
        attempt = ledger_attempt(run)
        run, _ = runs.attempted(run, attempt, STAMP)
        await store.commit([], runs=[run])
    await store.commit([], runs=[some_run("c")])
    assert store.actions_since(NOW.unix_ms) == 1 and store.actions_since(NOW.unix_ms + 1) == 0


def ledger_attempt(run: Run):  # type: ignore[no-untyped-def]
    from stead.model.change import Attempt

    return Attempt("t", run.id, 0, "forward", None, None, NOW.unix_ms)


async def test_the_file_is_private_synced_and_exclusive(store: LedgerStore) -> None:
    db = store._db
    assert db is not None
    settings = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode", "locking_mode")]
    assert settings == [2, "wal", "exclusive"]
    assert store.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(store.path, timeout=0).execute("SELECT * FROM entries")


def test_two_agents_on_one_state(store: LedgerStore) -> None:
    with pytest.raises(SteadError, match=rf"another stead agent \(pid {os.getpid()}\) is running") as caught:
        LedgerStore.open(store.path, "host1", CLOCK)
    assert caught.value.problem.code == "state.in-use" and "--state" in caught.value.problem.fix


def test_children_do_not_keep_the_state_locked(tmp_path: Path) -> None:
    store = LedgerStore.open(tmp_path / "ledger.db", "host1", CLOCK)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    store.close()
    try:
        LedgerStore.open(tmp_path / "ledger.db", "host1", CLOCK).close()
    finally:
        child.communicate(b"\n")


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    LedgerStore.open(path, "host1", CLOCK).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SteadError, match="version 99") as caught:
        LedgerStore.open(path, "host1", CLOCK)
    assert caught.value.problem.code == "ledger.newer" and path.read_bytes() == before


def test_anothers_database_and_no_database_at_all(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "other.db")
    db.executescript("PRAGMA application_id=7; CREATE TABLE t (x)")
    db.close()
    with pytest.raises(SteadError, match="another program"):
        LedgerStore.open(tmp_path / "other.db", "host1", CLOCK)
    (tmp_path / "text.db").write_text("not a database at all" * 100)
    with pytest.raises(SteadError, match="damaged") as caught:
        LedgerStore.open(tmp_path / "text.db", "host1", CLOCK)
    assert caught.value.problem.code == "ledger.damaged" and (tmp_path / "text.db").read_text().startswith("not a")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SteadError) as caught:
        LedgerStore.open(tmp_path / "none" / "ledger.db", "host1", CLOCK)
    assert str(tmp_path / "none") in str(caught.value)


async def test_closed_means_closed(tmp_path: Path) -> None:
    store = LedgerStore.open(tmp_path / "ledger.db", "host1", CLOCK)
    waiting = [asyncio.ensure_future(store.commit([note()])) for _ in range(5)]
    await asyncio.sleep(0)
    store.close()
    store.close()
    assert len(await asyncio.gather(*waiting)) == 5, "what waited was written"
    with pytest.raises(SteadError, match="closed"):
        await store.commit([note()])


async def test_after_an_io_error_the_file_is_opened_anew(store: LedgerStore) -> None:
    await store.commit([note("before")], findings=[finding()])
    first = store._db
    write = store._write

    def failing(*arguments: object) -> object:
        store._write = write  # type: ignore[method-assign]
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC  # type: ignore[attr-defined]
        raise error

    store._write = failing  # type: ignore[assignment,method-assign]
    with pytest.raises(SteadError, match="failed to read or write"):
        await store.commit([note("lost")])
    assert store._db is not first and store.open_findings() == (finding(),)
    await store.commit([note("after")])
    assert [b"before" in entry.leaf or b"after" in entry.leaf for entry in store.entries(10)] == [True, True]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@root
async def test_a_full_disk_loses_nothing_and_is_over_when_there_is_space_again(small_disk: Path) -> None:
    store = LedgerStore.open(small_disk / "ledger.db", "host1", CLOCK)
    written = []
    with pytest.raises(SteadError, match="disk is full") as caught:
        for number in range(400):
            written += await store.commit([note(str(number) + "y" * 20_000)], runs=[some_run(f"run-{number}")])
    assert caught.value.problem.code == "ledger.full" and written
    assert len(store.entries(1000)) == len(written) == len(store.live_runs())
    with pytest.raises(SteadError, match="disk is full"):
        await store.commit([note("z" * 60_000)])
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    await store.commit([note("again" * 10_000)])
    store.close()
    store = LedgerStore.open(small_disk / "ledger.db", "host1", CLOCK)
    assert len(store.entries(1000)) == len(written) + 1
    store.close()


@root
def test_a_full_disk_or_a_read_only_one_at_the_start(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 1_000_000)
    with pytest.raises(SteadError, match="full"):
        LedgerStore.open(small_disk / "ledger.db", "host1", CLOCK)
    (small_disk / "filler").unlink()
    LedgerStore.open(small_disk / "ledger.db", "host1", CLOCK).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(SteadError, match="can't be written") as caught:
        LedgerStore.open(small_disk / "ledger.db", "host1", CLOCK)
    assert "--state" in caught.value.problem.fix
