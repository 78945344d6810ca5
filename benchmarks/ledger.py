"""The record: durable appends beside a bare hash chain in the same run, and what a million entries cost to check.

    python -m benchmarks.ledger [--times 5] [--events 20000] [--entries 1000000] [--folder .]

Appends: 64 producers await durability of one event at a time (leaves of about 400 bytes). stead is `LedgerStore.commit` as
shipped: leaf, row, tree and a signed checkpoint a transaction. The rival is benchmarks.ledger_chain. The two take turns, each
in a new file of the same folder, and what a 4 KiB append with fdatasync takes there is measured in every turn.
A million: the log is grown by the store, then opened, verified and proven from as it is, and again when it is packed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from benchmarks.ledger_chain import HashChain
from benchmarks.measure import Figure, publish
from stead.cli.ledger_workers import workers
from stead.flow import record
from stead.flow.record import Stamp
from stead.ledger.leaf import uuid7
from stead.ledger.offline import open_offline
from stead.ledger.store import LedgerStore
from stead.ledger.stored import StoreSource
from stead.ledger.verify import verify
from stead.model.observe import Now
from stead.model.record import Entry
from stead.testing import FakeClock
from stead.tlog.checkpoint import parse_checkpoint
from stead.tlog.merkle import check_inclusion, leaf_hash
from stead.tlog.note import parse_note

PRODUCERS = 64
HOST = "web-3.example.net"
BEGAN_MS = 1_767_225_600_000
SYNCS = 200
PROOFS = 1_000
ROUNDS = 3


class Turn(NamedTuple):
    """One side's turn: seconds until all was durable, the writer's fsyncs, bytes an event in the file."""

    took_s: float
    transactions: int
    entry_bytes: float


def events(count: int, seed: int = 1, first: int = 0) -> list[Entry]:
    """Events with leaves of about 400 bytes: the policy's check of a run, with ids that rise with time."""
    choose, made = random.Random(seed), []
    for number in range(first, first + count):
        at_ms = BEGAN_MS + number

        def new_id(at_ms: int = at_ms) -> str:
            return uuid7(at_ms, choose.randbytes(10))

        stamp = Stamp(HOST, Now(at_ms, at_ms), new_id)
        rules = ("tier:1", "budget:actions_per_hour")
        made.append(record.policy_checked(new_id(), "allow", rules, choose.randbytes(16).hex(), stamp, new_id()))
    return made


async def produced(entries: Sequence[Entry], append: Callable[[Entry], Awaitable[object]]) -> float:
    """Seconds until all are durable, when 64 producers await each of theirs."""
    waiting = iter(entries)

    async def produce() -> None:
        for entry in waiting:
            await append(entry)

    began = time.perf_counter()
    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    return time.perf_counter() - began


async def ours(path: Path, entries: Sequence[Entry]) -> Turn:
    """The store as shipped."""
    store = LedgerStore.open(path, HOST, FakeClock())
    took_s = await produced(entries, lambda entry: store.commit((entry,)))
    transactions = store.transactions
    store.close()
    return Turn(took_s, transactions, path.stat().st_size / len(entries))


async def chain(path: Path, entries: Sequence[Entry]) -> Turn:
    """The rival."""
    log = HashChain(path, asyncio.get_running_loop())
    took_s = await produced(entries, log.append)
    log.close()
    return Turn(took_s, log.transactions, path.stat().st_size / len(entries))


def sync_ms(folder: Path) -> float:
    """The median of appending 4 KiB and bringing it to the disk, in ms."""
    path, times = folder / "syncs", []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    for _ in range(SYNCS):
        began = time.perf_counter()
        os.write(fd, bytes(4096))
        os.fdatasync(fd)
        times.append(time.perf_counter() - began)
    os.close(fd)
    path.unlink()
    return statistics.median(times) * 1000


