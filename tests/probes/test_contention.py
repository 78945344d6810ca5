from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stead.host import LocalHost
from stead.model.intent import Intent, Objective, Protect
from stead.model.observe import Reading
from stead.probes.contention import NOBODY, NOT_APART, Contention, probe, statistic
from stead.probes.proc_table import Table
from stead.probes.process import Processes
from stead.testing import FakeClock, FakeHost
from tests.probes.crowd import Crowd
from tests.probes.hosts import one, values

WEB, HOG = 10, 20
IO = "rchar: 1\nwchar: 1\nsyscr: 1\nsyscw: 1\nread_bytes: {read}\nwrite_bytes: {written}\ncancelled_write_bytes: 0\n"
HOGS = f"process:{HOG}@{7 * HOG}"


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    made = Crowd(tmp_path)
    made.born(WEB, "web", group="/web.service")
    made.born(HOG, "make")
    return made


def contention(*, objective: Objective | None = None, best_effort: tuple[str, ...] = ("make",), **more: Any) -> Contention:
    return Contention(Intent((Protect(("web",), "web", objective),), best_effort), **more)


def second(crowd: Crowd, seen: Contention, **ran_and_waited: tuple[float, float]) -> Reading:
    """Let a second go by in which these run and wait for so long, and read."""
    for name, (ran_s, waited_s) in ran_and_waited.items():
        crowd.run({"web": WEB, "hog": HOG}[name], ran_s, waited_s)
    return seen.read(crowd.host, crowd.tick())


def test_without_an_intent_nothing_is_read(tmp_path: Path) -> None:
    class Unreadable(FakeHost):
        def keep(self, path: str, once: int = 0) -> Any:
            raise AssertionError(path)

    for intent in (None, Intent(best_effort=("make",))):
        assert probe(intent).read(Unreadable(tmp_path), FakeClock().now()) == Reading()


def test_what_the_protected_work_waits_is_put_down_to_who_takes_the_cpu(crowd: Crowd) -> None:
    seen = contention()
    first = second(crowd, seen)
    assert one(first, "infra.protected_cpu_wait", "protect:web").reason == "first reading"
    found = values(second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4)))
    assert found["infra.protected_cpu_wait", "protect:web"] == pytest.approx(50.0)
    assert found["infra.protected_cpu_wait", "host"] == pytest.approx(50.0)
    assert found["infra.cpu_contention", HOGS] == pytest.approx(50.0 * 1.6 / 1.8)
    assert found["infra.contender_demand", HOGS] == pytest.approx(2.0)
    assert found["infra.contender_cores", HOGS] == pytest.approx(1.6)
    assert found["infra.contender_demand", "host"] == pytest.approx(2.0), "of all contenders"
    quiet = values(second(crowd, seen, web=(0.2, 0.0), hog=(1.8, 0.2)))
    assert quiet["infra.protected_cpu_wait", "host"] == 0.0
    assert quiet["infra.cpu_contention", HOGS] == 0.0


def test_facts_tell_what_a_contender_is_called_and_whom_it_holds_up(crowd: Crowd) -> None:
    seen = contention()
    second(crowd, seen)
    facts = {(fact.name, fact.subject): fact.value for fact in second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4)).facts}
    assert facts == {
        ("process", HOGS): "make: make",
        ("called", HOGS): "make (pid 20)",
        ("by_intent", HOGS): "process:make",
        ("holds_up", HOGS): "web",
    }


def test_memory_and_io_are_the_pressure_of_its_own_group(crowd: Crowd) -> None:
    seen = contention()
    for total_us in (0, 200_000, 400_000):
        crowd.pressure("/web.service", "memory", total_us)
        crowd.pressure("/web.service", "io", total_us * 2)
        crowd.grow(HOG, 100)
        found = values(second(crowd, seen))
    assert found["infra.protected_memory_stall", "protect:web"] == pytest.approx(20.0)
    assert found["infra.protected_io_stall", "host"] == pytest.approx(40.0)
    assert found["infra.memory_contention", HOGS] == pytest.approx(20.0)
    assert found["infra.io_contention", HOGS] is None, "what it moves to and from disks may not be seen here"


