"""What the doctor says of limits and of other controllers, on recorded hosts."""

from __future__ import annotations

from pathlib import Path

from stead.cli import doctor, doctor_groups
from tests.cgroups.recorded import RecordedHost


def test_a_host_without_groups(tmp_path: Path) -> None:
    RecordedHost(tmp_path, mounts="none")
    check = doctor.limits_check(tmp_path)
    assert check.result == "warn" and check.fix and doctor_groups.limits(RecordedHost(tmp_path, mounts="none")) == ("", {})


def test_version_2_under_systemd_has_all_but_what_no_disk_heeds(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path, systemd=252)
    assert doctor_groups.limits(host) == ("version 2, through systemd", {})
    host.put("/sys/block/vda/queue/scheduler", "[none]")
    assert list(doctor_groups.limits(host)[1]) == ["io_weight"]
    assert doctor.limits_check(tmp_path).detail.startswith("version 2, through systemd; no io_weight: no disk here weighs IO")


def test_version_1_lacks_some(tmp_path: Path) -> None:
    words, missing = doctor_groups.limits(RecordedHost(tmp_path, mounts="hybrid"))
    assert words.startswith("version 1, with version 2 beside it, written straight")
    assert set(missing) == {"memory_high_bytes", "io_latency"}


def test_other_controllers_are_named_with_what_they_do(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path)
    assert doctor.rivals_check(tmp_path).detail == "no others run here"
    host.process(7, "earlyoom")
    assert doctor.rivals_check(tmp_path).detail == "earlyoom (process 7, kills when little memory and swap are left)"
