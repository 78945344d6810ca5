from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.model.observe import Fact, Reading
from stead.probes.kernel_files import parse_loadavg_tasks
from stead.probes.process import FOLLOW_MS, QUIET, Processes, probe, waiting_share
from stead.probes.reading import FIRST
from stead.testing import FakeClock, FakeHost
from tests.probes.hosts import captured, change, debian, one, two_frames, values
from tests.probes.test_proc_table import ran

HOG = "process:4711@420000"


class Machine:
    """A Debian 12 whose processes run as the test says; a second a pass. Without `schedstat`, as on kernels that have none."""

    def __init__(self, tmp_path: Path, schedstat: bool = True) -> None:
        self.host: FakeHost = debian(tmp_path)
        self.clock = FakeClock()
        self.probe: Processes = probe()
        self.last_pid = 4811
        self.waited_ns = 31_240_031_234
        if not schedstat:
            (self.host.root / "proc/schedstat").unlink()

    def read(self) -> Reading:
        return self.probe.read(self.host, self.clock.advance(1000))

    def waited(self, ms: int) -> None:
        """Let all tasks together wait so much longer."""
        self.waited_ns += ms * 1_000_000
        change(self.host, "/proc/schedstat", lambda text: re.sub(r" \d+ 9120331\n", f" {self.waited_ns} 9120331\n", text))

    def fork(self, many: int = 1) -> None:
        self.last_pid += many
        change(self.host, "/proc/loadavg", lambda text: f"{text.rpartition(' ')[0]} {self.last_pid}\n")


def test_parses_counts_of_tasks() -> None:
    assert parse_loadavg_tasks("0.42 0.31 0.25 2/231 4811\n") == (2, 4811)


