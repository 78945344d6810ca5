"""A loss of power at any moment: what was acknowledged is there, and no two trees of one size were ever shown.

The store itself runs on `power.Disk`; a trace of its work is recorded once, and cut at many points, each with another random
loss of what no sync had made durable. What may be left is opened by the store as after a real loss of power.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from stead.flow import record
from stead.flow.record import Stamp
from stead.ledger.leaf import blob_of
from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError
from stead.model.record import Entry
from stead.testing import FakeClock
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import parse_vkey
from stead.tlog.merkle import leaf_hash, root_of
from stead.tlog.note import parse_note, verified
from tests.flow.kit import NOW, counter
from tests.ledger.losses import Loss, losses
from tests.ledger.power import Disk, Fault, Op
from tests.ledger.test_store import finding, some_run

POINTS_LONG, CHUNKS_LONG = 10_000, 40
POINTS_FAST, CHUNKS_FAST = 150, 3
SYNCS_FAIL = 1 / 40
SIZES = (0, 760, 240, 1300, 500)  # of the log at the beginning: without a tile, before its first, and with some to pack
NEVER = itertools.repeat(False)


class Acknowledged(NamedTuple):
    """A commit returned: so many entries are durable."""

    size: int


class Shown(NamedTuple):
    """A checkpoint could be read by others."""

    note: bytes


class Worked(NamedTuple):
    """What the store did: the files it began with, the trace, every leaf in its order at the end; how many groups it packed."""

    files: dict[str, bytes]
    trace: list[Op]
    leaves: list[bytes]
    packed: int = 0


def opened(place: Path, disk: Disk) -> LedgerStore:
    return LedgerStore.open(place / "ledger.db", "host1", FakeClock(), connect=disk.connect)


class Workload:
    """Some minutes of an agent: single transitions, bursts, blobs, runs and findings that are written again and again."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.random = place, random.Random(seed)
        self.stamp = Stamp("host1", NOW, counter(f"e{seed}"))
        self.packed, self.tidies = 0, False

    def entries(self, count: int) -> list[Entry]:
        def one(number: int) -> Entry:
            bulk = "x" * self.random.randrange(3000) if self.random.random() < 0.3 else None
            return record.entry("test.noted", self.stamp, {"n": number}, subject=f"s{number % 7}", bulk=bulk)

        return [one(number) for number in range(count)]

    async def grow(self, store: LedgerStore, disk: Disk, count: int) -> None:
        """Commit until the log has `count` entries, saying what was acknowledged and shown at once."""
        while store.size < count:
            kind = self.random.random()
            if kind < 0.2 and self.tidies:
                await self.tidy(store, disk)
            elif kind < 0.4:
                await asyncio.gather(*(self.commit(store, disk, 1) for _ in range(self.random.randrange(2, 12))))
            else:
                await self.commit(store, disk, self.random.choice((1, 1, 2, 5, 16)))

    async def tidy(self, store: LedgerStore, disk: Disk) -> None:
        try:
            self.packed += (await store.tidy()).groups
        except SteadError:
            if disk.dead:
                raise

    async def commit(self, store: LedgerStore, disk: Disk, count: int) -> None:
        number = self.random.randrange(20)
        runs = [some_run(f"run-{number}")] if self.random.random() < 0.4 else []
        findings = [finding(id=f"f{number}", cleared_ms=self.random.choice((None, 9)))] if self.random.random() < 0.4 else []
        try:
            stored = await store.commit(self.entries(count), runs=runs, findings=findings)
        except SteadError:
            if disk.dead:
                raise
        else:
            disk.note(Acknowledged(stored[-1].seq))


def watched(disk: Disk, store: LedgerStore, kill_at: int = 0, syncs_fail: Iterator[bool] = NEVER) -> None:
    """Note a new checkpoint before the very next operation of the disk: whoever asks could have had it by then.

    With `kill_at` the process is killed before so many operations more. `syncs_fail` says of each sync whether it fails.
    """
    disk.note(Shown(store.checkpoint))
    last, left = store.checkpoint, kill_at

    def look(op: Op) -> None:
        nonlocal last, left
        if store.checkpoint != last:
            last = store.checkpoint
            disk.note(Shown(last))
        left -= 1
        if left == 0:
            disk.dead = True
            raise Fault(apsw.SQLITE_IOERR)
        if op.kind == "sync" and next(syncs_fail):
            raise Fault(apsw.SQLITE_IOERR_FSYNC)

    disk.before = look


