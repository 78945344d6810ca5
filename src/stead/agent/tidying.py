"""Has the record made smaller, a little every five minutes: see `stead.ledger.pack`. What fails is told once, and tried again."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError

EVERY_S: Final = 300.0


async def tidy_for_ever(ledger: LedgerStore, keep_days: float, log: Any, every_s: float = EVERY_S) -> None:
    """Until cancelled. A ledger that has trouble, or was stopped, is left alone."""
    told = ""
    while True:
        await asyncio.sleep(every_s)
        if ledger.trouble:
            continue
        try:
            await ledger.tidy(keep_days)
            told = ""
        except SteadError as error:
            if str(error) != told:
                log.error("old entries of the ledger can't be packed", why=str(error), code=error.problem.code)
            told = str(error)
