"""What the ledger's tree costs by itself: hashing all of it, starting over its tiles, proofs, and a small batch's root.

No disk and no signature is in these figures: tiles lie in a dictionary, entries are random bytes of a usual leaf's length.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.measure import Figure, publish
from stead.tlog.merkle import check_consistency, check_inclusion, leaf_hashes
from stead.tlog.tiles import WIDTH, TileTree, consistency_proof, inclusion_proof, root_at

LEAF_BYTES: Final = 400
BATCH: Final = 64
BATCHES: Final = 5000
PROOFS: Final = 1000

Tiles = dict[tuple[int, int], bytes]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def grow(hashes: Sequence[bytes], size: int) -> tuple[TileTree, Tiles]:
    """A tree over hashes, `size` at a time, and its complete tiles."""
    tiles: Tiles = {}
    tree = TileTree(lambda level, index: tiles[level, index])
    for at in range(0, len(hashes), size):
        tiles |= {(tile.level, tile.index): tile.hashes for tile in tree.append(hashes[at : at + size])}
    return tree, tiles


def rehash(leaves: Sequence[bytes]) -> bytes:
    """The root from the leaves' bytes, a tile's width at a time, as a verifier that reads them goes."""
    tree = TileTree()
    for at in range(0, len(leaves), WIDTH):
        tree.append(leaf_hashes(leaves[at : at + WIDTH]))
    return tree.root()


def rehashed(entries: int) -> tuple[float, list[bytes]]:
    """Seconds of the best of three rounds over made-up entries, and their hashes."""
    bulk = random.Random(1).randbytes(LEAF_BYTES)
    leaves = [index.to_bytes(8, "big") + bulk[8:] for index in range(entries)]
    return min(seconds(lambda: rehash(leaves)) for _ in range(3)), leaf_hashes(leaves)


def commit_us(tree: TileTree, hashes: Sequence[bytes]) -> float:
    """Microseconds of a group commit's part: a copy, 64 leaves more, the new root."""

    def commits() -> None:
        grown = tree
        for at in range(0, len(hashes), BATCH):
            grown = grown.copy()
            grown.append(hashes[at : at + BATCH])
            grown.root()

    return seconds(commits) / (len(hashes) / BATCH) * 1e6


def edge_bytes(hashes: Sequence[bytes]) -> int:
    """What a tree holds in memory once its tiles are given away."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tree = TileTree()
        for at in range(0, len(hashes), WIDTH - 1):
            tree.append(hashes[at : at + WIDTH - 1])
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def proofs_ms(tree: TileTree, hashes: Sequence[bytes]) -> tuple[list[float], list[float]]:
    """Milliseconds of inclusion and of consistency proofs at random places, each checked."""
    chance, root = random.Random(6962), tree.root()
    inclusion, consistency = [], []
    for _ in range(PROOFS):
        index = chance.randrange(tree.size)
        started = time.perf_counter()
        proof = inclusion_proof(tree, index)
        inclusion.append((time.perf_counter() - started) * 1e3)
        check_inclusion(hashes[index], index, tree.size, proof, root)
        started = time.perf_counter()
        proof = consistency_proof(tree, index + 1)
        consistency.append((time.perf_counter() - started) * 1e3)
        check_consistency(index + 1, tree.size, proof, root_at(tree, index + 1), root)
    return inclusion, consistency


def usual(what: str, times_ms: Sequence[float]) -> Figure:
    """The median of many, with the slow ones beside it."""
    slow = statistics.quantiles(times_ms, n=100)[-1]
    return Figure(
        f"{what}, median of {len(times_ms):,}", statistics.median(times_ms), "ms", 1.0, f"99th percentile {slow:.2g} ms"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.merkle", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000, help="leaves of the tree")
    entries = parser.parse_args(arguments).entries
    rehashed_s, hashes = rehashed(entries)
    appended_s = min(seconds(lambda: grow(hashes, 1000)) for _ in range(3))
    tree, tiles = grow(hashes, 1000)
    tail = hashes[entries - entries % WIDTH :]
    restored_ms = seconds(lambda: TileTree.restore(lambda level, index: tiles[level, index], entries, tail)) * 1e3
    inclusion, consistency = proofs_ms(tree, hashes)
    few = hashes[: BATCH * BATCHES]
    return publish(
        "merkle",
        f"The tree of {entries:,} entries",
        [
            Figure(f"root from entries of {LEAF_BYTES} bytes, best of 3", rehashed_s, "s", 2.0),
            Figure("append all hashes, 1,000 at a time, best of 3", appended_s, "s"),
            Figure("start over kept tiles", restored_ms, "ms", 1000.0),
            usual("inclusion proof", inclusion),
            usual("consistency proof", consistency),
            Figure(f"a commit's part: {BATCH} hashes more, the root", commit_us(tree, few), "us"),
            Figure("memory of a tree that gives its tiles away", edge_bytes(few) / 1024, "KiB", 64.0),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