def worked(place: Path, seed: int, **more: Any) -> Worked:
    """Record a trace: a log with entries already, two restarts, and between them a kill in the middle; some syncs fail."""
    choose, load = random.Random(seed), Workload(place, seed)
    fail = iter(lambda: choose.random() < SYNCS_FAIL, None)

    async def live(disk: Disk, entries: int, kill_at: int = 0) -> list[bytes]:
        store = opened(place, disk)
        watched(disk, store, kill_at, fail)
        with contextlib.suppress(SteadError):
            await load.grow(store, disk, store.size + entries)
        leaves = [] if kill_at else [entry.leaf for entry in store.log.leaves(0, store.size)]
        store.close()
        disk.before = lambda op: None
        return leaves

    async def run() -> Worked:
        base = Disk()
        await live(base, SIZES[seed % len(SIZES)])
        files = {name: bytes(data) for name, data in base.files.items()}
        disk, load.tidies = Disk(files), True
        for name, value in more.items():
            setattr(disk, name, value)
        await live(disk, 50)
        await live(disk, 500, choose.randrange(20, 400))
        disk = disk.killed()
        leaves = await live(disk, 50)
        return Worked(files, disk.trace, leaves, load.packed)

    return asyncio.run(run())


def faults_of(place: Path, work: Worked, loss: Loss, choose: random.Random, deep: int = 1) -> list[str]:
    """Open what a loss of power left, go on for one commit, and say what is wrong. Once in ten the power fails there again."""
    disk = Disk(loss.files)
    try:
        store = opened(place, disk)
    except (sqlite3.Error, SteadError) as error:
        return [f"it does not open: {error}"]
    watched(disk, store)
    try:
        found = [*_checked(store, work, loss), *_goes_on(store, disk)]
        leaves = [entry.leaf for entry in store.log.leaves(0, 1_000_000)]
    except (sqlite3.Error, SteadError) as error:
        return [f"it opens, and can't be read or written: {error}"]
    finally:
        store.close()
    if deep and choose.random() < 0.1:
        cut = choose.randrange(len(disk.trace) + 1)
        (again,) = losses(disk.trace, [cut], choose, loss.files)
        both = again._replace(told=[*loss.told, *again.told])
        found += faults_of(place, Worked(loss.files, disk.trace, leaves), both, choose, deep - 1)
    return found


def _checked(store: LedgerStore, work: Worked, loss: Loss) -> list[str]:
    faults = []
    (sound,) = store._need().execute("PRAGMA integrity_check").fetchone()
    if sound != "ok":
        faults.append(f"SQLite: {sound}")
    leaves = [entry.leaf for entry in store.log.leaves(0, 1_000_000)]
    acknowledged = max((told.size for told in loss.told if isinstance(told, Acknowledged)), default=0)
    if len(leaves) < acknowledged or leaves[:acknowledged] != work.leaves[:acknowledged]:
        faults.append(f"an acknowledged entry is lost: of {acknowledged}, {len(leaves)} are there")
    if {index: blob_of(blob.salt, blob.data).ref for index, blob in store.log.blobs(0, 1_000_000)} != refs(leaves):
        faults.append("what lies beside a leaf is not what it says")
    head = checkpoint(store)
    if head.size != len(leaves):
        faults.append(f"{len(leaves)} entries, and a checkpoint of {head.size}")
    shown = [parse_checkpoint(parse_note(told.note).text) for told in loss.told if isinstance(told, Shown)]
    roots = Roots(leaves)
    for one in [head, *shown]:
        if one.size > len(leaves):
            faults.append(f"a checkpoint of {one.size} entries was shown, and {len(leaves)} are there")
        elif roots.at(one.size) != one.root:
            faults.append(f"two trees of {one.size} entries")
    return faults


def _goes_on(store: LedgerStore, disk: Disk) -> list[str]:
    before = store.size
    stamp = Stamp("host1", NOW, counter(f"after-{before}-"))
    asyncio.run(_commit(store, record.entry("test.noted", stamp, {})))
    disk.note(Acknowledged(before + 1))
    leaves = [entry.leaf for entry in store.log.leaves(0, 1_000_000)]
    head = checkpoint(store)
    good = head.size == len(leaves) == before + 1 and head.root == root(leaves)
    return [] if good else ["it does not go on as it should"]