def appends(times: int, count: int, folder: str) -> list[Figure]:
    """Both sides in turn, so many times each after one that nobody counts; medians, and the median of the pairs' ratios."""
    entries, turns, syncs = events(count), list[tuple[Turn, Turn]](), list[float]()
    for number in range(times + 1):
        pair = []
        for side in (ours, chain) if number % 2 else (chain, ours):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                syncs.append(sync_ms(Path(place)))
                pair.append((side is chain, asyncio.run(side(Path(place, "ledger.db"), entries))))
        turns.append((dict(pair)[False], dict(pair)[True]))
    turns = turns[1:]
    mine, its = (statistics.median(pair[side].took_s for pair in turns) for side in (0, 1))
    ratio = statistics.median(one.took_s / other.took_s for one, other in turns)
    fewest, most = (choose(one.took_s / other.took_s for one, other in turns) for choose in (min, max))
    of, its_of = turns[-1]
    return [
        Figure("append, stead", count / mine, "entries/s", None, f"{of.transactions} fsyncs, {of.entry_bytes:.0f} B an entry"),
        Figure("append, chain", count / its, "entries/s", None, f"{its_of.transactions} fsyncs, {its_of.entry_bytes:.0f} B"),
        Figure("stead's time, as a part of the chain's", ratio, "", 1.35, f"median of {times} pairs, {fewest:.2f} to {most:.2f}"),
        Figure("fdatasync of 4 KiB, in the same run", statistics.median(syncs), "ms"),
    ]


async def grow(path: Path, count: int) -> float:
    """A log of so many entries, 256 a commit; seconds of committing."""
    store, took_s = LedgerStore.open(path, HOST, FakeClock()), 0.0
    for first in range(0, count, 65_536):
        entries = events(min(65_536, count - first), first, first)
        began = time.perf_counter()
        for at in range(0, len(entries), 256):
            await store.commit(entries[at : at + 256])
        took_s += time.perf_counter() - began
    store.close()
    return took_s


async def pack(path: Path) -> float:
    """Everything packed that can be; seconds."""
    store, began = LedgerStore.open(path, HOST, FakeClock()), time.perf_counter()
    while (await store.tidy()).groups:
        pass
    took_s = time.perf_counter() - began
    store.close()
    return took_s


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the best of some rounds."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def verified(path: Path, alone: bool) -> None:
    """The whole log anew from its leaves: as `stead ledger verify` does it, or by this process alone."""
    with open_offline(path) as ledger:
        source = StoreSource(ledger)
        with nullcontext() if alone else workers(path, ledger.size, deep=False) as looks:
            verify(source, looks=looks)


def prove_ms(path: Path) -> float:
    """The median proof of a random entry, leaf and all, in ms; each is checked."""
    store = LedgerStore.open(path, HOST, FakeClock())
    root, times = parse_checkpoint(parse_note(store.checkpoint).text).root, []
    for index in random.Random(1).sample(range(store.size), PROOFS):
        began = time.perf_counter()
        leaf, proof = store.log.leaves(index, index + 1)[0].leaf, store.log.proof(index)
        times.append(time.perf_counter() - began)
        check_inclusion(leaf_hash(leaf), index, store.size, proof, root)
    store.close()
    return statistics.median(times) * 1000


def used_bytes(path: Path) -> int:
    """The file without its free pages: those that packing leaves are filled by later entries."""
    db = sqlite3.connect(path)
    pages, free, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    db.close()
    return int((pages - free) * size)


def checked(path: Path, count: int, kind: str) -> list[Figure]:
    """What it costs to start on such a file, to verify it whole, and to prove one entry."""

    def start() -> None:
        LedgerStore.open(path, HOST, FakeClock()).close()

    return [
        Figure(f"{kind}: size", used_bytes(path) / count, "B an entry", None, "without free pages"),
        Figure(f"{kind}: full verification", fastest(lambda: verified(path, False)), "s", 3.0),
        Figure(f"{kind}: the same by one process", fastest(lambda: verified(path, True)), "s"),
        Figure(f"{kind}: an entry and its inclusion proof", prove_ms(path), "ms", 1.0),
        Figure(f"{kind}: start", fastest(start), "s", 1.0),
    ]


def many(count: int, folder: str) -> list[Figure]:
    """The figures of a log of so many entries, as it is written and as it is packed later."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place, "ledger.db")
        figures = [Figure(f"{count:,} entries: build", asyncio.run(grow(path, count)), "s")]
        figures += checked(path, count, "as written")
        figures.append(Figure("pack all of it", asyncio.run(pack(path)), "s"))
        return figures + checked(path, count, "packed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 when a figure that stead holds is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="turns of each side")
    parser.add_argument("--events", type=int, default=20_000, help="events a turn")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the large log (0: none)")
    parser.add_argument("--folder", default=".", help="the file system to measure on")
    options = parser.parse_args(arguments)
    figures = appends(options.times, options.events, options.folder)
    if options.entries:
        figures += many(options.entries, options.folder)
    return publish("ledger", f"The record: {PRODUCERS} producers, {options.events:,} events a turn", figures)


if __name__ == "__main__":
    raise SystemExit(main())
