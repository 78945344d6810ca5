"""What is gone from beside a leaf was erased by an order, or the ledger was altered: a deep verification tells which."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from stead.ledger.export import export
from stead.ledger.exported import verify_export
from stead.ledger.gone import Erasure, Gone, erasure, unexplained
from stead.ledger.offline import open_offline
from stead.ledger.stored import StoreSource
from stead.ledger.verify import Verification, verify
from stead.model.errors import SteadError
from stead.model.record import StoredEntry
from tests.ledger.kit import ANN, note, opened
from tests.ledger.listed import Listed, blob_ref, changed, entry
from tests.ledger.test_pack import packed

SALT = b"s" * 16
BLOBS = {seq: (SALT, b"%d" % seq) for seq in range(1, 31, 2)}
ENTRIES = [entry(seq, blob=blob_ref(*BLOBS[seq])) if seq in BLOBS else entry(seq) for seq in range(1, 31)]


def erased(seq: int, at: int, **more: str) -> StoredEntry:
    """Entry `at` says that what lay beside entry `seq` was erased."""
    body = {"about": f"e{seq:04d}", "blob": blob_ref(*BLOBS[seq])}
    return entry(at, type="blob.erased", body={**body, **more})


def without(*gone: int, then: tuple[StoredEntry, ...] = ()) -> Listed:
    return Listed([*ENTRIES, *then], blobs={seq: blob for seq, blob in BLOBS.items() if seq not in gone})


def lost(source: Listed) -> str:
    with pytest.raises(SteadError, match="no entry says that it was erased") as caught:
        verify(source, deep=True)
    assert caught.value.problem.code == "ledger.altered" and caught.value.problem.fix
    assert verify(source).size == len(source.entries), "who does not ask for blobs is not told of them"
    return caught.value.problem.where


def test_an_erasure_is_an_entry() -> None:
    found: Verification = verify(without(7, 29, then=(erased(29, 31), erased(7, 32))), deep=True)
    assert (found.blobs, found.erased) == (13, 2)


def test_what_nobody_said_was_erased_is_named() -> None:
    assert lost(without(9, 7)) == "the list, entry 7"
    assert lost(without(29)) == "the list, entry 29", "also the newest"
    assert lost(without(7, 9, then=(erased(7, 31),))) == "the list, entry 9"
    assert lost(without(*BLOBS)) == "the list, entry 1"


@pytest.mark.parametrize("said", [{"about": "e0009"}, {"blob": blob_ref(SALT, b"8")}, {"about": ""}, {"blob": ""}])
def test_an_entry_that_speaks_of_another_is_no_erasure_of_this(said: dict[str, str]) -> None:
    assert lost(without(7, then=(erased(7, 31, **said),))).endswith("entry 7")


def test_an_erasure_comes_after_what_it_erased() -> None:
    assert unexplained([Gone(7, "a", "r")], [Erasure(6, "a", "r")]) == Gone(7, "a", "r")
    assert unexplained([Gone(7, "a", "r")], [Erasure(9, "a", "r"), Erasure(6, "a", "r")]) is None
    assert unexplained([], [Erasure(6, "a", "r")]) is None
    assert [erasure(1, leaf) for leaf in (b"", b"[", b'{"body":[]}', b"[" * 99_999)] == [None] * 4


def test_what_is_erased_while_it_is_verified_is_no_lie() -> None:
    source = without(7)
    old, head = source.head(), source.head
    source.entries.append(erased(7, 31))
    source.note = source.signed(31)
    answers = iter([old])
    source.head = lambda: next(answers, None) or head()  # type: ignore[method-assign]
    assert verify(source, deep=True).size == 30
    source.entries[-1] = changed(erased(9, 31))
    source.note = source.signed(31)
    answers = iter([old])
    with pytest.raises(SteadError, match="no entry says"):
        verify(source, deep=True)


# in the store itself


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM blobs WHERE ref = (SELECT blob FROM entries WHERE seq = 601)",
        "UPDATE entries SET blob = NULL WHERE seq = 601",
        "UPDATE blobs SET ref = 'sha256:00' WHERE ref = (SELECT blob FROM entries WHERE seq = 601)",
        "UPDATE entries SET blob = 'sha256:00' WHERE seq = 601",
        "DELETE FROM bundled_blobs WHERE seq = 4",
        "UPDATE bundled_blobs SET seq = -4 WHERE seq = 4",
    ],
)
async def test_every_way_to_lose_a_blob_is_seen(tmp_path: Path, statement: str) -> None:
    store = await packed(tmp_path)
    other = store.leaves(6, 7)[0]
    await store.erase(other.id, ANN, "an order")
    assert verify(StoreSource(store), deep=True).erased == 1
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    assert db.execute(statement).rowcount == 1
    db.commit()
    db.close()
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert verify(StoreSource(ledger)).size == ledger.size
        with pytest.raises(SteadError, match="no entry says that it was erased") as caught:
            verify(StoreSource(ledger), deep=True)
    assert caught.value.problem.where.endswith("entry 4" if "bundled" in statement else "entry 601")


async def test_an_erasure_is_told_also_when_its_own_reason_was_erased(tmp_path: Path) -> None:
    store = opened(tmp_path)
    (entry_,) = await store.commit([note(bulk=b'"x"')])
    said = await store.erase(entry_.id, ANN, "because of Ann Smith")
    await store.erase(said.id, ANN)
    assert verify(StoreSource(store), deep=True).erased == 2
    store.close()


# exports


def test_an_export_without_blobs_lacks_none(tmp_path: Path) -> None:
    export(without(), tmp_path)
    found = verify_export(tmp_path, deep=True)
    assert (found.blobs, found.erased) == (0, 15)


def test_of_an_export_with_blobs_none_is_missing_but_newer_ones(tmp_path: Path) -> None:
    export(without(7, then=(erased(7, 31),)), tmp_path, blobs=True)
    assert verify_export(tmp_path, deep=True).erased == 1
    later = without(7, then=(erased(7, 31), entry(32, blob=blob_ref(SALT, b"new"))))
    export(later, tmp_path)
    assert verify_export(tmp_path, deep=True).erased == 2, "the second export was made without blobs"
    (tmp_path / "blobs" / blob_ref(*BLOBS[9]).removeprefix("sha256:")).unlink()
    with pytest.raises(SteadError, match="no entry says") as caught:
        verify_export(tmp_path, deep=True)
    assert caught.value.problem.where.endswith("entry 9")
    shutil.rmtree(tmp_path / "blobs")
    assert verify_export(tmp_path, deep=True).erased == 16
