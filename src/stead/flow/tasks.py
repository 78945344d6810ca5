"""Tasks: who is at work on which run. A run is moved by one hand at a time, and the tick never waits for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any


class Tasks:
    """The tasks that move runs, and which runs are being moved: whoever else wants one waits, or comes back later."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()

    def busy(self, run_id: str) -> bool:
        """Is somebody at work on this run?"""
        return run_id in self._busy

    @contextlib.contextmanager
    def at_work(self, run_id: str) -> Iterator[None]:
        """Be at work on this run."""
        self._busy[run_id] += 1
        try:
            yield
        finally:
            self._leave(run_id)

    def start(self, run_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Work on a run beside the tick; it is busy from now on."""
        self._busy[run_id] += 1
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, run_id))

    async def finish(self) -> None:
        """Wait for all that were started."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None], run_id: str) -> None:
        self._tasks.discard(task)
        self._leave(run_id)

    def _leave(self, run_id: str) -> None:
        self._busy[run_id] -= 1
        if not self._busy[run_id]:
            del self._busy[run_id]
