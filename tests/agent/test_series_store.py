"""The series on disk: what goes in comes out, at every resolution, after kill -9, and when the disk refuses."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.agent.series_store import DAY_MS, HOUR_MS, MAX_WAITING_ROWS, SeriesStore
from stead.model.config import StoreConfig
from stead.model.errors import SteadError
from stead.model.observe import MetricsSnapshot, Now, ProcessUse, Sample, Top
from stead.stats.sketch import Sketch
from stead.stats.window import Window
from tests.stats.kit import START_MS, at


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeriesStore]:
    made = SeriesStore(tmp_path / "series.db", units={"cpu": "percent"})
    yield made
    made.close()


def later(ms: int) -> Now:
    return Now(START_MS + ms, ms)


def ticks(store: SeriesStore, first: int, last: int, flush_every: int = 10) -> None:
    """One tick a second: a value that changes, one every 30 s, one that is not known, and a process."""
    for second in range(first, last):
        samples = [Sample("cpu", "host", second + 0.25), Sample("nic", "network:eth0", None, "no such file")]
        samples += [Sample("cpu", "process:1@1", 1.0)]
        samples += [Sample("disk", "mount:/", 70.0)] if second % 30 == 0 else []
        store.append(at(second), samples)
        if second % flush_every == flush_every - 1:
            store.flush()


def snapshot(
    start_ms: int, values: list[float], metric: str = "cpu", subject: str = "host", seconds: int = 300
) -> MetricsSnapshot:
    window = Window()
    window.take(values)
    window.seconds["good"] = float(seconds)
    window.violations = 1
    return window.snapshot(metric, subject, start_ms, start_ms + seconds * 1000)


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """As a person's SQL shell would read it, beside the running store."""
    with sqlite3.connect(path) as db:
        found = db.execute(sql).fetchall()
    db.close()
    return found


def test_raw_values_come_back_before_and_after_flush_and_roll(store: SeriesStore) -> None:
    ticks(store, 0, 655)
    expected = [(START_MS + 1000 * second, second + 0.25) for second in range(655)]
    for step in (lambda: None, store.flush, lambda: store.roll(at(655)), lambda: store.roll(at(905))):
        step()
        answer = store.query("cpu", "host", START_MS, START_MS + 655_000, points=1000)
        assert (answer.source, answer.unit) == ("raw", "percent")
        assert list(zip(answer.at_ms, answer.avg, strict=True)) == expected
    assert rows(store.path, "SELECT count(*) FROM raw_pending") == [(0,)]
    assert rows(store.path, "SELECT start_ms, end_ms FROM raw_blocks ORDER BY start_ms") == [
        (START_MS + first * 1000, START_MS + last * 1000) for first, last in ((0, 299), (300, 599), (600, 654))
    ]


def test_sparse_series_have_their_own_times_and_unknown_is_not_zero(store: SeriesStore) -> None:
    ticks(store, 0, 61)
    disk = store.query("disk", "mount:/", START_MS, START_MS + 61_000)
    assert (disk.at_ms, disk.avg) == ((START_MS, START_MS + 30_000, START_MS + 60_000), (70.0, 70.0, 70.0))
    nic = store.query("nic", "network:eth0", START_MS, START_MS + 3_000)
    assert nic.avg == (None, None, None)
    assert store.query("nic", "network:eth1", START_MS, START_MS + 3_000).at_ms == ()


def test_more_raw_values_than_points_are_averaged_with_their_extremes(store: SeriesStore) -> None:
    ticks(store, 0, 600)
    answer = store.query("cpu", "host", START_MS, START_MS + 600_000, points=10)
    assert len(answer.at_ms) == 10
    assert (answer.min[0], answer.avg[0], answer.max[0]) == (0.25, 29.75, 59.25)


def test_processes_are_not_kept_raw(store: SeriesStore) -> None:
    ticks(store, 0, 20)
    assert rows(store.path, "SELECT subject FROM series ORDER BY subject") == [("host",), ("mount:/",), ("network:eth0",)]
    assert store.query("cpu", "process:1@1", START_MS, START_MS + 20_000).at_ms == ()