def test_who_moves_bytes_to_and_from_disks_is_blamed_for_the_stalls_of_others(crowd: Crowd) -> None:
    seen = contention()
    for moved in range(1, 5):
        crowd.pressure("/web.service", "io", 400_000 * moved)
        crowd.put(f"/proc/{HOG}/io", IO.format(read=1_000_000 * moved, written=2_000_000 * moved))
        found = values(second(crowd, seen, hog=(0.1, 0.0)))
    assert found["infra.contender_io", HOGS] == pytest.approx(3_000_000)
    assert found["infra.io_contention", HOGS] == pytest.approx(40.0)


def test_who_shares_a_group_with_others_has_no_pressure_of_its_own(crowd: Crowd) -> None:
    crowd.born(30, "bash", group="/web.service")
    seen = contention()
    second(crowd, seen)
    sample = one(second(crowd, seen), "infra.protected_memory_stall", "protect:web")
    assert (sample.value, sample.reason) == (None, NOT_APART)


def test_what_is_not_there_is_unknown(crowd: Crowd) -> None:
    seen = contention()
    crowd.ends(WEB)
    second(crowd, seen)
    reading = second(crowd, seen, hog=(1.0, 0.0))
    for metric in ("infra.protected_cpu_wait", "infra.protected_memory_stall"):
        assert [one(reading, metric, subject).reason for subject in ("protect:web", "host")] == [NOBODY, NOBODY]
    assert one(reading, "infra.cpu_contention", HOGS).value is None


def test_a_pressure_that_should_stay_below_a_level(crowd: Crowd) -> None:
    seen = contention(objective=Objective(10.0, pressure="cpu", statistic="mean", window_s=3))
    second(crowd, seen)
    second(crowd, seen, web=(0.4, 0.1), hog=(1.0, 0.0))
    found = values(second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4)))
    assert found["infra.objective_miss", "protect:web"] == pytest.approx((20.0 + 50.0) / 2 / 10.0)
    assert found["infra.cpu_contention", HOGS] == pytest.approx(50.0 * 1.6 / 1.8 / 2), "twice what is usual is tolerated"


def test_an_objectives_metric_decides_and_unknown_it_blames_nobody(crowd: Crowd) -> None:
    latency: list[float] = []
    asked = []

    def readings(metric: str, subject: str, last_s: float) -> list[float]:
        asked.append((metric, subject, last_s))
        return latency

    objective = Objective(300.0, "api.latency_p95", subject="workload:web", window_s=20)
    seen = contention(objective=objective, readings=readings)
    second(crowd, seen)
    reading = second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4))
    assert one(reading, "infra.objective_miss", "protect:web").value is None
    assert "api.latency_p95 is unknown" in one(reading, "infra.cpu_contention", HOGS).reason
    assert asked[-1] == ("api.latency_p95", "workload:web", 20)
    latency += [100.0] * 30 + [900.0]
    calm = values(second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4)))
    assert calm["infra.objective_miss", "protect:web"] == pytest.approx(1 / 3)
    assert calm["infra.cpu_contention", HOGS] == 0.0
    latency += [900.0] * 3
    missed = values(second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4)))
    assert missed["infra.objective_miss", "protect:web"] == pytest.approx(3.0)
    assert (missed["infra.cpu_contention", HOGS] or 0) > 40


