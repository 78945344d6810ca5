from __future__ import annotations

import sqlite3
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest

from stead.flow import runs
from stead.ledger import pack
from stead.ledger.leaf import BLOB_MAX_BYTES
from stead.ledger.offline import open_offline
from stead.ledger.pack import RECENT, Tidied, deflated, inflated
from stead.ledger.store import LedgerStore
from stead.ledger.stored import StoreSource
from stead.ledger.verify import verify
from stead.model.errors import SteadError
from stead.model.ledger_messages import SearchEntries
from stead.testing import FakeClock
from stead.tlog.tiles import WIDTH, unbundle
from tests.flow.kit import ANN, approval
from tests.ledger.kit import check_log, note, opened
from tests.ledger.test_store import STAMP, finding, some_run

DAY_MS = 86_400_000


async def packed(place: Path, count: int = 2 * WIDTH + RECENT + 10) -> LedgerStore:
    """A ledger whose first two groups are packed; every third entry has something beside it."""
    store = opened(place)
    bulks = [b'{"who":"ann %d"}' % number if number % 3 == 0 else None for number in range(count)]
    await store.commit([note(f"text {number}", bulk=bulk) for number, bulk in enumerate(bulks)])
    assert await store.tidy() == Tidied(groups=2)
    return store


async def test_packed_leaves_come_back_as_they_were(tmp_path: Path) -> None:
    store = opened(tmp_path)
    count = 2 * WIDTH + RECENT + 10
    before = await store.commit([note(f"text {number}", bulk=b"x" if number % 3 else None) for number in range(count)])
    checkpoint = store.checkpoint
    beside = store.log.blobs(0, count)
    assert (await store.tidy()).groups == 2 and store.checkpoint == checkpoint
    assert store.log.leaves(0, count) == tuple(before) and store.log.blobs(0, count) == beside and len(beside) > 100
    assert [store.entry(before[place].id) for place in (0, 255, 256, 511, 512)] == [before[i] for i in (0, 255, 256, 511, 512)]
    assert store.entries(3, subject="s") == tuple(before[:-4:-1])
    index, blob = beside[0]
    assert store.blob(before[index].id) == blob and store.bulk(before[index].id) == blob.data
    check_log(store)
    found = verify(StoreSource(store), deep=True)
    assert found.size == count and found.blobs == len(beside)
    store.close()
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert ledger.leaves(0, count) == tuple(before) and ledger.blobs(0, count) == beside


async def test_the_rows_are_small_and_the_bundle_is_that_of_tlog_tiles(tmp_path: Path) -> None:
    store = await packed(tmp_path)
    leaves = [entry.leaf for entry in store.log.leaves(0, WIDTH)]
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    assert db.execute("SELECT max(seq) FROM entries WHERE length(leaf) = 0 AND blob IS NULL").fetchone() == (2 * WIDTH,)
    assert db.execute("SELECT min(seq) FROM entries WHERE length(leaf)").fetchone() == (2 * WIDTH + 1,)
    (data,) = db.execute("SELECT data FROM bundles WHERE place = 0").fetchone()
    assert unbundle(zlib.decompress(data)) == leaves and len(data) < sum(map(len, leaves)) / 3
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


async def test_only_complete_groups_that_are_not_the_newest_are_packed_some_a_call(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note() for _ in range(WIDTH + RECENT - 1)])
    assert await store.tidy() == Tidied()
    await store.commit([note()])
    assert await store.tidy() == Tidied(groups=1) and await store.tidy() == Tidied()
    await store.commit([note() for _ in range(5 * WIDTH)])
    assert [(await store.tidy()).groups for _ in range(4)] == [2, 2, 1, 0]
    transactions = store.transactions
    await store.commit([note()])
    assert store.transactions == transactions + 1
    check_log(store)
    store.close()


