from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stead.probes.pressure import group_probe, parse_pressure, probe
from stead.testing import FakeClock
from tests.probes.hosts import captured, debian, one, values


def test_parses_both_lines_or_the_only_one() -> None:
    text = "some avg10=12.50 avg60=1.20 avg300=0.80 total=9\nfull avg10=8.25 avg60=0.40 avg300=0.10 total=8\n"
    assert parse_pressure(text) == {"some": 12.5, "full": 8.25}
    assert parse_pressure(text.splitlines()[0]) == {"some": 12.5}
    with pytest.raises(ValueError, match="no line for some"):
        parse_pressure("")


def test_reads_the_host(tmp_path: Path) -> None:
    reading = values(probe().read(debian(tmp_path), FakeClock().now()))
    assert reading["infra.psi_cpu_some", "host"] == 3.1
    assert reading["infra.psi_memory_full", "host"] == 0.21
    assert reading["infra.psi_io_full", "host"] == 8.25


def test_old_kernels_have_no_full_for_cpu(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (host.root / "proc/pressure/cpu").write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=1\n")
    reading = probe().read(host, FakeClock().now())
    assert one(reading, "infra.psi_cpu_some").value == 1.0
    assert one(reading, "infra.psi_cpu_full").reason == "this kernel has no such line"


def test_a_kernel_without_pressure_says_so(tmp_path: Path) -> None:
    host = debian(tmp_path)
    shutil.rmtree(host.root / "proc/pressure")
    samples = probe().read(host, FakeClock().now()).samples
    assert {sample.reason for sample in samples} == {"this kernel has no pressure stall information here"}


def test_top_level_control_groups_come_and_go(tmp_path: Path) -> None:
    host, clock, groups = debian(tmp_path), FakeClock(), group_probe()
    reading = values(groups.read(host, clock.now()))
    assert reading["cgroup.cpu_some_percent", "cgroup:/system.slice"] == 2.5
    assert {subject for _, subject in reading} == {"cgroup:/system.slice", "cgroup:/user.slice"}
    shutil.copytree(host.root / "sys/fs/cgroup/user.slice", host.root / "sys/fs/cgroup/machine.slice")
    shutil.rmtree(host.root / "sys/fs/cgroup/user.slice")
    reading = values(groups.read(host, clock.advance(10_000)))
    assert {subject for _, subject in reading} == {"cgroup:/system.slice", "cgroup:/machine.slice"}


def test_groups_of_a_kernel_without_pressure_are_unknown_and_say_why(tmp_path: Path) -> None:
    host = debian(tmp_path)
    for file in (host.root / "sys/fs/cgroup").rglob("*.pressure"):
        file.unlink()
    samples = group_probe().read(host, FakeClock().now()).samples
    assert len(samples) == 6
    assert {(sample.value, sample.reason) for sample in samples} == {(None, "this kernel has no pressure stall information here")}


def test_the_number_of_control_groups_is_bounded(tmp_path: Path) -> None:
    host = debian(tmp_path)
    for n in range(50):
        shutil.copytree(host.root / "sys/fs/cgroup/user.slice", host.root / f"sys/fs/cgroup/g{n}")
    assert len({sample.subject for sample in group_probe().read(host, FakeClock().now()).samples}) == 32


def test_hybrid_hierarchies_have_version_2_one_level_down(tmp_path: Path) -> None:
    host = debian(tmp_path)
    cgroup = host.root / "sys/fs/cgroup"
    cgroup.rename(host.root / "sys/fs/unified")
    cgroup.mkdir()
    (host.root / "sys/fs/unified").rename(cgroup / "unified")
    assert one(group_probe().read(host, FakeClock().now()), "cgroup.cpu_some_percent", "cgroup:/system.slice").value == 2.5


@pytest.mark.parametrize("name", ["macos14", "windows11"])
def test_other_systems_say_that_they_have_none(name: str) -> None:
    for one_probe in (probe(), group_probe()):
        samples = one_probe.read(captured(name), FakeClock().now()).samples
        assert len(samples) == 6
        assert all(sample.value is None and "has no" in sample.reason for sample in samples)
