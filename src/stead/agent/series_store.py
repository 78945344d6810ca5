"""The host's series on disk: raw values, five-minute snapshots, hours and days, each for as long as it is worth.

The agent's loop only calls `append`, `snapshots` and `due`, which work in memory. `maintain` (or `flush`,
`roll`, `retain`) does the rest and may run on another thread: what was gathered goes to disk at least every `flush_s`
seconds as a small block, so that kill -9 loses no more than that; every five minutes those become one block for the
host; complete hours and days are merged from snapshots. Where the disk refuses, what is new stays in memory (an hour at
most) and the next flush tries again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from stead.agent.series_pending import Pending
from stead.agent.series_query import Source, choose, merged_answer, raw_answer
from stead.agent.series_schema import PROCESSES_ONLY, SNAPSHOT_COLUMNS, lock, open_reader, open_writer, refusal
from stead.model.config import StoreConfig
from stead.model.messages import SeriesAnswer
from stead.model.observe import MetricsSnapshot, Now, Sample, Top
from stead.stats.blocks import Block, decode, encode
from stead.stats.window import merge

BLOCK_MS: Final = 300_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
SETTLED_MS: Final = 60_000  # an hour's last snapshots arrive a little after its end
MAX_WAITING_ROWS: Final = 3600
MAX_WAITING_SNAPSHOTS: Final = 20_000
_LEVELS: Final[dict[Source, int]] = {"hour": 3600, "day": 86_400}
_COLUMNS: Final = ", ".join(SNAPSHOT_COLUMNS)
_PLACES: Final = ", ".join("?" * len(SNAPSHOT_COLUMNS))


class SeriesStore:
    """One host's `series.db`, with one writer. `lost_rows` counts ticks given up because the disk refused for too long."""

    def __init__(
        self,
        path: str | Path,
        config: StoreConfig = StoreConfig(),  # noqa: B008  frozen
        *,
        snapshot_s: float = 300.0,
        units: Mapping[str, str] | None = None,
    ) -> None:
        """Open or make the file. Raises SteadError: written by a newer stead, in use, damaged, not writable."""
        self.path, self.config = Path(path), config
        self.units: Mapping[str, str] = units or {}
        self.lost_rows = 0
        self._base = max(int(snapshot_s), 1)
        self._held = lock(self.path)
        try:
            self._db = open_writer(self.path)
            self._reader = open_reader(self.path)
        except BaseException:
            self._held.close()
            raise
        self._writing, self._reading, self._adding = threading.Lock(), threading.Lock(), threading.Lock()
        self._pending = Pending()
        self._waiting: list[Pending] = []  # taken for a flush, not on disk yet
        self._queued: list[MetricsSnapshot] = []
        self._tops: list[tuple[int, int, Top]] = []
        self._ids: dict[tuple[str, str], int] = {}
        self._retained_ms = 0

    def append(self, now: Now, samples: Iterable[Sample]) -> None:
        """Gather one tick's raw values, in memory. Never fails."""
        with self._adding:
            self._pending.add(now, samples)

    def snapshots(self, snapshots: Sequence[MetricsSnapshot], top: Top | None = None) -> None:
        """Gather a window's snapshots, and the busiest processes at its end, for the next flush. In memory; never fails."""
        with self._adding:
            self._queued.extend(snapshots)
            if top is not None and snapshots:
                span = (min(one.start_ms for one in snapshots), max(one.end_ms for one in snapshots))
                self._tops.append((*span, top))

    def due(self, now: Now) -> bool:
        """Is it time to flush, so that no more than `flush_s` seconds are ever in memory only?"""
        tick_ms = 1000
        waited_ms = now.mono_ms - self._pending.began_mono_ms
        return bool(self._pending.at_ms) and waited_ms + tick_ms >= self.config.flush_s * 1000

    def flush(self) -> int:
        """Write what was gathered; gives the number of ticks. Raises SteadError where the disk refuses; nothing is lost then."""
        with self._writing:
            with self._adding:
                if self._pending.at_ms:
                    self._waiting.append(self._pending)
                    self._pending = Pending()
                queued, self._queued = self._queued, []
                tops, self._tops = self._tops, []
            try:
                with self._transaction():
                    for pending in self._waiting:
                        block = encode(pending.block(self._id_of))
                        span = (min(pending.at_ms), max(pending.at_ms))
                        self._db.execute("INSERT INTO raw_pending (start_ms, end_ms, block) VALUES (?, ?, ?)", (*span, block))
                    for snapshot in queued:
                        self._put(snapshot, self._base)
                    for start_ms, end_ms, top in tops:
                        row = (start_ms, end_ms, msgspec.json.encode(top).decode())
                        self._db.execute("INSERT OR REPLACE INTO top_processes VALUES (?, ?, ?)", row)
            except BaseException:
                self._keep(queued, tops)
                raise
            with self._adding:
                written, self._waiting = sum(len(one.at_ms) for one in self._waiting), []
            return written

    def roll(self, now: Now) -> None:
        """Combine the pending blocks of past five minutes into one each; merge complete hours and days. Raises SteadError."""
        with self._writing, self._transaction():
            self._roll_raw(now.unix_ms)
            self._roll_up(self._bases(), 3600, now.unix_ms)
            self._roll_up([3600], 86_400, now.unix_ms)

    def retain(self, now: Now) -> None:
        """Drop what is older than the configuration keeps; days are kept ten years. Raises SteadError."""
        keep_days = {"snapshot": self.config.snapshot_days, "hour": self.config.hour_days, "day": 3653.0}
        cut = {source: now.unix_ms - int(days * DAY_MS) for source, days in keep_days.items()}
        with self._writing, self._transaction():
            self._db.execute("DELETE FROM raw_blocks WHERE start_ms < ?", (now.unix_ms - int(self.config.raw_days * DAY_MS),))
            self._db.execute("DELETE FROM top_processes WHERE start_ms < ?", (cut["snapshot"],))
            self._db.execute(f"DELETE FROM metrics_snapshots WHERE {PROCESSES_ONLY} AND start_ms < ?", (cut["snapshot"],))  # noqa: S608
            levels = [*((base, cut["snapshot"]) for base in self._bases()), (3600, cut["hour"]), (86_400, cut["day"])]
            for metric, subject in self._known():
                for resolution, before_ms in levels:
                    self._db.execute(
                        "DELETE FROM metrics_snapshots WHERE metric_id = ? AND subject = ? AND resolution = ? AND start_ms < ?",
                        (metric, subject, resolution, before_ms),
                    )
        with self._writing:
            self._db.execute("PRAGMA incremental_vacuum(256)").fetchall()

    def maintain(self, now: Now) -> None:
        """Flush and roll, and once an hour retain: for a writer thread, every few seconds. Raises SteadError."""
        self.flush()
        self.roll(now)
        if not 0 <= now.unix_ms - self._retained_ms < HOUR_MS:
            self.retain(now)
            self._retained_ms = now.unix_ms

    def query(self, metric: str, subject: str, from_ms: int, to_ms: int, points: int = 600) -> SeriesAnswer:
        """One series over [from, to), at most `points` rows. Raw values where the range is short and they are kept."""
        span, unit = (from_ms, to_ms), self.units.get(metric, "")
        try:
            with self._writing, self._reading:  # between two writes, so that nothing is on its way to the disk
                source = choose(to_ms - from_ms, points, self._base * 1000, self._oldest(metric, subject), from_ms)
                if source == "raw":
                    return raw_answer(metric, subject, unit, self._raw(metric, subject, from_ms, to_ms), span, points)
                rows = self._stored(self._reader, metric, subject, self._resolutions(source), span)
            return merged_answer(metric, subject, unit, source, rows, span, points)
        except (sqlite3.Error, ValueError) as error:
            raise refusal(error, self.path) from error

    def merged(self, metrics: Iterable[str], from_ms: int, to_ms: int) -> list[MetricsSnapshot]:
        """Each subject of these metrics as one snapshot of all that is stored of it in [from, to). Raises SteadError."""
        with self._writing, self._reading:
            try:
                found = []
                for metric in metrics:
                    subjects = self._reader.execute(
                        "SELECT DISTINCT subject FROM metrics_snapshots WHERE metric_id = ?", (metric,)
                    )
                    for (subject,) in subjects.fetchall():
                        rows = self._whole_hours(metric, subject, from_ms, to_ms)
                        found += [merge(rows, rows[0].start_ms, rows[-1].end_ms)] if rows else []
                return found
            except (sqlite3.Error, ValueError) as error:
                raise refusal(error, self.path) from error

    def _whole_hours(self, metric: str, subject: str, from_ms: int, to_ms: int) -> list[MetricsSnapshot]:
        """Hours where they are complete, and after the last of them what is finer."""
        hours = self._stored(self._reader, metric, subject, [_LEVELS["hour"]], (from_ms, to_ms))
        since = (max((one.end_ms for one in hours), default=from_ms), to_ms)
        return hours + self._stored(self._reader, metric, subject, self._resolutions("snapshot"), since)

    def close(self) -> None:
        """Flush what can be, and let the file go. Raises SteadError where the last flush failed."""
        try:
            self.flush()
        finally:
            self._reader.close()
            self._db.close()
            self._held.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._ids.clear()  # ids given in this transaction are void
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error | OSError | ValueError):
                raise refusal(error, self.path) from error
            raise

    def _keep(self, queued: list[MetricsSnapshot], tops: list[tuple[int, int, Top]]) -> None:
        """After a refused flush: back into memory, the oldest given up beyond the bound."""
        with self._adding:
            self._queued = [*queued, *self._queued][-MAX_WAITING_SNAPSHOTS:]
            self._tops = [*tops, *self._tops][-MAX_WAITING_ROWS:]
            while sum(len(one.at_ms) for one in self._waiting) > MAX_WAITING_ROWS:
                self.lost_rows += len(self._waiting.pop(0).at_ms)

    def _id_of(self, metric: str, subject: str) -> int:
        found = self._ids.get((metric, subject))
        if found is None:
            self._db.execute("INSERT OR IGNORE INTO series (metric, subject) VALUES (?, ?)", (metric, subject))
            found = self._db.execute("SELECT id FROM series WHERE metric = ? AND subject = ?", (metric, subject)).fetchone()[0]
            self._ids[metric, subject] = int(found)
        return int(found)

    def _put(self, snapshot: MetricsSnapshot, resolution: int) -> None:
        """Store a snapshot; one of the same start (a clock set back, a second start) is merged with it."""
        if not snapshot.subject.startswith("process:"):
            self._id_of(snapshot.metric_id, snapshot.subject)
        values = msgspec.structs.asdict(snapshot) | {"resolution": resolution}
        row = tuple(values[column] for column in SNAPSHOT_COLUMNS)
        done = self._db.execute(f"INSERT OR IGNORE INTO metrics_snapshots ({_COLUMNS}) VALUES ({_PLACES})", row)  # noqa: S608
        if done.rowcount:
            return
        span = (snapshot.start_ms, snapshot.start_ms + 1)
        stored = self._stored(self._db, snapshot.metric_id, snapshot.subject, [resolution], span)
        both = merge([*stored, snapshot], snapshot.start_ms, max(snapshot.end_ms, *(one.end_ms for one in stored)))
        row = tuple((msgspec.structs.asdict(both) | {"resolution": resolution})[column] for column in SNAPSHOT_COLUMNS)
        self._db.execute(f"INSERT OR REPLACE INTO metrics_snapshots ({_COLUMNS}) VALUES ({_PLACES})", row)  # noqa: S608

    def _roll_raw(self, unix_ms: int) -> None:
        rows = self._db.execute(
            "SELECT start_ms / ? AS slot, id FROM raw_pending WHERE slot != ? ORDER BY slot, id", (BLOCK_MS, unix_ms // BLOCK_MS)
        ).fetchall()
        for slot in sorted({row[0] for row in rows}):
            ids = [row[1] for row in rows if row[0] == slot]
            block = Block()
            for one in ids:
                block.extend(decode(self._db.execute("SELECT block FROM raw_pending WHERE id = ?", (one,)).fetchone()[0]))
            if not block.at_ms:
                continue
            span = (min(block.at_ms), max(block.at_ms))
            self._db.execute("INSERT INTO raw_blocks (start_ms, end_ms, block) VALUES (?, ?, ?)", (*span, encode(block)))
            self._db.executemany("DELETE FROM raw_pending WHERE id = ?", [(one,) for one in ids])

    def _roll_up(self, finer: Sequence[int], resolution: int, unix_ms: int) -> None:
        """Merge snapshots into every complete interval of `resolution` seconds since the last time."""
        step_ms, key = resolution * 1000, f"rolled.{resolution}"
        end_ms = (unix_ms - SETTLED_MS) // step_ms * step_ms
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        from_ms = int(row[0]) if row else 0
        if end_ms <= from_ms:
            return
        for metric, subject in self._known():
            groups: dict[int, list[MetricsSnapshot]] = {}
            for one in self._stored(self._db, metric, subject, finer, (from_ms, end_ms)):
                groups.setdefault(one.start_ms // step_ms * step_ms, []).append(one)
            for start_ms, group in groups.items():
                self._put(merge(group, start_ms, start_ms + step_ms), resolution)
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, str(end_ms)))

    def _bases(self) -> list[int]:
        """Every snapshot interval that was ever used here (a setting may change)."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'bases'").fetchone()
        known = [int(one) for one in row[0].split()] if row else []
        if self._base not in known and self._base < 3600:
            known.append(self._base)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('bases', ?)", (" ".join(map(str, known)),))
        return known

    def _known(self) -> list[tuple[str, str]]:
        return self._db.execute("SELECT metric, subject FROM series").fetchall()

    def _resolutions(self, source: Source) -> list[int]:
        if source in _LEVELS:
            return [_LEVELS[source]]
        row = self._reader.execute("SELECT value FROM meta WHERE key = 'bases'").fetchone()
        return sorted({self._base, *(int(one) for one in row[0].split())}) if row else [self._base]

    def _oldest(self, metric: str, subject: str) -> dict[Source, int]:
        """Where each source of this series begins, for those that have any rows."""
        found: dict[Source, int] = {}
        oldest = "SELECT min(start_ms) FROM raw_blocks UNION ALL SELECT min(start_ms) FROM raw_pending"
        first = [row[0] for row in self._reader.execute(oldest)]
        with self._adding:
            first += [one.at_ms[0] for one in (*self._waiting, self._pending) if one.at_ms]
        known = [one for one in first if one is not None]
        if known and not subject.startswith("process:"):
            found["raw"] = min(known)
        for source in ("snapshot", "hour", "day"):
            for resolution in self._resolutions(source):
                row = self._reader.execute(
                    "SELECT min(start_ms) FROM metrics_snapshots WHERE metric_id = ? AND subject = ? AND resolution = ?",
                    (metric, subject, resolution),
                ).fetchone()
                if row[0] is not None:
                    found[source] = min(row[0], found.get(source, row[0]))
        return found

    def _raw(self, metric: str, subject: str, from_ms: int, to_ms: int) -> list[tuple[int, float]]:
        with self._adding:
            fresh = [row for one in (*self._waiting, self._pending) for row in one.series(metric, subject)]
        row = self._reader.execute("SELECT id FROM series WHERE metric = ? AND subject = ?", (metric, subject)).fetchone()
        if row is None:
            return fresh
        stored: dict[int, float] = {}
        for table in ("raw_blocks", "raw_pending"):
            where = f"SELECT block FROM {table} WHERE start_ms >= ? AND start_ms < ? AND end_ms >= ? ORDER BY start_ms"  # noqa: S608
            for (block,) in self._reader.execute(where, (from_ms - 2 * BLOCK_MS, to_ms, from_ms)):
                stored.update(decode(block, (row[0],)).series(row[0]))
        return list((stored | dict(fresh)).items())

    def _stored(
        self, db: sqlite3.Connection, metric: str, subject: str, resolutions: Sequence[int], span_ms: tuple[int, int]
    ) -> list[MetricsSnapshot]:
        found: list[MetricsSnapshot] = []
        for resolution in resolutions:
            rows: Iterable[tuple[Any, ...]] = db.execute(
                f"SELECT {_COLUMNS} FROM metrics_snapshots WHERE metric_id = ? AND subject = ? AND resolution = ?"  # noqa: S608
                " AND start_ms >= ? AND start_ms < ? ORDER BY start_ms",
                (metric, subject, resolution, *span_ms),
            )
            found += [MetricsSnapshot(*row[:2], *row[3:]) for row in rows]
        return sorted(found, key=lambda one: one.start_ms)