async def _commit(store: LedgerStore, *entries: Entry) -> None:
    await store.commit(entries)


def checkpoint(store: LedgerStore) -> Checkpoint:
    """The store's checkpoint, its signature checked."""
    note = parse_note(store.checkpoint)
    assert verified(note, [parse_vkey(text) for text in store.vkeys()])
    return parse_checkpoint(note.text)


def refs(leaves: list[bytes]) -> dict[int, str]:
    """What lies beside which leaf, by its name."""
    found = ((index, re.search(rb'"blob":"([^"]+)"', leaf)) for index, leaf in enumerate(leaves))
    return {index: name[1].decode() for index, name in found if name}


def root(leaves: list[bytes]) -> bytes:
    return root_of([leaf_hash(leaf) for leaf in leaves])


class Roots:
    """The roots of a log at any size, each computed once."""

    def __init__(self, leaves: list[bytes]) -> None:
        self._hashes = [leaf_hash(leaf) for leaf in leaves]
        self.at = functools.cache(lambda size: root_of(self._hashes[:size]))


def faults(place: Path, seed: int, points: int, **more: Any) -> list[str]:
    """What is wrong after losses of power at random points of one trace; each fault with where it happened."""
    work, choose = worked(place, seed, **more), random.Random(seed)
    cuts = sorted(choose.randrange(len(work.trace) + 1) for _ in range(points))
    return [
        f"seed {seed}, after {loss.at} of {len(work.trace)} operations: {fault}"
        for loss in losses(work.trace, cuts, choose, work.files)
        for fault in faults_of(place, work, loss, choose)
    ]


def test_the_traces_have_what_they_are_for(tmp_path: Path) -> None:
    work = worked(tmp_path, 3)
    kinds = {op.kind for op in work.trace}
    assert {"write", "sync", "truncate", "delete", "note"} <= kinds and work.packed >= 2
    told = {type(op.mark) for op in work.trace if op.kind == "note"}
    assert told == {Acknowledged, Shown}


@pytest.mark.parametrize("seed", range(CHUNKS_FAST))
def test_a_loss_of_power_loses_nothing_and_forks_nothing(tmp_path: Path, seed: int) -> None:
    assert faults(tmp_path, seed, POINTS_FAST // CHUNKS_FAST) == []


async def test_a_loss_of_power_while_the_ledger_is_made(tmp_path: Path) -> None:
    made, disk, choose = tmp_path / "made", Disk(), random.Random(1)
    made.mkdir()
    store, load = opened(made, disk), Workload(made, 1)
    watched(disk, store)
    until = len(disk.trace)
    await load.grow(store, disk, 5)
    work = Worked({}, disk.trace, [entry.leaf for entry in store.log.leaves(0, store.size)])
    store.close()
    cuts = sorted(choose.randrange(until + 20) for _ in range(40))
    for number, loss in enumerate(losses(work.trace, cuts, choose)):
        shutil.copytree(made, place := tmp_path / str(number))  # what is left of the keys is another at each point
        assert await asyncio.to_thread(faults_of, place, work, loss, choose, 0) == [], f"after {loss.at} operations"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 100 + CHUNKS_LONG))
def test_ten_thousand_losses_of_power(tmp_path: Path, seed: int) -> None:
    """Buys: the rare orders of kept, dropped and torn writes around checkpoints, WAL resets, restarts and packing."""
    assert faults(tmp_path, seed, POINTS_LONG // CHUNKS_LONG) == []


def test_control_without_full_synchronisation_acknowledged_entries_are_lost(tmp_path: Path) -> None:
    found = faults(tmp_path, 1, 60, synchronous="NORMAL")
    assert any("an acknowledged entry is lost" in fault for fault in found), "the simulator catches what it is for"


def test_control_a_store_that_answers_before_its_commit_is_caught(tmp_path: Path) -> None:
    found = faults(tmp_path, 1, 60, lies=True)
    assert any("lost" in fault for fault in found) and any("was shown" in fault for fault in found)
