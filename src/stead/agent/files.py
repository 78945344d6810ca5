"""What may be cleaned and what is in quarantine, put together for whoever asks, with the run that undoes each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stead.agent.wiring import Wired
from stead.model.change import Run
from stead.model.cleaning import FileList, Quarantined
from stead.model.errors import SteadError

RUNS: Final = 500
PATIENCE_S: Final = 20.0


async def files(wired: Wired) -> FileList:
    """The newest look, made now where something has changed since. SteadError when a file system does not answer."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            found = await asyncio.to_thread(wired.cleaner.refresh, wired.clock.now())
    except (TimeoutError, BlockingIOError) as error:
        what = f"a folder of the allow-list does not answer within {PATIENCE_S:.0f} s"
        raise SteadError(what, "files", "see `stead findings` for a file system that hangs", code="files.slow") from error
    held = sorted((one.item for one in found.held), key=lambda item: (-item.at_ms, item.path))
    return FileList(found.cleanable, told(held, wired.ledger.runs("runs", RUNS)), found.refused)


def told(held: Iterable[Quarantined], runs: Sequence[Run]) -> tuple[Quarantined, ...]:
    """What is held, with the runs that moved it: the newest that did."""
    moved: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: -(run.acted_ms or run.updated_ms)):
        for step in run.proposal.steps:
            if step.actuator == "files" and (step.want or {}).get("place") == "quarantine" and run.attempts:
                moved.setdefault(step.target.name, run.id)
    return tuple(msgspec.structs.replace(item, run=moved.get(item.path, "")) for item in held)
