"""A disk that fails or fills up: nothing acknowledged is lost, the error says what to do, and the store resumes by itself.

Every operation of a workload fails once, each in a run of its own: as EIO on a write, as a full disk, as EIO on an fsync.
Real full disks are in test_store.py and tests/e2e/test_full_disk.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from stead.flow import record
from stead.flow.record import Stamp
from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError
from stead.testing import FakeClock
from stead.tlog.tiles import WIDTH
from tests.flow.kit import NOW, counter
from tests.ledger.power import Disk, Fault, Op
from tests.ledger.test_power import checkpoint, root
from tests.ledger.test_store import finding, some_run

COMMITS = 14
KINDS = {
    "EIO on a write": (apsw.SQLITE_IOERR_WRITE, "write"),
    "a full disk": (apsw.SQLITE_FULL, "write"),
    "EIO on an fsync": (apsw.SQLITE_IOERR_FSYNC, "sync"),
}


class Outcome(NamedTuple):
    """What a workload told its callers, and what was there at the end."""

    acknowledged: list[bytes]
    errors: list[SteadError]
    leaves: list[bytes]
    operations: int


class Failing:
    """Lets an operation of one kind fail: the n-th, or all from the n-th on until `repaired`."""

    def __init__(self, disk: Disk, code: int, kind: str, at: int, lasting: bool = False) -> None:
        self.code, self.kind, self.at, self.lasting, self.seen, self.repaired = code, kind, at, lasting, 0, False
        disk.before = self

    def __call__(self, op: Op) -> None:
        if op.kind != self.kind:
            return
        self.seen += 1
        if not self.repaired and (self.seen == self.at or (self.lasting and self.seen > self.at)):
            raise Fault(self.code)


async def tried(make: Callable[[], LedgerStore], errors: list[SteadError]) -> LedgerStore:
    """Open it, again after an error."""
    try:
        return make()
    except SteadError as error:
        errors.append(error)
        return make()


async def work(place: Path, disk: Disk, failing: Failing | None = None) -> Outcome:
    """Commits, each tried anew (with entries of its own, as the agent does) when it fails; then a restart."""

    def make() -> LedgerStore:
        return LedgerStore.open(place / "ledger.db", "host1", FakeClock(), connect=disk.connect)

    stamp = Stamp("host1", NOW, counter("e"))
    acknowledged, errors, roots = list[bytes](), list[SteadError](), dict[int, bytes]()
    store = await tried(make, errors)

    def show() -> None:
        head = checkpoint(store)
        assert roots.setdefault(head.size, head.root) == head.root, f"two trees of {head.size} entries"

    for number in range(COMMITS):
        for _ in range(3):
            entries = [record.entry("test.noted", stamp, {"n": number}, bulk="x" * 2000) for _ in range(3)]
            try:
                stored = await store.commit(entries, runs=[some_run(f"run-{number}")], findings=[finding(id=f"f{number}")])
            except SteadError as error:
                errors.append(error)
                kept = {entry.leaf for entry in store.log.leaves(0, 1000)}
                assert kept >= set(acknowledged), "reading goes on"
                if failing is not None and len(errors) > 1:
                    failing.repaired = True
                continue
            acknowledged += [entry.leaf for entry in stored]
            assert store.trouble == ""
            break
        show()
    store.close()
    store = await tried(make, errors)
    show()
    leaves = [entry.leaf for entry in store.log.leaves(0, 1000)]
    assert checkpoint(store).size == len(leaves) and checkpoint(store).root == root(leaves)
    assert store._need().execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert len(store.live_runs()) == COMMITS
    store.close()
    return Outcome(acknowledged, errors, leaves, len(disk.trace))


def checked(outcome: Outcome, code: str) -> None:
    """Every acknowledged entry is there; at most what one call reported as failed came through all the same."""
    assert len(outcome.acknowledged) == 3 * COMMITS
    assert set(outcome.acknowledged) <= set(outcome.leaves)
    extra = len(outcome.leaves) - len(outcome.acknowledged)
    assert extra in range(0, 3 * len(outcome.errors) + 1, 3), "a transaction is there whole or not at all"
    for error in outcome.errors:
        assert error.problem.code == code and "ledger.db" in str(error) and error.problem.fix


def operations(place: Path, kind: str) -> int:
    """How many operations of a kind the workload makes when nothing fails."""
    disk = Disk()
    place.mkdir()
    asyncio.run(work(place, disk))
    return sum(1 for op in disk.trace if op.kind == kind)


def each(place: Path, name: str, step: int) -> None:
    code, kind = KINDS[name]
    told = "ledger.full" if code == apsw.SQLITE_FULL else "ledger.io"
    reported = 0
    for at in range(1, operations(place / "plain", kind) + 1, step):
        folder, disk = place / f"{at}", Disk()
        folder.mkdir()
        outcome = asyncio.run(work(folder, disk, Failing(disk, code, kind, at)))
        checked(outcome, told)
        reported += len(outcome.errors)
    assert reported, "some of them must be seen by a caller, or nothing failed at all"


@pytest.mark.parametrize("name", KINDS)
def test_an_operation_that_fails_once(tmp_path: Path, name: str) -> None:
    each(tmp_path, name, step=1 if "fsync" in name else 17)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in KINDS if "fsync" not in name])
def test_each_operation_fails_once(tmp_path: Path, name: str) -> None:
    """Buys: the one write in hundreds after which the store would not come back."""
    each(tmp_path, name, step=1)


async def base(place: Path) -> dict[str, bytes]:
    """The file of a log with two groups to pack, some of whose leaves have something beside them."""
    disk, stamp = Disk(), Stamp("host1", NOW, counter("b"))
    store = LedgerStore.open(place / "ledger.db", "host1", FakeClock(), connect=disk.connect)
    for _ in range(3 * WIDTH // 64):
        await store.commit([record.entry("test.noted", stamp, {}, bulk="x" * 50 * (n % 3) or None) for n in range(64)])
    store.close()
    return {name: bytes(data) for name, data in disk.files.items()}


async def packing(place: Path, files: dict[str, bytes], failing: Callable[[Disk], Failing | None]) -> tuple[int, bool]:
    """Pack, with faults; then pack again. How many operations of a kind that took, and whether it failed at first."""
    disk = Disk(files)
    store = LedgerStore.open(place / "ledger.db", "host1", FakeClock(), connect=disk.connect)
    leaves, blobs, shown = store.log.leaves(0, 1000), store.log.blobs(0, 1000), store.checkpoint
    fault, failed, done = failing(disk), False, 0
    try:
        done = (await store.tidy()).groups
    except SteadError:
        failed = True
    seen = fault.seen if fault else 0
    assert store.log.leaves(0, 1000) == leaves and store.log.blobs(0, 1000) == blobs
    done += (await store.tidy()).groups
    assert done == 2 and store.checkpoint == shown
    store.close()
    store = LedgerStore.open(place / "ledger.db", "host1", FakeClock(), connect=disk.connect)
    assert store.log.leaves(0, 1000) == leaves and store.log.blobs(0, 1000) == blobs and store.checkpoint == shown
    assert store._need().execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    store.close()
    return seen, failed


def each_while_packing(place: Path, name: str, step: int) -> None:
    code, kind = KINDS[name]
    files = asyncio.run(base(place))
    total, _ = asyncio.run(packing(place, files, lambda disk: Failing(disk, code, kind, at=-1)))
    failed = [
        asyncio.run(packing(place, files, lambda disk, at=at: Failing(disk, code, kind, at)))[1]
        for at in range(1, total + 1, step)
    ]
    assert any(failed)


@pytest.mark.parametrize("name", KINDS)
def test_an_operation_that_fails_while_leaves_are_packed(tmp_path: Path, name: str) -> None:
    each_while_packing(tmp_path, name, step=1 if "fsync" in name else 23)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in KINDS if "fsync" not in name])
def test_each_operation_fails_once_while_leaves_are_packed(tmp_path: Path, name: str) -> None:
    """Buys: no single write of the largest transaction that there is may lose a leaf."""
    each_while_packing(tmp_path, name, step=1)


@pytest.mark.parametrize("name", KINDS)
async def test_what_lasts_is_told_and_is_over_by_itself(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stead.ledger.store.TRY_AGAIN_S", 0.01)
    code, kind = KINDS[name]
    disk, stamp = Disk(), Stamp("host1", NOW, counter("e"))
    store = LedgerStore.open(tmp_path / "ledger.db", "host1", FakeClock(), connect=disk.connect)
    (kept,) = await store.commit([record.entry("test.noted", stamp, {})])
    shown = store.checkpoint
    failing = Failing(disk, code, kind, at=1, lasting=True)
    for _ in range(3):
        with pytest.raises(SteadError) as caught:
            await store.commit([record.entry("test.noted", stamp, {"text": "y" * 9000})])
        assert caught.value.problem.fix and store.trouble
        assert store.checkpoint == shown, "nothing is shown that is not durable"
    failing.repaired = True
    async with asyncio.timeout(20):
        while store.trouble:
            await asyncio.sleep(0.01)
    assert store.entry(kept.id) == kept
    stored = await store.commit([record.entry("test.noted", stamp, {})])
    assert checkpoint(store).size == stored[-1].seq
    store.close()
