"""Room and growth: real processes in real groups of version 1, and a recorded tree of version 2."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.host import LocalHost, SystemClock
from stead.model.intent import Intent, Protect
from stead.model.observe import Now, Reading
from stead.probes.headroom import LONG_S, Headroom, probe
from stead.probes.held_memory import HeldMemory
from stead.testing import FakeHost
from tests.cgroups.groups import group, put, real_groups, sleeper
from tests.probes.hosts import values

MB = 1 << 20
GROWING = "process:* -c *held.append*"
GROWER = """
import sys
held = []
for line in sys.stdin:
    held.append(bytearray(int(line) << 20)); held[-1][::4096] = b'x' * len(held[-1][::4096])
    print(len(held), flush=True)
"""


class Grower:
    """A process that takes so many MiB more when it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", GROWER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.take(1)

    @property
    def pid(self) -> int:
        return self.process.pid

    def take(self, mib: int) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{mib}\n".encode())
        self.process.stdin.flush()
        self.process.stdout.readline()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def grower() -> Iterator[Grower]:
    one = Grower()
    yield one
    one.end()


def at(second: float) -> Now:
    return Now(1_700_000_000_000 + round(second * 1000), round(second * 1000))


def intent(*best_effort: str, protect: tuple[str, ...] = ("process:no-such-program",)) -> Intent:
    return Intent((Protect(protect, "shop"),), best_effort)


def of(reading: Reading, metric: str) -> float | None:
    """The only contender's value."""
    (found,) = [sample for sample in reading.samples if sample.metric == metric and sample.subject != "host"]
    return found.value


def test_without_an_intent_nothing_is_read_and_nothing_calls() -> None:
    one = probe()
    assert one.read(LocalHost(), at(0)) == Reading() and one.alarms() == ()


def test_the_growth_of_a_process_and_how_long_memory_lasts(grower: Grower) -> None:
    host, one = LocalHost(), probe(intent(GROWING))
    first = one.read(host, at(0))
    assert of(first, "infra.memory_growth") is None
    grower.take(50)
    reading = one.read(host, at(1))
    growth, room = of(reading, "infra.memory_growth"), values(reading)["infra.memory_room", "host"]
    assert growth is not None and 49 * MB < growth < 60 * MB
    left_s = of(reading, "infra.memory_time_to_full")
    assert left_s is not None and room is not None and abs(left_s - min(LONG_S, room / growth)) < 1
    assert of(reading, "infra.contender_memory") > 50 * MB  # type: ignore[operator]
    one.close()


def test_one_jump_is_no_trend(grower: Grower) -> None:
    host, one = LocalHost(), probe(intent(GROWING))
    for second in (0, 1):
        one.read(host, at(second))
    grower.take(60)
    assert of(one.read(host, at(2)), "infra.memory_growth") < 40 * MB  # type: ignore[operator]
    for second in (3, 4, 5):
        reading = one.read(host, at(second))
    assert abs(of(reading, "infra.memory_growth") or 0.0) < MB and of(reading, "infra.memory_time_to_full") == LONG_S
    one.close()


def test_a_stopped_process_does_not_grow_and_still_wants_what_it_took_before(grower: Grower) -> None:
    host, one = LocalHost(), probe(intent(GROWING))
    one.read(host, at(0))
    grower.take(40)
    before = of(one.read(host, at(1)), "infra.memory_time_to_full")
    os.kill(grower.pid, 19)
    while b" T " not in Path(f"/proc/{grower.pid}/stat").read_bytes():
        time.sleep(0.01)
    for second in (2, 3, 4, 5, 6):
        reading = one.read(host, at(second))
    assert of(reading, "infra.memory_growth") == 0.0
    after = of(reading, "infra.memory_time_to_full")
    assert before is not None and after is not None and after < LONG_S and abs(after - before) < 0.2 * before
    os.kill(grower.pid, 18)
    while b" T " in Path(f"/proc/{grower.pid}/stat").read_bytes():
        time.sleep(0.01)
    assert of(one.read(host, at(7)), "infra.memory_time_to_full") == LONG_S
    one.close()


