from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.probes.disk import NEVER_HOURS, Io, Mount, hours_to_full, io_probe, parse_diskstats, parse_mounts, space_probe
from stead.probes.reading import FIRST
from stead.testing import FakeClock, FakeHost
from tests.probes.hosts import CAPTURED, captured, change, debian, one, two_frames, values

HOUR_MS = 3_600_000


def test_only_real_file_systems_count_each_device_once() -> None:
    assert parse_mounts((CAPTURED / "debian12/proc/self/mounts").read_text()) == [
        Mount("/", "/dev/vda1", "ext4"),
        Mount("/boot/efi", "/dev/vda15", "vfat"),
        Mount("/mnt/nas", "nas:/export", "nfs4"),
    ]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (r"/dev/sdb1 /mnt/a\040b\134c ext4 rw 0 0", "/mnt/a b\\c"),
        ("tmpfs /tmp tmpfs rw 0 0", "/tmp"),
        ("overlay / overlay rw 0 0", "/"),
        ("me@host:/x /mnt/s fuse.sshfs rw 0 0", "/mnt/s"),
        ("tank/data /tank zfs rw 0 0", "/tank"),
    ],
)
def test_mounts_that_count(line: str, path: str) -> None:
    assert [mount.path for mount in parse_mounts(line)] == [path]


@pytest.mark.parametrize(
    "line",
    [
        "tmpfs /run tmpfs rw 0 0",
        "/dev/loop3 /snap/x squashfs ro 0 0",
        "/dev/sr0 /cdrom iso9660 ro 0 0",
        "proc /proc proc rw 0 0",
        "rootfs / rootfs rw 0 0",
        "short line",
    ],
)
def test_mounts_that_do_not(line: str) -> None:
    assert parse_mounts(line) == []


def test_parses_disks_that_were_ever_used() -> None:
    disks = parse_diskstats((CAPTURED / "debian12/proc/diskstats").read_text())
    assert list(disks) == ["vda", "vda1", "vda14", "sr0"]
    assert disks["vda"] == Io(81231, 6123344 * 512, 120331, 9120336 * 512, 120332)


def filling(bytes_per_hour: float, minutes: int) -> deque[tuple[int, int]]:
    return deque((m * 60_000, int(10**12 + bytes_per_hour * m / 60)) for m in range(minutes + 1))


@given(st.floats(10**6, 10**12), st.integers(10, 60), st.floats(10**6, 10**13))
def test_a_steady_fill_is_extrapolated(rate: float, minutes: int, available: float) -> None:
    expected = min(NEVER_HOURS, available / rate)
    assert hours_to_full(filling(rate, minutes), int(available)) == pytest.approx(expected, rel=0.01)


def test_not_filling_is_a_year_and_too_little_history_unknown() -> None:
    assert hours_to_full(filling(0, 60), 10**9) == NEVER_HOURS
    assert hours_to_full(filling(-(10**9), 60), 10**9) == NEVER_HOURS
    assert hours_to_full(filling(10**9, 9), 10**9) is None
    assert hours_to_full(deque(), 10**9) is None


class Sized(FakeHost):
    """Every file system has the sizes that the test says; a path in `pipes` blocks as a dead mount does, in a real read."""

    sizes: dict[str, Any]
    pipes: dict[str, Path]

    def statvfs(self, path: str) -> Any:
        if path in self.pipes:
            os.close(os.open(self.pipes[path], os.O_RDONLY))  # waits until somebody opens it to write
        answer = self.sizes.get(path, self.sizes["/"])
        if isinstance(answer, OSError):
            raise answer
        return answer


def sizes(used: int, available: int, files: int = 100, free: int = 60) -> SimpleNamespace:
    return SimpleNamespace(
        f_frsize=4096,
        f_blocks=used + available + 5,
        f_bfree=available + 5,
        f_bavail=available,
        f_files=files,
        f_ffree=free,
        f_favail=free,
    )


def sized(tmp_path: Path, **of: Any) -> Sized:
    debian(tmp_path)
    host = Sized(tmp_path / "root")
    host.sizes = {"/": sizes(300, 700), **of}
    host.pipes = {}
    return host


def test_usage_is_what_df_says(tmp_path: Path) -> None:
    reading = space_probe().read(sized(tmp_path), FakeClock().now())
    assert one(reading, "infra.disk_usage", "mount:/").value == pytest.approx(30.0), "space kept for root is not for users"
    assert one(reading, "infra.disk_inodes", "mount:/").value == pytest.approx(40.0)
    assert one(reading, "disk.available_bytes", "mount:/mnt/nas").value == 700 * 4096
    assert one(reading, "infra.disk_time_to_full", "mount:/").reason == "less than ten minutes of history"


def test_time_to_full_uses_the_last_hour_only(tmp_path: Path) -> None:
    host, clock, probe = sized(tmp_path), FakeClock(), space_probe()
    for _ in range(130):  # an hour and five minutes of filling, by 10 blocks a minute
        reading = probe.read(host, clock.advance(30_000))
        used = host.sizes["/"].f_blocks - host.sizes["/"].f_bfree
        host.sizes["/"] = sizes(used + 5, 100_000)
    assert one(reading, "infra.disk_time_to_full", "mount:/").value == pytest.approx(100_000 / 600, rel=0.02)
    for _ in range(125):
        reading = probe.read(host, clock.advance(30_000))
    assert one(reading, "infra.disk_time_to_full", "mount:/").value == NEVER_HOURS


