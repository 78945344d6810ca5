"""The series store's own thread: samples are handed over in memory, disk work never makes a tick wait.

A disk that is full or read-only shows as an unhealthy station; what could not be written stays in memory (bounded by the
store) and is tried again at the next flush.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from stead.agent.series_store import SeriesStore
from stead.model.errors import SteadError
from stead.model.messages import QuerySeries, SeriesAnswer, Station
from stead.model.observe import MetricsSnapshot, Now, Sample, Top


class RawWriter:
    """Puts a `SeriesStore` behind one thread."""

    def __init__(self, store: SeriesStore) -> None:
        self.store = store
        self.thread = ThreadPoolExecutor(1, "series")
        self.error: SteadError | None = None
        self.pending: Future[Any] | None = None

    def append(self, now: Now, samples: Sequence[Sample]) -> None:
        """Take one tick's samples; every `flush_s` seconds hand them to the thread."""
        self.store.append(now, samples)
        if not self.store.due(now) or (self.pending is not None and not self.pending.done()):
            return
        self.pending = self.thread.submit(self._safely, lambda: self.store.maintain(now))

    def snapshots(self, snapshots: Sequence[MetricsSnapshot], top: Top | None) -> None:
        """Keep five-minute snapshots and their busiest processes."""
        self.store.snapshots(snapshots, top)
        self.thread.submit(self._safely, self.store.flush)

    async def query(self, body: QuerySeries) -> SeriesAnswer:
        """Read a range on the thread."""
        ask = lambda: self.store.query(body.metric, body.subject, body.from_ms, body.to_ms, body.points)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self.thread, ask)

    async def merged(self, metrics: Sequence[str], from_ms: int, to_ms: int) -> list[MetricsSnapshot]:
        """Each subject of these metrics, all that is stored of it in a range as one, merged on the thread."""
        ask = lambda: self.store.merged(metrics, from_ms, to_ms)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self.thread, ask)

    def stations(self) -> tuple[Station, ...]:
        """Healthy, or why the last write failed."""
        return (Station("series", self.error is None, str(self.error) if self.error else ""),)

    def close(self) -> None:
        """Write what is in memory and end the thread."""
        self.thread.submit(self._safely, self.store.flush)
        self.thread.shutdown(wait=True)
        self.store.close()

    def _safely(self, work: Callable[[], object]) -> None:
        try:
            work()
            self.error = None
        except SteadError as error:
            self.error = error
        except Exception as error:  # a defect must not look healthy
            self.error = SteadError(f"the series can't be stored: {error!r}", str(self.store.path), "see stead.log")