def test_snapshots_are_plain_columns_and_the_busiest_are_json(store: SeriesStore) -> None:
    use = ProcessUse(4711, 5, "sh", "sh -c x", 0, 1.0, 4096, 0.0, 1, 3)
    store.snapshots([snapshot(START_MS, [1.0, 2.0, 4.0])], Top(START_MS, 90, 2, by_cpu=(use,)))
    store.flush()
    columns = "metric_id, subject, resolution, start_ms, end_ms, count, min, max, violations, good_s, unknown_s"
    [row] = rows(store.path, f"SELECT {columns} FROM metrics_snapshots")
    assert row == ("cpu", "host", 300, START_MS, START_MS + 300_000, 3, 1.0, 4.0, 1, 300.0, 0.0)
    [(avg, p50, sketch)] = rows(store.path, "SELECT avg, p50, sketch FROM metrics_snapshots")
    assert avg == pytest.approx(7 / 3)
    assert p50 == pytest.approx(2, rel=0.01)
    assert Sketch.decode(bytes(sketch)).count == 3  # type: ignore[call-overload]
    [(start, end, text)] = rows(store.path, "SELECT start_ms, end_ms, processes FROM top_processes")
    assert (start, end) == (START_MS, START_MS + 300_000)
    assert json.loads(str(text))["by_cpu"][0]["name"] == "sh"


def filled(store: SeriesStore, hours: int) -> list[float]:
    """Twelve snapshots an hour of heavy-tailed values; all values."""
    dice, every = random.Random(7), []
    for number in range(hours * 12):
        values = [dice.paretovariate(0.7) for _ in range(20)]
        every += values
        mixed = [
            snapshot(START_MS + number * 300_000, values),
            snapshot(START_MS + number * 300_000, [5.0], subject="process:1@1"),
        ]
        store.snapshots(mixed)
    return every


def test_hours_and_days_are_exact_merges(store: SeriesStore) -> None:
    every = filled(store, 49)
    store.maintain(later(49 * HOUR_MS + 61_000))
    store.maintain(later(49 * HOUR_MS + 71_000))  # a second time: nothing is merged twice
    hours = rows(
        store.path, "SELECT start_ms, count, good_s, violations FROM metrics_snapshots WHERE resolution = 3600 ORDER BY 1"
    )
    assert hours == [(START_MS + hour * HOUR_MS, 240, 3600.0, 12) for hour in range(49)]
    days = rows(
        store.path, "SELECT start_ms, end_ms, count, p95, sketch FROM metrics_snapshots WHERE resolution = 86400 ORDER BY 1"
    )
    assert [(row[0], row[1], row[2]) for row in days] == [
        (START_MS + day * DAY_MS, START_MS + (day + 1) * DAY_MS, 5760) for day in (0, 1)
    ]
    first_day = sorted(every[:5760])
    assert days[0][3] == pytest.approx(first_day[math.floor(0.95 * 5759)], rel=0.0100001)
    whole = Sketch()
    whole.extend(first_day)
    assert Sketch.decode(bytes(days[0][4])).buckets() == whole.buckets()  # type: ignore[call-overload]


def test_an_hour_is_not_merged_before_its_last_snapshot_can_have_come(store: SeriesStore) -> None:
    filled(store, 1)
    store.maintain(later(HOUR_MS + 59_000))
    assert rows(store.path, "SELECT * FROM metrics_snapshots WHERE resolution = 3600") == []
    store.maintain(later(HOUR_MS + 61_000))
    assert len(rows(store.path, "SELECT * FROM metrics_snapshots WHERE resolution = 3600")) == 1