def test_counts_and_top_ten(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    first = machine.read()
    assert one(first, "infra.processes_total").value == 6
    assert one(first, "infra.processes_running").value == 1, "not counting ourselves"
    assert first.top is not None
    assert first.top.by_cpu == ()
    assert [use.pid for use in first.top.by_memory] == [4800, 901, 1, 612, 4711, 2][: len(first.top.by_memory)]
    ran(machine.host, 4711, cpu_ms=950)
    ran(machine.host, 901, cpu_ms=20)
    second = machine.read()
    assert second.top is not None
    hog, database = second.top.by_cpu
    assert (hog.pid, hog.subject, hog.name, hog.uid, hog.state) == (4711, HOG, "sh", 1000, "R")
    assert hog.cpu_cores == pytest.approx(0.95)
    assert (hog.command, hog.threads, hog.descriptors) == ("sh -c while :; do :; done", 1, 3)
    assert database.cpu_cores == pytest.approx(0.02)


def test_only_the_hungry_are_reported_and_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert not [s for s in machine.read().samples if s.subject != "host"]
    ran(machine.host, 4711, cpu_ms=950)
    ran(machine.host, 901, cpu_ms=40)
    reading = machine.read()
    assert one(reading, "infra.process_cpu_cores", HOG).value == pytest.approx(0.95)
    assert {sample.subject for sample in reading.samples} == {"host", HOG}
    assert reading.facts == (Fact("process", HOG, "sh: sh -c while :; do :; done"),)


def test_one_that_calmed_down_is_followed_on_real_values_for_ten_minutes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    ran(machine.host, 4711, cpu_ms=950)
    machine.read()
    ran(machine.host, 4711, cpu_ms=20)
    calm = machine.read()
    assert one(calm, "infra.process_cpu_cores", HOG).value == pytest.approx(0.02)
    assert one(machine.read(), "infra.process_cpu_cores", HOG).value == 0.0
    machine.clock.advance(FOLLOW_MS)
    assert {sample.subject for sample in machine.read().samples} == {"host"}


def test_the_dead_leave_no_sample(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    ran(machine.host, 4711, cpu_ms=950)
    assert HOG in {sample.subject for sample in machine.read().samples}
    shutil.rmtree(machine.host.root / "proc/4711")
    machine.fork()
    reading = machine.read()
    assert {sample.subject for sample in reading.samples} == {"host"}
    assert reading.facts == ()


def test_a_zombie_leaves_no_sample(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    ran(machine.host, 4711, cpu_ms=950)
    machine.read()
    ran(machine.host, 4711, cpu_ms=50)
    change(machine.host, "/proc/4711/stat", lambda text: text.replace("(sh) R", "(sh) Z"))
    assert {sample.subject for sample in machine.read().samples} == {"host"}


def test_others_run_delay_is_the_share_of_their_time_that_others_waited(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    ran(machine.host, 4711, cpu_ms=500, waited_ms=100)
    first = one(machine.read(), "infra.others_run_delay", HOG)
    assert (first.value, first.reason) == (None, FIRST)
    ran(machine.host, 4711, cpu_ms=500, waited_ms=100)
    ran(machine.host, 901, cpu_ms=100)
    machine.waited(400)
    assert one(machine.read(), "infra.others_run_delay", HOG).value == pytest.approx(0.3 / (0.3 + 0.1))
    machine.waited(0)
    assert one(machine.read(), "infra.others_run_delay", HOG).value == 0.0, "nobody waited, and that was observed"


def test_waiting_from_before_anybody_was_followed_does_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    ran(machine.host, 4711, cpu_ms=500)
    machine.read()
    machine.clock.advance(FOLLOW_MS)
    machine.read()
    machine.waited(500_000)
    ran(machine.host, 4711, cpu_ms=500)
    again = one(machine.read(), "infra.others_run_delay", HOG)
    assert (again.value, again.reason) == (None, FIRST)


def test_without_schedstat_the_whole_is_the_sum_of_those_that_ran(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedstat=False)
    machine.read()
    for _ in range(2):
        ran(machine.host, 4711, cpu_ms=500, waited_ms=100)
        ran(machine.host, 901, cpu_ms=400, waited_ms=300)
        ran(machine.host, 612, cpu_ms=10, waited_ms=50)
        reading = machine.read()
    assert one(reading, "infra.others_run_delay", HOG).value == pytest.approx(0.35 / (0.35 + 0.41))
    assert one(reading, "infra.others_run_delay", "process:901@1300").value == pytest.approx(0.15 / (0.15 + 0.51))


@given(st.floats(0, 100), st.floats(-1, 100))
def test_a_share_is_a_share_and_a_little_waiting_is_none(waited_s: float, ran_s: float) -> None:
    share = waiting_share(waited_s, ran_s)
    assert 0 <= share <= 1
    assert (share == 0) == (waited_s < QUIET)


def test_all_threads_of_a_process_are_its_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    web = "process:4800@421000"
    for step in range(3):
        ran(machine.host, 4800, cpu_ms=0, ticks=50)
        ran(machine.host, 901, cpu_ms=300)
        waits = {"4800": 100_000_000, "4801": 50_000_000 + step * 200_000_000, "4802": 25_000_000 + step * 100_000_000}
        for tid, waited in waits.items():
            change(machine.host, f"/proc/4800/task/{tid}/schedstat", lambda text, w=waited: f"{text.split()[0]} {w} 400\n")
        machine.waited(1000)
        reading = machine.read()
    assert one(reading, "infra.others_run_delay", web).value == pytest.approx(0.7 / (0.7 + 0.3))


def test_kernels_that_count_no_run_delay_say_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedstat=False)
    for file in machine.host.root.glob("proc/*/schedstat"):
        file.unlink()
    for ticks in (9000, 9050):
        change(machine.host, "/proc/4711/stat", lambda text, t=ticks: text.replace(f" {t} 10 ", f" {t + 50} 10 "))
        reading = machine.read()
    sample = one(reading, "infra.others_run_delay", HOG)
    assert (sample.value, sample.reason) == (None, "this kernel does not count run delay")


def test_commands_are_redacted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    ran(machine.host, 4800, cpu_ms=900)
    reading = machine.read()
    assert "s3cr3t-value" not in repr(reading)
    assert reading.facts[0].value == "node (web) x: node server.js --api-key [redacted]"


def test_the_number_followed_is_bounded(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.read()
    for wave in range(5):
        for n in range(10):
            pid = 6000 + 10 * wave + n
            shutil.copytree(machine.host.root / "proc/612", machine.host.root / f"proc/{pid}")
        machine.fork(many=10)
        machine.read()
        for n in range(10):
            ran(machine.host, 6000 + 10 * wave + n, cpu_ms=500)
        reading = machine.read()
    followed = {sample.subject.partition("@")[0] for sample in reading.samples} - {"host"}
    assert followed == {f"process:{pid}" for pid in range(6030, 6050)}, "the twenty that were hot last"


def test_without_proc_all_is_unknown(tmp_path: Path) -> None:
    reading = probe().read(FakeHost(tmp_path), FakeClock().now())
    assert all(sample.value is None and sample.reason for sample in reading.samples)
    assert reading.top is None


def test_macos_by_psutil() -> None:
    reading = two_frames(probe(), captured("macos14"))
    subject = "process:733@179521100050"
    assert one(reading, "infra.process_cpu_cores", subject).value == pytest.approx(0.9)
    assert one(reading, "infra.others_run_delay", subject).reason == "darwin does not count run delay"
    assert one(reading, "infra.processes_total").value == 3
    assert [fact.value for fact in reading.facts] == ["yes: yes --token [redacted]"]
    assert reading.top is not None
    assert [use.pid for use in reading.top.by_cpu] == [733, 501]
    assert [use.pid for use in reading.top.by_memory] == [501, 733]


def test_windows_by_psutil() -> None:
    reading = values(two_frames(probe(), captured("windows11")))
    assert reading["infra.process_cpu_cores", "process:5012@179520050000"] == pytest.approx(0.5)
