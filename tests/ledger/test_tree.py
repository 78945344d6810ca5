from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError
from stead.model.ledger_messages import SearchEntries
from stead.model.policy import Actor
from stead.testing import FakeClock
from stead.tlog.merkle import check_consistency, check_inclusion, leaf_hash
from tests.ledger.kit import ANN, NOW_MS, check_log, note, opened, tree_hash

SIZE = 777


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerStore]:
    """A log of three tiles and some, written in groups of many sizes."""
    store = opened(tmp_path_factory.mktemp("log"))

    async def fill() -> None:
        left, size = SIZE, 1
        while left:
            size = min(left, size * 2 % 97 + 1)
            await store.commit([note() for _ in range(size)])
            left -= size

    asyncio.run(fill())
    yield store
    store.close()


# -- proofs


@given(st.integers(0, SIZE - 1), st.integers(0, SIZE))
@settings(max_examples=60)
def test_any_entry_is_proven_in_any_size_that_has_it(log: LedgerStore, index: int, more: int) -> None:
    leaves = [entry.leaf for entry in log.leaves(0, SIZE)]
    size = min(SIZE, index + 1 + more)
    check_inclusion(leaf_hash(leaves[index]), index, size, log.proof(index, size), tree_hash(leaves[:size]))


@given(st.integers(1, SIZE), st.integers(1, SIZE))
@settings(max_examples=60)
def test_any_size_begins_any_later_one(log: LedgerStore, first: int, second: int) -> None:
    old, new = sorted((first, second))
    leaves = [entry.leaf for entry in log.leaves(0, SIZE)]
    assert log.root_at(old) == tree_hash(leaves[:old])
    check_consistency(old, new, log.consistency(old, new), log.root_at(old), log.root_at(new))


def test_the_present_size_is_the_default(log: LedgerStore) -> None:
    assert log.log is log and log.size == SIZE
    assert log.proof(5) == log.proof(5, SIZE) and log.consistency(5) == log.consistency(5, SIZE)
    for index, size in ((SIZE, SIZE), (-1, 5), (0, SIZE + 1)):
        with pytest.raises(ValueError, match=r"no leaf|never had"):
            log.proof(index, size)
    with pytest.raises(ValueError, match="never had"):
        log.root_at(SIZE + 1)


async def test_proofs_go_on_while_the_log_grows(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note() for _ in range(10)])
    growing = asyncio.gather(*(store.commit([note() for _ in range(40)]) for _ in range(30)))
    while not growing.done():
        size = store.size
        root = store.root_at(size)
        check_inclusion(leaf_hash(store.leaves(7, 8)[0].leaf), 7, size, store.proof(7, size), root)
        await asyncio.sleep(0.001)
    await growing
    check_log(store)
    store.close()


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_however_entries_are_grouped_the_root_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    store = opened(tmp_path_factory.mktemp("groups"))

    async def fill() -> list[bytes]:
        leaves = []
        for group in groups:
            stored = await asyncio.gather(*(store.commit([note() for _ in range(count)]) for count in group))
            leaves += sorted((entry.seq, entry.leaf) for entries in stored for entry in entries)
        return [leaf for _, leaf in leaves]

    leaves = asyncio.run(fill())
    assert store.root_at(store.size) == tree_hash(leaves)
    check_log(store)
    store.close()


# -- entries


def test_leaves_by_index(log: LedgerStore) -> None:
    assert [entry.seq for entry in log.leaves(3, 6)] == [4, 5, 6] and log.leaves(SIZE, SIZE + 5) == ()
    assert [entry.seq for entry in log.leaves(-4, 2)] == [1, 2] and log.leaves(5, 5) == ()


async def test_an_entry_by_the_start_or_end_of_its_id(tmp_path: Path) -> None:
    store = opened(tmp_path)
    stored = await store.commit([note(), note(), note(type="a.b")])
    ids = [entry.id for entry in stored]
    assert [store.entry(one) for one in ids] == list(stored)
    assert store.entry("none") is None and store.entry("") is None and store.entry("%") is None and store.entry("*") is None
    with pytest.raises(SteadError, match="several entries") as caught:
        store.entry("e")
    assert caught.value.problem.code == "entry.ambiguous"
    assert store.entry(ids[0][1:]) == stored[0], "an ending"
    store.close()


