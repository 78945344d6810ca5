from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from stead.agent.tidying import tidy_for_ever
from stead.ledger.pack import RECENT
from stead.model.errors import SteadError
from stead.tlog.tiles import WIDTH
from tests.ledger.kit import check_log, note, opened


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, what: str, **more: Any) -> None:
        self.lines.append(f"{what}: {more['why']}")


class Refusing:
    """A ledger that can't be tidied for some calls; the tenth ends the test."""

    def __init__(self, whys: list[str]) -> None:
        self.whys, self.trouble, self.calls = whys, "", 0
        self.done = asyncio.Event()

    async def tidy(self, keep_days: float) -> None:
        self.calls += 1
        if self.calls == 10:
            self.done.set()
        if why := self.whys.pop(0) if self.whys else "":
            raise SteadError(why, "ledger.db", code="ledger.altered")


async def test_old_entries_are_packed_without_anybody_asking(tmp_path: Path) -> None:
    store, log = opened(tmp_path), Log()
    before = await store.commit([note() for _ in range(WIDTH + RECENT)])
    task = asyncio.create_task(tidy_for_ever(store, 90.0, log, every_s=0.01))
    async with asyncio.timeout(20):
        while not store._rows("SELECT place FROM bundles"):
            await asyncio.sleep(0.01)
    task.cancel()
    assert store.log.leaves(0, WIDTH) == tuple(before[:WIDTH]) and log.lines == []
    check_log(store)
    store.close()


async def test_what_fails_is_told_once_and_tried_again() -> None:
    log, ledger = Log(), Refusing(["one", "one", "", "one", "two"])
    task = asyncio.create_task(tidy_for_ever(ledger, 90.0, log, every_s=0.001))  # type: ignore[arg-type]
    await asyncio.wait_for(ledger.done.wait(), 20)
    task.cancel()
    assert [line.partition(": ")[2].partition(" (")[0] for line in log.lines] == ["one", "one", "two"]


async def test_a_ledger_in_trouble_is_left_alone() -> None:
    ledger = Refusing([])
    ledger.trouble = "the disk is full"
    task = asyncio.create_task(tidy_for_ever(ledger, 90.0, Log(), every_s=0.001))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    task.cancel()
    assert ledger.calls == 0