def test_the_limit_of_a_group_that_both_are_in_is_the_room(grower: Grower) -> None:
    host, groups = real_groups()
    with sleeper() as other, group(groups, ("memory",)) as shared, group(groups, ("memory",), shared) as hog:
        folder = groups.folder(shared, "memory")
        Path(f"{folder}/memory.limit_in_bytes").write_text(str(256 * MB))
        put(groups, shared, other, ("memory",))
        put(groups, hog, grower.pid, ("memory",))
        name = Path(f"/proc/{other}/cmdline").read_bytes()
        assert b"sleep(600)" in name
        one = probe(intent(f"cgroup:{hog}", protect=("process:* -c *time.sleep(600)*",)))
        one.read(host, at(0))
        grower.take(64)
        reading = one.read(host, at(1))
        left_s = of(reading, "infra.memory_time_to_full")
        assert left_s is not None and 1.5 < left_s < 4, "of 256 MiB some 190 are left, at 64 a second"
        assert (of(reading, "infra.memory_hold_at") or 0.0) > 64 * MB
        apart = probe(intent(f"cgroup:{hog}"))
        apart.read(host, at(0))
        grower.take(32)
        assert (of(apart.read(host, at(1)), "infra.memory_time_to_full") or 0.0) > 30, "nobody protected is in it"
        one.close()
        apart.close()
        grower.end()


def test_a_frozen_group_still_wants_what_it_took_before(grower: Grower) -> None:
    host, groups = real_groups()
    with group(groups, ("memory", "freezer")) as hog:
        put(groups, hog, grower.pid, ("memory", "freezer"))
        one = probe(intent(f"cgroup:{hog}"))
        one.read(host, at(0))
        grower.take(40)
        assert of(one.read(host, at(1)), "infra.memory_time_to_full") < LONG_S  # type: ignore[operator]
        freezer = Path(f"{groups.folder(hog, 'freezer')}/freezer.state")
        freezer.write_text("FROZEN")
        for second in (2, 3, 4, 5, 6):
            reading = one.read(host, at(second))
        assert abs(of(reading, "infra.memory_growth") or 0.0) < MB
        assert of(reading, "infra.memory_time_to_full") < LONG_S  # type: ignore[operator]
        freezer.write_text("THAWED")
        one.read(host, at(7))
        assert of(one.read(host, at(8)), "infra.memory_time_to_full") == LONG_S
        one.close()
        grower.end()


def test_a_group_that_went_is_not_told_of(grower: Grower) -> None:
    host, groups = real_groups()
    with group(groups, ("memory",)) as hog:
        put(groups, hog, grower.pid, ("memory",))
        one = probe(intent(f"cgroup:{hog}"))
        one.read(host, at(0))
        grower.end()
    reading = one.read(host, at(1))
    assert {sample.subject for sample in reading.samples} == {"host"}
    one.close()


def tree(tmp_path: Path, **groups: dict[str, str]) -> FakeHost:
    """A host of version 2 with these groups and processes."""
    numbers = itertools.count(100)
    root = tmp_path / "sys/fs/cgroup"
    for path, files in {"": {"cgroup.controllers": "cpu io memory pids\n", "cgroup.procs": ""}, **groups}.items():
        place = root / path.strip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in {"cgroup.procs": "", **files}.items():
            (place / name).write_text(text)
        for pid in files.get("cgroup.procs", "").split():
            process = tmp_path / "proc" / pid
            process.mkdir(parents=True)
            (process / "cgroup").write_text(f"0::{path or '/'}\n")
            (process / "cmdline").write_text("program\0")
            (process / "schedstat").write_text("1000 0 1\n")
            stat = f"{pid} (p{pid}) S 1 {pid} {pid} 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 {next(numbers)} 0 2560 0\n"
            (process / "stat").write_text(stat)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\nSwapFree: 0 kB\n")
    (tmp_path / "proc/loadavg").write_text("0.1 0.1 0.1 1/100 999\n")
    return FakeHost(tmp_path)


def memory(
    size: int,
    cache: int = 0,
    high: str = "max",
    total_us: int = 0,
    frozen: int = 0,
    idle: int = 0,
    sleeping: int = 0,
    some_us: int = 9,
) -> dict[str, str]:
    return {
        "memory.current": f"{size}\n",
        "memory.max": "max\n",
        "memory.high": f"{high}\n",
        "memory.stat": f"inactive_file {idle or cache}\nactive_file {cache - idle if idle else 0}\n"
        f"inactive_anon {sleeping}\nactive_anon {size - cache - sleeping}\n",
        "memory.pressure": f"some avg10=0.00 avg60=0.00 total={some_us}\nfull avg10=0.00 avg60=0.00 total={total_us}\n",
        "cgroup.freeze": f"{frozen}\n",
    }