def test_one_broken_mount_leaves_the_others(tmp_path: Path) -> None:
    host = sized(tmp_path, **{"/boot/efi": OSError(5, "Input/output error"), "/mnt/nas": sizes(0, 0, 0, 0)})
    reading = space_probe().read(host, FakeClock().now())
    assert one(reading, "infra.disk_usage", "mount:/").value == pytest.approx(30.0)
    assert one(reading, "infra.disk_usage", "mount:/boot/efi").reason == "Input/output error"
    assert one(reading, "infra.disk_usage", "mount:/mnt/nas").reason == "it reports no size"
    assert one(reading, "infra.disk_inodes", "mount:/mnt/nas").reason == "no fixed inodes"


def test_a_hung_mount_is_unknown_alone_is_asked_once_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stead.probes.disk._ANSWER_S", 0.05)
    host, clock, probe = sized(tmp_path), FakeClock(), space_probe()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    host.pipes = {"/mnt/nas": pipe}
    threads = threading.active_count()
    for _ in range(3):
        reading = probe.read(host, clock.advance(30_000))
        assert one(reading, "infra.disk_usage", "mount:/").value == pytest.approx(30.0)
        assert one(reading, "infra.disk_usage", "mount:/mnt/nas").reason == "the file system does not answer"
        assert threading.active_count() == threads + 1, "one outstanding call, however often it is asked"
    (hung,) = probe._hung.values()
    os.close(os.open(pipe, os.O_WRONLY))
    hung.join(30)
    host.pipes = {}
    monkeypatch.setattr("stead.probes.disk._ANSWER_S", 30.0)
    assert one(probe.read(host, clock.advance(30_000)), "infra.disk_usage", "mount:/mnt/nas").value == pytest.approx(30.0)
    assert threading.active_count() == threads


def test_rates_of_whole_disks_only(tmp_path: Path) -> None:
    host, clock, probe = debian(tmp_path), FakeClock(), io_probe()
    first = probe.read(host, clock.now())
    assert {sample.subject for sample in first.samples} == {"disk:vda"}
    assert {sample.reason for sample in first.samples} == {FIRST}
    change(
        host,
        "/proc/diskstats",
        lambda text: text.replace(" vda 81231 20312 6123344", " vda 81241 20312 6125392").replace(
            "0 120332 352156", "0 120832 352156"
        ),
    )
    second = values(probe.read(host, clock.advance(2000)))
    assert second["disk.read_bytes_per_second", "disk:vda"] == 2048 * 512 / 2
    assert second["disk.reads_per_second", "disk:vda"] == 5.0
    assert second["disk.written_bytes_per_second", "disk:vda"] == 0.0
    assert second["disk.busy_percent", "disk:vda"] == pytest.approx(25.0)


def test_without_sysfs_partitions_are_known_by_name(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    line = "{} 10 0 80 1 10 0 80 1 0 5 2"
    names = ["sda", "sda1", "nvme0n1", "nvme0n1p2", "vdb", "vdb12", "mmcblk0", "mmcblk0p1", "md0", "dm-0", "loop7", "sr0"]
    (root / "proc/diskstats").write_text("".join(f" 8 0 {line.format(name)}\n" for name in names))
    reading = io_probe().read(FakeHost(root), FakeClock().now())
    assert {sample.subject for sample in reading.samples} == {
        f"disk:{name}" for name in ("sda", "nvme0n1", "vdb", "mmcblk0", "md0", "dm-0")
    }


def test_macos_and_windows() -> None:
    mac = two_frames(space_probe(), captured("macos14"))
    assert one(mac, "infra.disk_usage", "mount:/System/Volumes/Data").value == pytest.approx(100 * 280 / 480)
    assert one(mac, "infra.disk_inodes", "mount:/").reason == "no fixed inodes"
    assert one(two_frames(io_probe(), captured("macos14")), "disk.read_bytes_per_second", "disk:disk0").value == 1_000_000
    windows = two_frames(space_probe(), captured("windows11"))
    assert {sample.subject for sample in windows.samples} == {"mount:C:\\"}
    busy = one(two_frames(io_probe(), captured("windows11")), "disk.busy_percent", "disk:PhysicalDrive0")
    assert (busy.value, busy.reason) == (None, "not counted on this system")


@pytest.mark.parametrize(
    "kind", ["squashfuse", "squashfuse_ll", "snapfuse", "lxcfs", "portal", "gvfsd-fuse", "Editor-x86_64.AppImage"]
)
def test_images_and_doors_behind_fuse_are_no_file_systems_that_fill_up(kind: str) -> None:
    assert parse_mounts(f"x /mnt/x fuse.{kind} ro 0 0\n") == []
    assert [mount.path for mount in parse_mounts("host: /mnt/x fuse.sshfs rw 0 0\n")] == ["/mnt/x"]