def test_a_contender_in_an_idle_group_is_blamed_for_nothing_and_wants_as_much(crowd: Crowd) -> None:
    crowd.group("/batch.slice", cpu__idle="0\n", memory__current="4096\n", memory__stat="anon 4096\n")
    crowd.born(21, "tar", group="/batch.slice")
    seen = contention(best_effort=("cgroup:/batch.slice",))
    subject = f"cgroup:/batch.slice@{crowd.host.inode('/sys/fs/cgroup/batch.slice')}"
    second(crowd, seen)
    crowd.run(21, 1.6, 0.4)
    assert (values(second(crowd, seen, web=(0.2, 0.2)))["infra.cpu_contention", subject] or 0) > 40
    crowd.put("/sys/fs/cgroup/batch.slice/cpu.idle", "1\n")
    crowd.run(21, 1.5, 0.5)
    found = values(second(crowd, seen, web=(0.2, 0.2)))
    assert found["infra.cpu_contention", subject] == 0.0
    assert found["infra.contender_demand", subject] == pytest.approx(2.0)


def test_of_many_contenders_the_hungriest_are_told_and_go_on_to_be(crowd: Crowd) -> None:
    seen = contention(best_effort=("job",))
    for pid in range(100, 130):
        crowd.born(pid, "job")
    second(crowd, seen)

    def told(ran: dict[int, float]) -> set[int]:
        for pid, ran_s in ran.items():
            crowd.run(pid, ran_s)
        found = {subject for metric, subject in values(second(crowd, seen)) if metric == "infra.contender_cores"}
        return {int(subject.partition(":")[2].partition("@")[0]) for subject in found}

    first = told({pid: (pid - 99) / 100 for pid in range(100, 130)})
    assert len(first) == 16
    crowd.ends(min(first))
    assert told({pid: 0.5 for pid in range(100, 130) if pid not in first}) >= first - {min(first)}


def test_every_descriptor_is_let_go(crowd: Crowd) -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    seen = contention()
    crowd.pressure("/web.service", "memory", 1)
    second(crowd, seen)
    second(crowd, seen, web=(0.2, 0.2), hog=(1.6, 0.4))
    seen.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_other_systems_say_so(tmp_path: Path) -> None:
    reading = contention().read(FakeHost(tmp_path, system="darwin"), FakeClock().now())
    assert [sample.reason for sample in reading.samples] == ["darwin does not tell how long work waited"] * 3


@pytest.mark.parametrize(("how", "value"), [("p95", 19.0), ("max", 20.0), ("mean", 10.5), ("last", 20.0)])
def test_a_statistic(how: str, value: float) -> None:
    assert statistic([float(number) for number in range(1, 21)], how) == value
    assert statistic([3.0], how) == 3.0


def test_this_machine_tells_what_a_test_process_waits() -> None:
    """The kernel's own files, as they are here."""
    host, clock = LocalHost(), FakeClock()
    if host.system != "linux":
        pytest.skip("Linux tells it")
    seen = Contention(Intent((Protect(("*python*",), "tests"),)))
    seen.read(host, clock.now())
    sum(range(2_000_000))
    found = one(seen.read(host, clock.advance(1000)), "infra.protected_cpu_wait", "protect:tests")
    seen.close()
    assert found.value is not None and 0.0 <= found.value <= 100.0


@pytest.mark.parametrize("contention_first", [True, False])
def test_probes_that_share_the_table_see_the_same_second(crowd: Crowd, contention_first: bool) -> None:
    table = Table()
    seen, processes = contention(table=table), Processes(table)
    for moved in range(1, 4):
        crowd.run(HOG, 0.5)
        crowd.put(f"/proc/{HOG}/io", IO.format(read=1_000_000 * moved, written=0))
        now = crowd.tick()
        first = seen.read(crowd.host, now) if contention_first else None
        listed = processes.read(crowd.host, now)
        told = values(first or seen.read(crowd.host, now))
    assert told["infra.contender_cores", HOGS] == values(listed)["infra.process_cpu_cores", HOGS] == pytest.approx(0.5)
    assert told["infra.contender_io", HOGS] == pytest.approx(1_000_000)
    (busiest,) = [one for one in listed.top.by_io if one.pid == HOG] if listed.top else [None]
    assert busiest is None or busiest.io_bytes_per_s == pytest.approx(1_000_000)