@pytest.mark.parametrize(
    ("hours", "points", "source"), [(1, 600, "raw"), (24, 600, "snapshot"), (48, 40, "hour"), (24 * 400, 600, "day")]
)
def test_a_query_is_answered_from_what_suits_its_range(store: SeriesStore, hours: int, points: int, source: str) -> None:
    filled(store, 49)
    end_ms = 49 * HOUR_MS
    for second in range(3600):
        store.append(Now(START_MS + end_ms - 3_600_000 + second * 1000, second), [Sample("cpu", "host", 5.0)])
    store.maintain(later(end_ms + 61_000))
    answer = store.query("cpu", "host", START_MS + end_ms - hours * HOUR_MS, START_MS + end_ms, points)
    assert answer.source == source
    assert 0 < len(answer.at_ms) <= points
    assert len(answer.avg) == len(answer.at_ms)


def test_a_young_host_answers_long_ranges_from_what_it_has(store: SeriesStore) -> None:
    ticks(store, 0, 30)
    answer = store.query("cpu", "host", START_MS - 30 * DAY_MS, START_MS + 60_000)
    assert (answer.source, len(answer.at_ms)) == ("raw", 30)


def test_merged_points_have_the_p95_of_all_their_values(store: SeriesStore) -> None:
    every = sorted(filled(store, 10))
    store.flush()
    answer = store.query("cpu", "host", START_MS, START_MS + 10 * HOUR_MS, points=1)
    assert answer.source != "raw"
    assert answer.p95[0] == pytest.approx(every[math.floor(0.95 * (len(every) - 1))], rel=0.0100001)
    assert (answer.min, answer.max) == ((every[0],), (every[-1],))


def test_a_snapshot_of_the_same_start_is_merged_and_not_lost(store: SeriesStore) -> None:
    store.snapshots([snapshot(START_MS, [1.0])])
    store.flush()
    store.snapshots([snapshot(START_MS, [3.0])])
    store.flush()
    assert rows(store.path, "SELECT count, avg, violations FROM metrics_snapshots") == [(2, 2.0, 2)]


def test_retention_keeps_each_kind_for_its_own_time(tmp_path: Path) -> None:
    with_short = StoreConfig(raw_days=1, snapshot_days=2, hour_days=3)
    store = SeriesStore(tmp_path / "series.db", with_short)
    filled(store, 24 * 5)
    for day in range(5):
        store.append(later(day * DAY_MS), [Sample("cpu", "host", 1.0)])
        store.snapshots([snapshot(START_MS + day * DAY_MS, [1.0], "top")], Top(START_MS + day * DAY_MS, 1, 1))
        store.flush()
    now = later(5 * DAY_MS + 61_000)
    store.maintain(now)
    oldest = {
        name: rows(store.path, f"SELECT min(start_ms) FROM metrics_snapshots WHERE resolution = {seconds} AND metric_id = 'cpu'")[
            0
        ][0]
        for name, seconds in (("snapshot", 300), ("hour", 3600), ("day", 86_400))
    }
    assert oldest == {
        "snapshot": START_MS + 3 * DAY_MS + 300_000,
        "hour": START_MS + 2 * DAY_MS + HOUR_MS,
        "day": START_MS,
    }
    assert (
        rows(store.path, "SELECT min(start_ms) FROM metrics_snapshots WHERE subject LIKE 'process:%'")[0][0] == oldest["snapshot"]
    )
    assert rows(store.path, "SELECT count(*) FROM raw_blocks") == [(0,)]
    assert rows(store.path, "SELECT min(start_ms) FROM top_processes") == [(START_MS + 4 * DAY_MS,)]
    store.close()


def test_due_leaves_no_more_than_flush_s_in_memory(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "series.db", StoreConfig(flush_s=10))
    waited = []
    for second in range(100):
        store.append(at(second), [Sample("cpu", "host", 1.0)])
        if store.due(at(second)):
            waited.append(store.flush())
    assert waited == [10] * 10
    store.close()


def refused(store: SeriesStore) -> SteadError:
    with pytest.raises(SteadError) as caught:
        store.flush()
    return caught.value