async def test_what_lies_beside_a_packed_leaf_can_be_erased_alone(tmp_path: Path) -> None:
    store = await packed(tmp_path)
    first, second = store.log.leaves(0, 4)[0], store.log.leaves(0, 4)[3]
    await store.erase(first.id, ANN)
    assert store.blob(first.id) is None and store.bulk(second.id) == b'{"who":"ann 3"}'
    with pytest.raises(SteadError, match="nothing to erase"):
        await store.erase(first.id, ANN)
    assert [index for index, _ in store.log.blobs(0, 7)] == [3, 6]
    assert verify(StoreSource(store), deep=True).erased == 1
    store.close()
    kept = (tmp_path / "ledger.db").read_bytes()
    assert b'{"who":"ann 0"}' not in kept and deflated(b'{"who":"ann 0"}') not in kept, "also not in a free page"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (SearchEntries(text="text 7 "), []),
        (SearchEntries(text="TEXT 200"), [201]),
        (SearchEntries(text="ANN 300"), [301]),
        (SearchEntries(actor="agent", limit=1), [778]),
        (SearchEntries(actor="uid:1"), []),
        (SearchEntries(subject="s", text="text 11", before=114), [113, 112, 111, 12]),
    ],
)
async def test_packed_entries_are_searched(tmp_path: Path, query: SearchEntries, found: list[int]) -> None:
    store = await packed(tmp_path)
    assert [entry.seq for entry in store.search(query).entries] == found
    store.close()


async def test_runs_and_findings_that_ended_long_ago_leave_their_tables(tmp_path: Path) -> None:
    clock = FakeClock()
    store = LedgerStore.open(tmp_path / "ledger.db", "host1", clock)
    over, live = some_run("over", "deny"), some_run("live")
    of_open = msgspec.structs.replace(over, id="of-open", proposal=msgspec.structs.replace(over.proposal, finding_id="open"))
    kept = msgspec.structs.replace(
        runs.start(over.proposal, over.decision, STAMP)[0], id="new", updated_ms=clock.unix_ms + DAY_MS
    )
    gone, opened_ = finding(id="gone", cleared_ms=clock.unix_ms), finding(id="open")
    await store.commit([note()], runs=[over, live, of_open, kept], findings=[gone, opened_])
    await store.commit([], approvals=[approval(id="old", proposal_id="over"), approval(id="live", proposal_id="live")])
    clock.advance(DAY_MS)
    assert await store.tidy(keep_days=1.0) == Tidied()
    clock.advance(1)
    assert await store.tidy(keep_days=1.0) == Tidied(runs=1, findings=1)
    assert store.run("over") is None and store.approvals("over") == () and store.finding("gone") is None
    assert {run.id for run in store.runs()} == {"live", "of-open", "new"} and len(store.approvals("live")) == 1
    assert store.open_findings() == (opened_,) and store.findings(cleared=True) == (opened_,)
    store.close()


async def test_an_entry_that_is_missing_is_named_and_nothing_is_packed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note() for _ in range(WIDTH + RECENT)])
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("DELETE FROM entries WHERE seq = 5")
    db.commit()
    with pytest.raises(SteadError, match="of entries 1 to 256, 1 are missing") as caught:
        pack.tidy(db, tmp_path / "ledger.db", 0)
    assert caught.value.problem.code == "ledger.altered"
    db.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE bundles SET data = x'00' WHERE place = 0",
        "UPDATE bundles SET data = CAST(data || x'00' AS BLOB) WHERE place = 0",
        "DELETE FROM bundles WHERE place = 0",
        "UPDATE bundles SET data = (SELECT substr(data, 1, 100) FROM bundles WHERE place = 0)",
    ],
)
async def test_a_damaged_bundle_is_named(tmp_path: Path, damage: str) -> None:
    (await packed(tmp_path)).close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute(damage)
    db.commit()
    db.close()
    store = opened(tmp_path)
    with pytest.raises(SteadError, match="the packed leaves of entries 1 to 256") as caught:
        store.log.leaves(0, 10)
    assert caught.value.problem.code == "ledger.altered"
    assert len(store.log.leaves(2 * WIDTH, 10_000)) == RECENT + 10
    store.close()


