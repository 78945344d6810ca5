"""The store's six rules, each by its number: what must hold whatever happens to the disk, the power or the file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stead.ledger import tables
from stead.ledger.connect import connect
from stead.model.errors import SteadError
from stead.tlog.checkpoint import Checkpoint
from stead.tlog.keys import ED25519, new_signing_key
from stead.tlog.note import format_note, sign_note
from tests.ledger.kit import Gate, Watched, check_log, failure, note, opened, tree_hash

WIDTH = 256


async def filled(place: Path, count: int) -> None:
    store = opened(place)
    for start in range(0, count, 200):
        await store.commit([note() for _ in range(min(200, count - start))])
    store.close()


def changed(place: Path, *statements: str) -> None:
    """Somebody else's hand in the file, while no agent runs."""
    db = sqlite3.connect(place / "ledger.db")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


# -- 1: synchronous=FULL


async def test_rule_1_every_commit_is_synced_before_it_returns(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store._need().execute("PRAGMA synchronous").fetchone()[0] == 2
    store.close()


def test_rule_1_what_sqlite_really_does_is_read_back(tmp_path: Path) -> None:
    def deaf(path: Path) -> object:
        class Deaf(sqlite3.Connection):
            def execute(self, sql: str, *more: object) -> sqlite3.Cursor:
                return super().execute("PRAGMA synchronous=NORMAL" if "synchronous=" in sql else sql, *more)

        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Deaf)

    with pytest.raises(SteadError, match="synchronous at 1") as caught:
        opened(tmp_path, connect=deaf)
    assert caught.value.problem.code == "ledger.unsafe"


# -- 2: a checkpoint leaves only after COMMIT


async def test_rule_2_nobody_is_shown_a_checkpoint_before_its_commit_returned(tmp_path: Path) -> None:
    watched = Watched()
    store = opened(tmp_path, connect=watched)
    await store.commit([note("first")])
    before, gate = store.checkpoint, Gate("COMMIT")
    watched.before = gate
    waiting = asyncio.ensure_future(store.commit([note("second")]))
    assert await asyncio.to_thread(gate.reached.wait, 20)
    assert store.checkpoint == before and store.size == 1 and not waiting.done()
    gate.open.set()
    await waiting
    assert store.checkpoint != before and store.size == 2
    check_log(store)
    store.close()


async def test_rule_2_a_commit_that_fails_changes_no_checkpoint_and_takes_no_number(tmp_path: Path) -> None:
    watched = Watched()
    store = opened(tmp_path, connect=watched)
    await store.commit([note("first")])
    before = store.checkpoint

    def fail(sql: str) -> None:
        if sql == "COMMIT":
            watched.before = lambda sql: None
            raise failure(sqlite3.SQLITE_FULL, "database or disk is full")

    watched.before = fail
    with pytest.raises(SteadError, match="disk is full"):
        await store.commit([note("lost"), note("lost too")])
    assert store.checkpoint == before and store.size == 1 and watched.opened == 1
    (stored,) = await store.commit([note("second")])
    assert stored.seq == 2
    check_log(store)
    store.close()


async def test_rule_2_what_is_refused_leaves_no_gap_and_no_hash_in_the_tree(tmp_path: Path) -> None:
    store = opened(tmp_path)
    twice = note("twice")
    await store.commit([twice])
    jobs = [store.commit([note(str(number)), note()], use_approvals=["none"] if number % 3 == 0 else ()) for number in range(30)]
    results = await asyncio.gather(*jobs, store.commit([note(), twice]), return_exceptions=True)
    assert sum(isinstance(result, SteadError) for result in results) == 11
    assert store.size == 1 + 2 * 20
    check_log(store)
    store.close()


# -- 3: one connection


async def test_rule_3_nobody_else_can_open_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note()])
    assert store._need().execute("PRAGMA locking_mode").fetchone()[0] == "exclusive"
    for mode in ("ro", "rw"):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(f"file:{store.path}?mode={mode}", uri=True, timeout=0).execute("SELECT * FROM entries")
    store.close()


