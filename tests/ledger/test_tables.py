from __future__ import annotations

import base64
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from stead.ledger import tables
from stead.ledger.leaf import leaf
from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError
from stead.tlog.tiles import TILE_BYTES, Tile
from tests.flow.kit import approval
from tests.ledger.kit import Watched, check_log, failure, note, opened, tree_hash
from tests.ledger.test_store import some_run

FIRST_RELEASE = Path(__file__).with_name("version1.sql")


def first_release(place: Path, more: int = 0) -> list[bytes]:
    """A ledger as the first release left it (see the file's first line), with so many entries more. Returns the leaves."""
    db = sqlite3.connect(place / "ledger.db")
    db.executescript(FIRST_RELEASE.read_text())
    for _ in range(more):
        one = note("v1")
        row = (one.id, one.type, one.subject, one.ts_ms, leaf(one, b"")[0])
        db.execute("INSERT INTO entries (id, type, subject, ts_ms, leaf) VALUES (?, ?, ?, ?, ?)", row)
    db.execute("PRAGMA journal_mode=WAL")
    db.commit()
    leaves = [row[0] for row in db.execute("SELECT leaf FROM entries ORDER BY seq")]
    db.close()
    return leaves


# -- from the first release


@pytest.mark.parametrize("more", [0, 248, 249, 900])
async def test_leaves_of_the_first_release_go_on_verifying(tmp_path: Path, more: int) -> None:
    leaves = first_release(tmp_path, more)
    store = opened(tmp_path)
    assert [entry.leaf for entry in store.leaves(0, 9999)] == leaves and len(leaves) == 7 + more
    assert base64.b64decode(store.checkpoint.decode().splitlines()[2]) == tree_hash(leaves)
    assert store.origin == "host1/ledger" and (store.tile(0, 0) is not None) == (more >= 249)
    check_log(store)
    await store.commit([note("new")])
    check_log(store)
    store.close()
    store = opened(tmp_path)
    assert [entry.leaf for entry in store.leaves(0, 9999)][:-1] == leaves
    check_log(store)
    store.close()


async def test_what_followed_from_them_is_there_too(tmp_path: Path) -> None:
    first_release(tmp_path)
    store = opened(tmp_path)
    assert [run.id for run in store.live_runs()] == ["run-1"] and [one.id for one in store.open_findings()] == ["f1"]
    assert store.meta("colour") == "red" and store.approvals("run-1") == (approval(),) and len(store.holds()) == 1
    noted = store.entries(types=["test.noted"])[0]
    assert store.bulk(noted.id) == b'{"who":"ann"}' and b'"float":"0.1"' in noted.leaf
    assert store.commits("run-1") == 0
    await store.commit([], runs=store.live_runs())
    assert store.commits("run-1") == 1
    store.close()


def test_it_is_brought_up_to_date_in_one_transaction_or_not_at_all(tmp_path: Path) -> None:
    leaves = first_release(tmp_path, 300)

    def fail(sql: str) -> None:
        if sql == "COMMIT":
            raise failure(sqlite3.SQLITE_FULL, "database or disk is full")

    with pytest.raises(SteadError, match="full"):
        opened(tmp_path, connect=Watched(fail))
    db = sqlite3.connect(tmp_path / "ledger.db")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('tiles', 'keys', 'checkpoints')").fetchone() == (0,)
    db.close()
    store = opened(tmp_path)
    assert [entry.leaf for entry in store.leaves(0, 9999)] == leaves
    assert len(list((tmp_path / "keys").glob("*.key"))) == len(store.vkeys()) == 1, "the key of the commit that failed is gone"
    store.close()


def test_a_gap_in_an_old_ledger_is_not_signed(tmp_path: Path) -> None:
    first_release(tmp_path)
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("DELETE FROM entries WHERE seq = 3")
    db.commit()
    db.close()
    with pytest.raises(SteadError, match="1 are missing") as caught:
        opened(tmp_path)
    assert caught.value.problem.code == "ledger.altered"


def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    def columns(store: LedgerStore) -> dict[str, list[Any]]:
        db = store._need()
        found = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')").fetchall()]
        return {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in found}

    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    first_release(tmp_path / "old")
    old, new = opened(tmp_path / "old"), opened(tmp_path / "new")
    assert columns(old) == columns(new)
    old.close()
    new.close()


# -- tiles


async def test_complete_tiles_are_kept_and_nothing_else(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for size in (255, 1, 300):
        await store.commit([note() for _ in range(size)])
    kept = store._need().execute("SELECT place, length(hashes) FROM tiles ORDER BY place").fetchall()
    assert kept == [(0, TILE_BYTES), (8, TILE_BYTES)] and store.size == 556
    assert store.tile(0, 2) is None and store.tile(1, 0) is None
    store.close()


def test_every_tile_has_a_place_of_its_own(tmp_path: Path) -> None:
    store = opened(tmp_path)
    db = store._need()
    places = [(level, index) for level in range(8) for index in (0, 1, 255, 256, 70_000)]
    for level, index in places:
        tables.put_tiles(db, [Tile(level, index, b"%d %d" % (level, index))])
    assert all(tables.get_tile(db, level, index) == b"%d %d" % (level, index) for level, index in places)
    store.close()


# -- kept checkpoints, commits of a run, further work


async def test_checkpoints_of_others_are_kept_by_role_and_name(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.kept_checkpoint("witnessed", "h/ledger") is None
    for size in (4, 7):
        await store.commit([], work=lambda db, size=size: tables.put_checkpoint(db, "witnessed", "h/ledger", size, b"note"))
    assert store.kept_checkpoint("witnessed", "h/ledger") == (7, b"note")
    assert store.kept_checkpoint("own", "") == (0, store.checkpoint)
    store.close()


async def test_work_in_the_transaction_can_refuse_it(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def refuse(db: object) -> None:
        raise SteadError("not so", code="test.no")

    with pytest.raises(SteadError, match="not so"):
        await store.commit([note()], meta={"colour": "red"}, work=refuse)
    assert store.size == 0 and store.meta("colour") is None and store.trouble == ""
    check_log(store)
    store.close()


async def test_the_commits_that_carried_a_run_are_counted(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run = some_run()
    for _ in range(3):
        await store.commit([note()], runs=[run])
    with pytest.raises(SteadError):
        await store.commit([note()], runs=[run], use_approvals=["none"])
    assert store.commits(run.id) == 3 and store.commits("none") == 0
    store.close()