async def test_a_damaged_blob_is_named(tmp_path: Path) -> None:
    (await packed(tmp_path)).close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("UPDATE bundled_blobs SET data = x'ff' WHERE seq = 1")
    db.commit()
    db.close()
    store = opened(tmp_path)
    with pytest.raises(SteadError, match="beside entry 1 can't be unpacked"):
        store.log.blobs(0, 1)
    store.close()


@pytest.mark.parametrize("data", [b"", b"x", b"a reason", bytes(range(256)) * 40])
def test_a_blob_is_deflated_by_itself(data: bytes) -> None:
    assert inflated(deflated(data)) == data and len(deflated(data)) <= len(data) + 8


def test_a_day_is_the_least_that_runs_are_kept() -> None:
    days = (-5.0, 0.0, float("nan"), 1.0, 1.5, float("inf"))
    assert [pack.kept_ms(one) / DAY_MS for one in days] == [1, 1, 1, 1, 1.5, 36_500]


@pytest.mark.parametrize("window_bits", [15, -15], ids=["bundle", "blob"])
def test_no_more_is_unpacked_than_can_be_there(monkeypatch: pytest.MonkeyPatch, window_bits: int) -> None:
    monkeypatch.setattr(pack, "BUNDLE_MAX_BYTES", 1000)
    monkeypatch.setattr(pack, "BLOB_MAX_BYTES", 1000)
    unpack = pack._unzipped if window_bits > 0 else inflated

    def packed_(data: bytes) -> bytes:
        packer = zlib.compressobj(wbits=window_bits)
        return packer.compress(data) + packer.flush()

    assert unpack(packed_(bytes(1000))) == bytes(1000) and unpack(packed_(b"")) == b""
    for data in (packed_(bytes(1001)), packed_(bytes(1 << 24)), packed_(b"x")[:-1], packed_(b"x") + b"x", b""):
        with pytest.raises(zlib.error):
            unpack(data)


BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB_BYTES = b"".join(BOMB.compress(bytes(1 << 20)) for _ in range(64)) + BOMB.flush()


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE bundles SET data = ? WHERE place = 0", zlib.compress(bytes(1 << 26))),
        ("UPDATE bundled_blobs SET data = ? WHERE seq = 1", BOMB_BYTES),
        ("UPDATE bundles SET data = ? WHERE place = 0", 1 << 40),
        ("UPDATE bundled_blobs SET data = ? WHERE seq = 1", 1 << 40),
        ("UPDATE bundled_blobs SET salt = ? WHERE seq = 1", 1 << 40),
        ("UPDATE blobs SET data = ?", 1 << 40),
        ("UPDATE blobs SET salt = ?", "text"),
        ("UPDATE entries SET leaf = ? WHERE seq = 1", 1 << 40),
    ],
)
async def test_a_row_that_would_fill_the_memory_is_an_altered_ledger(tmp_path: Path, statement: str, value: object) -> None:
    (await packed(tmp_path)).close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    assert db.execute(statement, (value,)).rowcount
    db.commit()
    db.close()
    store = opened(tmp_path)
    tracemalloc.start()
    with pytest.raises(SteadError) as caught:
        verify(StoreSource(store), deep=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.problem.code == "ledger.altered" and peak < 3 << 24
    store.close()


@pytest.mark.parametrize("statement", ["UPDATE entries SET leaf = 99 WHERE seq = 7", "UPDATE blobs SET data = 99"])
async def test_what_is_no_bytes_is_not_packed(tmp_path: Path, statement: str) -> None:
    store = opened(tmp_path)
    await store.commit([note(bulk=b"x") for _ in range(WIDTH + RECENT)])
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute(statement)
    db.commit()
    with pytest.raises(SteadError, match="int where bytes belongs") as caught:
        pack.tidy(db, tmp_path / "ledger.db", 0)
    assert caught.value.problem.code == "ledger.altered"
    db.close()


async def test_what_is_too_large_to_lie_beside_a_leaf_is_not_recorded(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note(bulk=bytes(BLOB_MAX_BYTES))])
    with pytest.raises(SteadError, match="too many to be kept beside"):
        await store.commit([note(bulk=bytes(BLOB_MAX_BYTES + 1))])
    check_log(store)
    store.close()