def test_rule_3_a_sqlite_that_does_not_lock_is_refused(tmp_path: Path) -> None:
    """Before 3.51.3 two connections can corrupt a WAL. That is avoided by having one, so it is made sure that there is one."""

    def shared(path: Path) -> object:
        class Shared(sqlite3.Connection):
            def execute(self, sql: str, *more: object) -> sqlite3.Cursor:
                return super().execute(sql.replace("=EXCLUSIVE", "=NORMAL"), *more)

        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Shared)

    with pytest.raises(SteadError, match="locking_mode at normal"):
        opened(tmp_path, connect=shared)


def test_rule_3_without_a_write_ahead_log_it_does_not_start(tmp_path: Path) -> None:
    def memory(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    with pytest.raises(SteadError, match="journal_mode at memory"):
        opened(tmp_path, connect=memory)


# -- 4: after an I/O error close, reopen, recompute


@pytest.mark.parametrize(
    "statement", ["BEGIN", "INSERT INTO entries", "INSERT INTO tiles", "INSERT OR REPLACE INTO check", "COMMIT"]
)
async def test_rule_4_a_handle_that_failed_is_never_used_again(tmp_path: Path, statement: str) -> None:
    await filled(tmp_path, WIDTH - 1)
    watched = Watched()
    store = opened(tmp_path, connect=watched)
    before = store.checkpoint

    def fail(sql: str) -> None:
        if sql.startswith(statement):
            watched.before = lambda sql: None
            raise failure(sqlite3.SQLITE_IOERR_FSYNC)

    watched.before = fail
    with pytest.raises(SteadError, match="failed to read or write") as caught:
        await store.commit([note("lost")])
    assert caught.value.problem.code == "ledger.io"
    assert watched.opened == 2 and store.checkpoint == before
    failed_at = max(at for at, (_, sql) in enumerate(watched.statements) if sql.startswith(statement) and _ == 1)
    assert [sql for number, sql in watched.statements[failed_at + 1 :] if number == 1] in (["ROLLBACK", "close"], ["close"])
    assert (await store.commit([note("kept")]))[0].seq == WIDTH
    check_log(store)
    store.close()


async def test_rule_4_it_goes_on_by_itself_once_the_disk_does(tmp_path: Path) -> None:
    broken = Watched()
    store = opened(tmp_path, connect=broken)

    def fail(sql: str) -> None:
        if sql != "close":
            raise failure(sqlite3.SQLITE_IOERR_WRITE)

    broken.before = fail
    for _ in range(3):
        with pytest.raises(SteadError, match="failed to read or write"):
            await store.commit([note("lost")])
    assert store.trouble
    broken.before = lambda sql: None
    await store.commit([note("kept")])
    assert store.trouble == "" and store.size == 1
    check_log(store)
    store.close()


# -- 5: at start recompute, and compare with what was signed last


async def test_rule_5_entries_that_are_missing_at_the_end_are_named(tmp_path: Path) -> None:
    await filled(tmp_path, 300)
    changed(tmp_path, "DELETE FROM entries WHERE seq > 290")
    with pytest.raises(SteadError, match="signed for 300 entries, and only 290 are there") as caught:
        opened(tmp_path)
    assert caught.value.problem.code == "ledger.truncated" and "backup" in caught.value.problem.fix


@pytest.mark.parametrize(
    "hand",
    [
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'x', 'y') AS BLOB) WHERE seq = 299",
        "DELETE FROM entries WHERE seq = 290",
        "INSERT INTO entries SELECT seq + 1, 'more', type, subject, ts_ms, leaf, blob FROM entries WHERE seq = 300",
        "UPDATE tiles SET hashes = zeroblob(8192)",
        "UPDATE tiles SET hashes = x'00'",
        "DELETE FROM tiles",
        "INSERT INTO entries SELECT -1, 'earlier', type, subject, ts_ms, leaf, blob FROM entries WHERE seq = 300",
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET note = CAST(replace(CAST(note AS TEXT), 'host1/ledger', 'host2/ledger') AS BLOB)",
        "UPDATE checkpoints SET note = x'00'",
        "UPDATE meta SET value = 'host2/ledger' WHERE key = 'origin'",
        "UPDATE keys SET vkey = 'nonsense'",
        "UPDATE keys SET vkey = x'00'",
        "UPDATE keys SET until_ms = 'never'",
        "UPDATE tiles SET hashes = 99999999999",
        "UPDATE checkpoints SET note = 99999999999",
        "UPDATE checkpoints SET note = 'x'",
        "UPDATE checkpoints SET size = 'many'",
        "UPDATE entries SET leaf = 99999999999 WHERE seq = 299",
        "DELETE FROM keys",
        "INSERT INTO runs VALUES ('r', 'waiting', 0, 0, NULL, 1, NULL, '', x'7b7d', 0)",
    ],
)
async def test_rule_5_what_is_not_as_it_was_signed_is_named(tmp_path: Path, hand: str) -> None:
    await filled(tmp_path, 300)
    changed(tmp_path, hand)
    with pytest.raises(SteadError) as caught:
        opened(tmp_path)
    assert caught.value.problem.code == "ledger.altered" and "restore" in caught.value.problem.fix


