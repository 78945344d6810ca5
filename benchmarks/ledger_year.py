"""How large the record of a busy host becomes in a year, from days written by the real builders through the real store.

    python -m benchmarks.ledger_year [--days 12] [--whole]

Every five simulated minutes the store tidies, as the agent has it do. Runs and findings stay in their tables for 3 days instead
of 90 here, so that the last days show what only the log grows by; the year is then 365 such days, and 90 days of the tables.
`--whole` writes the 365 days instead, with the agent's own setting; it takes some ten minutes. Everything counts: the file
with its indexes and free pages, after a clean end.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.ledger_day import MINUTE_MS, Day
from benchmarks.measure import Figure, publish
from stead.flow.keep import Keeper
from stead.ledger.pack import KEEP_DAYS
from stead.ledger.store import LedgerStore
from stead.testing import FakeClock

SHORT_DAYS = 3
YEAR_DAYS = 365


class Written(NamedTuple):
    """What some days left behind: the file's bytes after each of them, and what they cost."""

    sizes: list[int]
    entries: int
    leaf_bytes: int
    tidy_s: float
    tidy_max_s: float


async def write(days: int, folder: Path, keep_days: float | None) -> Written:
    """So many busy days. Without `keep_days` nothing is ever packed or dropped."""
    clock, day = FakeClock(), Day()
    store = LedgerStore.open(folder / "ledger.db", day.host, clock)
    keeper = Keeper(store, None, lambda: day.stamp(clock.unix_ms).new_id())
    sizes, spent, leaf_bytes, tidied_ms = list[int](), [0.0], 0, 0
    for number in range(days):
        for commit in day.commits(number):
            clock.unix_ms = commit.at_ms
            stored = await keeper.commit(commit.entries, **commit.more)
            leaf_bytes += sum(len(entry.leaf) for entry in stored)
            if keep_days is not None and commit.at_ms >= tidied_ms + 5 * MINUTE_MS:
                began = time.perf_counter()
                await store.tidy(keep_days)
                spent.append(time.perf_counter() - began)
                tidied_ms = commit.at_ms
        sizes.append((folder / "ledger.db").stat().st_size)
    entries = store.size
    store.close()
    return Written([*sizes[:-1], (folder / "ledger.db").stat().st_size], entries, leaf_bytes, sum(spent), max(spent))


def measured(days: int, keep_days: float | None) -> Written:
    """The same in a folder of its own; in memory where there is such a file system, because only the size matters."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        return asyncio.run(write(days, Path(folder), keep_days))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the days, and say what a year takes; 1 when it is over the bar."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger_year", description=__doc__)
    parser.add_argument("--days", type=int, default=12, help=f"how many to write; more than twice {SHORT_DAYS}")
    parser.add_argument("--whole", action="store_true", help="write a whole year")
    options = parser.parse_args(arguments)
    plain = measured(2, None)
    before = (plain.sizes[1] - plain.sizes[0]) * YEAR_DAYS
    if options.whole:
        found = measured(YEAR_DAYS, KEEP_DAYS)
        year, note = float(found.sizes[-1]), "measured over 365 days"
    else:
        found = measured(options.days, SHORT_DAYS)
        settled = found.sizes[2 * SHORT_DAYS - 1]
        daily = (found.sizes[-1] - settled) / (options.days - 2 * SHORT_DAYS)
        tables = (found.sizes[-1] - daily * options.days) / SHORT_DAYS
        year, note = daily * YEAR_DAYS + max(0.0, tables) * KEEP_DAYS, f"from {options.days} days"
    days = len(found.sizes)
    return publish(
        "ledger_year",
        "The record of a busy host: size",
        [
            Figure("entries", found.entries / days, "a day"),
            Figure("a leaf", found.leaf_bytes / found.entries, "B"),
            Figure("a year, nothing packed", before / 1e9, "GB"),
            Figure("a year", year / 1e9, "GB", 1.0, note),
            Figure("an entry, all counted", year / (found.entries / days * YEAR_DAYS), "B"),
            Figure("packing", found.tidy_s / days, "s a day", None, f"the longest call {found.tidy_max_s * 1000:.0f} ms"),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