@pytest.mark.parametrize(
    ("spoil", "mend", "code"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "store.full"),
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0", "store.read-only"),
    ],
)
def test_when_the_disk_refuses_nothing_is_lost(store: SeriesStore, spoil: str, mend: str, code: str) -> None:
    store._db.execute(spoil)
    dice = random.Random(8)
    for second in range(300):
        store.append(at(second), [Sample(f"m{number}", "host", dice.random()) for number in range(60)])
    store.snapshots([snapshot(START_MS, [1.0], f"m{number}") for number in range(300)], Top(START_MS, 1, 1))
    problem = refused(store).problem
    assert problem.code == code
    assert problem.where == str(store.path)
    assert problem.fix
    assert len(store.query("m0", "host", START_MS, START_MS + 300_000).at_ms) == 300  # still answered from memory
    assert refused(store).problem.code == code
    store._db.execute(mend)
    assert store.flush() == 300
    assert rows(store.path, "SELECT count(*) FROM metrics_snapshots") == [(300,)]
    assert rows(store.path, "SELECT count(*) FROM top_processes") == [(1,)]
    store.roll(at(900))
    assert len(store.query("m59", "host", START_MS, START_MS + 300_000).at_ms) == 300
    assert store.lost_rows == 0


def test_what_waits_in_memory_is_bounded_and_what_is_given_up_is_counted(store: SeriesStore) -> None:
    store._db.execute("PRAGMA query_only = 1")
    for number in range(MAX_WAITING_ROWS // 100 + 5):
        for second in range(100):
            store.append(at(100 * number + second), [Sample("cpu", "host", 1.0)])
        refused(store)
    assert store.lost_rows == 500
    store._db.execute("PRAGMA query_only = 0")
    assert store.flush() == MAX_WAITING_ROWS


def test_a_foreign_write_lock_is_named(store: SeriesStore) -> None:
    store._db.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.append(at(0), [Sample("cpu", "host", 1.0)])
    assert refused(store).problem.code == "store.busy"
    other.execute("ROLLBACK")
    other.close()
    assert store.flush() == 1


@pytest.mark.alone
def test_a_loop_may_append_and_ask_while_a_thread_writes(store: SeriesStore) -> None:
    done, failures = threading.Event(), []

    def write() -> None:
        try:
            while not done.is_set():
                store.maintain(at(900))
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for second in range(600):
            store.append(at(second), [Sample("cpu", "host", float(second))])
            if second % 50 == 0:
                seen = store.query("cpu", "host", START_MS, START_MS + 600_000, points=1000)
                assert len(seen.at_ms) == second + 1
    finally:  # a failure here must not leave a thread that spins beside the next test
        done.set()
        writer.join()
    assert failures == []
    store.flush()
    assert store.query("cpu", "host", START_MS, START_MS + 600_000, points=1000).avg == tuple(map(float, range(600)))


CHILD = """
import sys
from pathlib import Path
from stead.agent.series_store import SeriesStore
from stead.model.config import StoreConfig
from stead.model.observe import Now, Sample
store = SeriesStore(Path(sys.argv[1]), StoreConfig(flush_s=10))
for second in range(10**6):
    now = Now(%d + second * 1000, second * 1000)
    store.append(now, [Sample("cpu", f"core:{n}", second + n / 7) for n in range(20)])
    if store.due(now):
        store.maintain(now)
    print(second, flush=True)
"""


@pytest.mark.alone
@pytest.mark.parametrize("survived", [25, 299, 640])
def test_kill_9_loses_no_more_than_flush_s(tmp_path: Path, survived: int) -> None:
    path = tmp_path / "series.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD % START_MS, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while int(child.stdout.readline()) < survived:
        pass
    os.kill(child.pid, signal.SIGKILL)
    last = max([survived, *(int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n"))])
    child.wait()
    child.stdout.close()
    store = SeriesStore(path)
    answer = store.query("cpu", "core:19", START_MS, START_MS + 7_000_000, points=10_000)
    kept = len(answer.at_ms)
    assert last + 1 - kept <= 10
    assert answer.at_ms == tuple(START_MS + second * 1000 for second in range(kept))
    assert answer.avg == tuple(second + 19 / 7 for second in range(kept))
    store.roll(Now(START_MS + DAY_MS, 0))
    assert len(store.query("cpu", "core:0", START_MS, START_MS + 7_000_000, points=10_000).at_ms) == kept
    store.close()