def rewrite(host: FakeHost, path: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        (host.root / "sys/fs/cgroup" / path.strip("/") / name).write_text(text)


def batch(tmp_path: Path, **more: int) -> tuple[FakeHost, Headroom]:
    groups = {"/batch.slice": {**memory(400 * MB, **more), "cgroup.procs": "51 52"}, "/shop.service": {"cgroup.procs": "60"}}
    return tree(tmp_path, **groups), probe(intent("cgroup:/batch.slice", protect=("service:shop",)))


def test_a_group_can_be_held_where_it_is_less_its_cache_more_what_it_takes_meanwhile(tmp_path: Path) -> None:
    host, one = batch(tmp_path, cache=100 * MB)
    one.read(host, at(0))
    rewrite(host, "/batch.slice", memory(500 * MB, cache=100 * MB))
    reading = one.read(host, at(1))
    assert of(reading, "infra.memory_growth") == 100 * MB
    assert of(reading, "infra.memory_hold_at") == 500 * MB - 80 * MB + 100 * MB
    assert of(reading, "infra.memory_time_to_full") == pytest.approx(4_000_000 * 1024 / (100 * MB))
    assert of(reading, "infra.memory_hold_most") == pytest.approx(500 * MB + 0.7 * 4_000_000 * 1024)
    assert of(reading, "infra.memory_granted") == 1.0


def test_a_group_that_is_held_by_memory_high_still_wants_what_it_took_before(tmp_path: Path) -> None:
    host, one = batch(tmp_path)
    one.read(host, at(0))
    rewrite(host, "/batch.slice", memory(500 * MB))
    before = of(one.read(host, at(1)), "infra.memory_time_to_full")
    for second in range(2, 8):
        rewrite(host, "/batch.slice", memory(500 * MB, high=str(500 * MB), some_us=900_000 * second))
        reading = one.read(host, at(second))
    assert of(reading, "infra.memory_growth") == 0.0 and of(reading, "infra.memory_time_to_full") == before
    assert of(reading, "infra.memory_granted") == 0.0, "it stands still for memory: it wants it, and gets none"


def test_a_limited_group_that_went_quiet_by_itself_gives_no_credit(tmp_path: Path) -> None:
    host, one = batch(tmp_path)
    one.read(host, at(0))
    rewrite(host, "/batch.slice", memory(500 * MB))
    one.read(host, at(1))
    rewrite(host, "/batch.slice", memory(500 * MB, high=str(500 * MB)))
    for second in range(2, 8):
        reading = one.read(host, at(second))
    assert of(reading, "infra.memory_granted") is None, "it neither grows nor stands still: does it want any?"
    (why,) = [sample.reason for sample in reading.samples if sample.metric == "infra.memory_granted"]
    assert "nothing shows that it wants more" in why
    rewrite(host, "/batch.slice", memory(540 * MB, high=str(550 * MB)))
    one.read(host, at(8))
    rewrite(host, "/batch.slice", memory(580 * MB, high=str(550 * MB)))
    granted = of(one.read(host, at(9)), "infra.memory_granted")
    assert granted is not None and 0.2 < granted < 0.4, "it grows on, by a part of what it did"


def test_a_limit_that_is_not_reached_holds_nothing_back(tmp_path: Path) -> None:
    host, one = batch(tmp_path)
    one.read(host, at(0))
    rewrite(host, "/batch.slice", memory(500 * MB, high=str(900 * MB)))
    one.read(host, at(1))
    for second in range(2, 8):
        reading = one.read(host, at(second))
    assert of(reading, "infra.memory_time_to_full") == LONG_S and of(reading, "infra.memory_granted") == 1.0


def test_who_has_little_part_in_it_is_not_to_blame(tmp_path: Path) -> None:
    mouse, shop = {**memory(MB), "cgroup.procs": "52"}, {"cgroup.procs": "60"}
    host = tree(tmp_path, **{"/hog": {**memory(MB), "cgroup.procs": "51"}, "/mouse": mouse, "/shop": shop})
    one = probe(intent("cgroup:/hog", "cgroup:/mouse", protect=("cgroup:/shop",)))
    one.read(host, at(0))
    rewrite(host, "/hog", memory(201 * MB))
    rewrite(host, "/mouse", memory(11 * MB))
    found = {
        sample.subject.partition("@")[0]: sample.value for sample in one.read(host, at(1)).samples if "time_to" in sample.metric
    }
    assert found["cgroup:/mouse"] == LONG_S and found["cgroup:/hog"] == pytest.approx(4_000_000 * 1024 / (210 * MB))


def test_of_many_that_take_alike_each_is_to_blame(tmp_path: Path) -> None:
    hogs = {f"/hogs/{number}": {**memory(MB), "cgroup.procs": str(50 + number)} for number in range(8)}
    host = tree(tmp_path, **hogs, **{"/shop": {"cgroup.procs": "80"}})
    one = probe(intent("cgroup:/hogs/*", protect=("cgroup:/shop",)))
    one.read(host, at(0))
    for path in hogs:
        rewrite(host, path, memory(101 * MB))
    found = [sample.value for sample in one.read(host, at(1)).samples if sample.metric == "infra.memory_time_to_full"]
    assert found == [pytest.approx(4_000_000 * 1024 / (800 * MB))] * 8


def test_the_groups_own_stalls_are_told_over_the_time_since_the_last_reading(tmp_path: Path) -> None:
    host, one = batch(tmp_path)
    assert of(one.read(host, at(0)), "infra.contender_memory_full") is None
    rewrite(host, "/batch.slice", memory(400 * MB, total_us=30_000))
    assert of(one.read(host, at(2)), "infra.contender_memory_full") == 1.5


def test_what_is_idle_and_what_a_group_is_held_from(tmp_path: Path) -> None:
    host, one = batch(tmp_path, cache=200 * MB, idle=100 * MB)
    assert of(one.read(host, at(0)), "infra.memory_idle") == 25.0
    rewrite(host, "/batch.slice", memory(400 * MB, cache=200 * MB, idle=100 * MB, sleeping=80 * MB))
    assert of(one.read(host, at(5)), "infra.memory_idle") == 25.0, "without swap nothing else can go"
    meminfo = host.root / "proc/meminfo"
    meminfo.write_text(meminfo.read_text().replace("SwapFree: 0 kB", f"SwapFree: {60 << 10} kB"))
    assert of(one.read(host, at(5.5)), "infra.memory_idle") == 40.0
    rewrite(host, "/batch.slice", memory(300 * MB, high=str(300 * MB)))
    assert of(one.read(host, at(6)), "infra.memory_idle") == 25.0


def test_a_login_session_is_no_contender(tmp_path: Path) -> None:
    path = "/user.slice/user-1000.slice/session-2.scope"
    host = tree(tmp_path, **{path: {**memory(MB), "cgroup.procs": "51"}, "/shop": {"cgroup.procs": "60"}})
    one = probe(intent("cgroup:/user.slice/*", protect=("cgroup:/shop",)))
    assert {sample.subject for sample in one.read(host, at(0)).samples} == {"host"} and one.alarms() == ()


def test_pressure_and_the_events_of_groups_call(tmp_path: Path) -> None:
    host, one = batch(tmp_path)
    one.read(host, at(0))
    events = [f"/sys/fs/cgroup{path}/memory.events" for path in ("/batch.slice", "/shop.service")]
    assert one.alarms() == ("/proc/pressure/memory", *events)


def test_growth_is_the_lesser_of_the_newest_and_of_the_span() -> None:
    held = HeldMemory()
    for second, size in enumerate((0, 10, 20, 60)):
        held.take(size, "", 1000 * second)
    assert held.growth == 20.0
    held.take(None, "", 5000)
    assert held.growth is None and held.size is None


def test_a_process_that_is_moved_to_its_group_right_after_its_start_is_seen_there() -> None:
    host, groups = real_groups()
    with group(groups, ("memory",)) as hog:
        one, clock = probe(intent(f"cgroup:{hog}")), SystemClock()
        late = Grower()
        try:
            first = one.read(host, clock.now())
            assert {sample.subject for sample in first.samples} == {"host"}
            put(groups, hog, late.pid, ("memory",))
            soon = clock.now()
            reading = one.read(host, Now(soon.unix_ms + 1000, soon.mono_ms + 1000))
            assert {sample.subject.partition("@")[0] for sample in reading.samples} == {"host", f"cgroup:{hog}"}
        finally:
            one.close()
            late.end()