# -- blobs


async def test_a_blob_is_erased_for_good_and_every_proof_still_holds(tmp_path: Path) -> None:
    store = opened(tmp_path)
    secret = b"ann's telephone number " + b"0123456789" * 900
    stored = await store.commit([note(bulk=secret), note(bulk=b"other"), note()])
    blob = store.blob(stored[0].id)
    assert blob is not None and blob.data == secret and json.loads(stored[0].leaf)["blob"] == blob.ref
    assert [(index, one.data) for index, one in store.blobs(0, 3)] == [(0, secret), (1, b"other")]
    store._need().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert b"telephone" in store.path.read_bytes()
    entry = await store.erase(stored[0].id, ANN)
    body = json.loads(entry.leaf)["body"]
    assert entry.type == "blob.erased" and body == {"about": stored[0].id, "blob": blob.ref} and entry.subject == stored[0].id
    assert store.blob(stored[0].id) is None and store.bulk(stored[1].id) == b"other"
    left = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert b"telephone" not in left and b"0123456789" not in left, "nor in the write-ahead log"
    check_inclusion(leaf_hash(stored[0].leaf), 0, store.size, store.proof(0), store.root_at(store.size))
    check_log(store)
    for nothing in (stored[0].id, stored[2].id, "none"):
        with pytest.raises(SteadError, match="nothing to erase"):
            await store.erase(nothing, ANN)
    assert store.size == 4
    store.close()


# -- search


async def searchable(place: Path) -> LedgerStore:
    store = opened(place)
    ann, agent = Actor("user", "uid:1000"), Actor("agent", "stead")
    await store.commit(
        [
            note("Über alles", type="run.kept", subject="run-1", actor=agent, ts_ms=NOW_MS),
            note("50% of it", type="run.undone", subject="run-1", actor=ann, ts_ms=NOW_MS + 1000),
            note("50 of it", type="finding.opened", subject="f1", actor=agent, ts_ms=NOW_MS + 2000),
            note(
                'a "quoted" \\ word',
                type="finding.opened",
                subject="f2",
                actor=agent,
                bulk=b'{"k":"Beside_it"}',
                ts_ms=NOW_MS + 3000,
            ),
        ]
    )
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (SearchEntries(), [4, 3, 2, 1]),
        (SearchEntries(limit=2), [4, 3]),
        (SearchEntries(types="run.*"), [2, 1]),
        (SearchEntries(types="finding.opened", subject="f2"), [4]),
        (SearchEntries(subject="run-1"), [2, 1]),
        (SearchEntries(actor="uid:1000"), [2]),
        (SearchEntries(actor="agent"), [4, 3, 1]),
        (SearchEntries(since_ms=NOW_MS + 1000, until_ms=NOW_MS + 3000), [3, 2]),
        (SearchEntries(text="50%"), [2]),
        (SearchEntries(text="OF IT"), [3, 2]),
        (SearchEntries(text="Über"), [1]),
        (SearchEntries(text='"quoted" \\'), [4]),
        (SearchEntries(text="beside_it"), [4]),
        (SearchEntries(text="beside-it"), []),
        (SearchEntries(text="\ud800"), []),
        (SearchEntries(after=1, before=4), [3, 2]),
        (SearchEntries(types="run.*", actor="user", text="it", limit=9), [2]),
    ],
)
async def test_search(tmp_path: Path, query: SearchEntries, found: list[int]) -> None:
    store = await searchable(tmp_path)
    assert [entry.seq for entry in store.search(query).entries] == found
    store.close()


async def test_one_answer_looks_at_a_bounded_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stead.ledger.search.LEAVES_STRETCH", 100)
    store = opened(tmp_path, clock=FakeClock())
    await store.commit([note("rare" if number in (10, 260) else "x") for number in range(300)])
    before, found, pages = 0, list[int](), 0
    while True:
        page = store.search(SearchEntries(text="rare", before=before))
        found += [entry.seq for entry in page.entries]
        before, pages = page.more, pages + 1
        if not before:
            break
    assert found == [261, 11] and pages == 3
    page = store.search(SearchEntries(limit=200))
    assert len(page.entries) == 200 and store.search(SearchEntries(limit=200, before=page.more)).more == 0
    store.close()