async def test_rule_5_a_key_that_only_stands_in_the_file_signs_for_nothing(tmp_path: Path) -> None:
    """Who can write ledger.db, but has no key, must not get another history accepted, and then signed by the true key."""
    await filled(tmp_path, 3)
    db = sqlite3.connect(tmp_path / "ledger.db")
    leaves = [row[0] for row in db.execute("SELECT leaf FROM entries ORDER BY seq")]
    leaves[1] = leaves[1].replace(b'"x"', b'"y"')
    strange = new_signing_key("host1/ledger", ED25519, b"s" * 32)
    note = format_note(sign_note(Checkpoint("host1/ledger", 3, tree_hash(leaves)).text, [strange]))
    db.execute("UPDATE entries SET leaf = ? WHERE seq = 2", (leaves[1],))
    db.execute("UPDATE checkpoints SET note = ?", (note,))
    db.execute("INSERT INTO keys VALUES (?, 0, 1)", (strange.verifier.text,))  # one that is said to sign no more
    db.commit()
    db.close()
    with pytest.raises(SteadError, match="not signed by its keys") as caught:
        opened(tmp_path)
    assert caught.value.problem.code == "ledger.altered"


async def test_rule_5_a_start_reads_the_right_edge_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 tiles of 256 leaves: one tile of level 1 is complete, so 44 tiles of level 0 and it are what the root needs."""
    store = opened(tmp_path)
    for _ in range(300):
        await store.commit([note() for _ in range(WIDTH)])
    await store.commit([note() for _ in range(5)])
    store.close()
    read: list[tuple[int, int]] = []

    def get_tile(db: object, level: int, index: int, really: Callable[..., bytes | None] = tables.get_tile) -> bytes | None:
        read.append((level, index))
        return really(db, level, index)

    monkeypatch.setattr(tables, "get_tile", get_tile)
    watched = Watched()
    store = opened(tmp_path, connect=watched)
    assert read == [(0, index) for index in range(256, 300)] + [(1, 0)]
    assert not any("FROM entries" in sql and "seq >" not in sql and "max(seq)" not in sql for _, sql in watched.statements)
    assert store.size == 300 * WIDTH + 5
    store.close()


async def test_rule_5_a_log_that_lost_its_database_begins_anew_under_another_name(tmp_path: Path) -> None:
    """The same name with the same key would be a fork of what was signed before."""
    await filled(tmp_path, 3)
    old = opened(tmp_path)
    origin, vkeys = old.origin, old.vkeys()
    old.close()
    (tmp_path / "ledger.db").unlink()
    store = opened(tmp_path)
    assert (origin, store.origin) == ("host1/ledger", "host1/ledger/2") and not set(vkeys) & set(store.vkeys())
    assert store.entries()[0].type == "ledger.renewed" and b'"former":["host1/ledger"]' in store.entries()[0].leaf
    check_log(store)
    store.close()
    (tmp_path / "ledger.db").unlink()
    store = opened(tmp_path)
    assert store.origin == "host1/ledger/3"
    store.close()


# -- 6: never judged by the code that wrote it


async def test_rule_6_what_it_hands_out_is_checked_by_code_that_is_not_its_own(tmp_path: Path) -> None:
    """Here by a recursive RFC 6962 and another Ed25519 (tests/ledger/kit.py); by foreign programs in tests/independent."""
    store = opened(tmp_path)
    for size in (1, 2, 253, 300):
        await store.commit([note() for _ in range(size)])
        check_log(store)
    store.close()
    assert connect(tmp_path / "ledger.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
