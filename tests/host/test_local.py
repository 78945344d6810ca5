from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stead.host import LocalHost, person_name
from stead.protocols import Host
from tests.host.processes import sleeper

HOST: Host = LocalHost()


def test_reads_whole_files_of_proc_and_no_more_than_the_limit() -> None:
    assert HOST.read("/proc/self/stat").startswith(str(os.getpid()).encode())
    maps = HOST.read("/proc/self/maps")
    assert len(maps) > 4096, "more than the page that one read of /proc hands out"
    assert maps.endswith(b"\n")
    assert len(HOST.read("/proc/self/maps", 100)) == 100


def test_a_kept_file_reads_the_present_each_time_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "grows"
    path.write_bytes(b"one")
    kept = LocalHost(tmp_path).keep("/grows")
    assert kept.read() == b"one"
    path.write_bytes(b"x" * 200_000)
    assert kept.read() == b"x" * 200_000
    path.write_bytes(b"")
    assert kept.read() == b""
    kept.close()
    kept.close()
    maps = HOST.keep("/proc/self/maps")
    assert len(maps.read()) > 4096
    maps.close()


def test_a_file_kept_for_single_reads_is_capped_and_dead_when_closed(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"0123456789")
    kept = LocalHost(tmp_path).keep("/small", once=4)
    assert [kept.read(), kept.read()] == [b"0123", b"0123"]
    kept.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        kept.read()


def test_a_kept_file_of_a_dead_process_never_reads_its_successor() -> None:
    with sleeper() as process:
        kept = HOST.keep(f"/proc/{process.pid}/stat", once=512)
        assert kept.read()
    with pytest.raises(ProcessLookupError):
        kept.read()
    kept.close()


def test_writes_existing_files_only(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    with pytest.raises(FileNotFoundError):
        host.write("/knob", b"1")
    (tmp_path / "knob").write_bytes(b"longer than what comes")
    host.write("/knob", b"5")
    assert host.read("/knob") == b"5"
    assert host.list("/") == ["knob"]


@pytest.mark.parametrize("path", ["knob", "", "/../etc/passwd", "/a/../../b"])
def test_paths_are_absolute_and_stay_under_the_root(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"not an absolute path|leads out of the root"):
        LocalHost(tmp_path).read(path)


def test_statvfs_asks_under_the_root(tmp_path: Path) -> None:
    assert LocalHost(tmp_path).statvfs("/").f_blocks == os.statvfs(tmp_path).f_blocks
    with pytest.raises(FileNotFoundError):
        LocalHost(tmp_path).statvfs("/nothing")


def test_start_ticks_are_an_identity_and_none_when_gone() -> None:
    with sleeper() as process:
        ticks = HOST.start_ticks(process.pid)
        assert ticks is not None
        uptime_s = float(HOST.read("/proc/uptime").split()[0])
        assert 0 <= uptime_s - ticks / os.sysconf("SC_CLK_TCK") < 30
        assert HOST.start_ticks(process.pid) == ticks
    assert HOST.start_ticks(process.pid) is None


def test_a_zombie_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists()
    assert HOST.start_ticks(process.pid) is None
    process.wait()


def test_start_ticks_survive_a_hostile_name(tmp_path: Path) -> None:
    stat = tmp_path / "proc/7/stat"
    stat.parent.mkdir(parents=True)
    stat.write_text("7 (a) R 1 (b) S) S " + " ".join(str(n) for n in range(1, 30)))
    assert LocalHost(tmp_path).start_ticks(7) == 19


def test_knows_itself() -> None:
    assert HOST.name == os.uname().nodename
    assert HOST.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert HOST.system == "linux"
    assert LocalHost("/nowhere").boot_id == "unknown"


@pytest.mark.parametrize(("platform", "system"), [("darwin", "darwin"), ("win32", "windows"), ("freebsd14", "linux")])
def test_other_systems_are_known_by_psutil(platform: str, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil  # as it is here: it asks for the platform, too

    assert psutil.boot_time() > 0
    monkeypatch.setattr(sys, "platform", platform)
    host = LocalHost()
    assert host.system == system
    if system == "linux":
        return
    assert host.boot_id.startswith("boot-1")
    assert host.scheduler.autogroup(os.getpid()) is None
    with sleeper() as process:
        ticks = host.start_ticks(process.pid)
        assert ticks is not None
        assert ticks == host.start_ticks(process.pid)
    assert host.start_ticks(process.pid) is None


def test_importing_the_host_is_light() -> None:
    """What every host keeps in memory: nothing heavy before it is needed."""
    program = (
        "import sys; from stead.host import LocalHost, SystemClock; LocalHost().scheduler.can_raise(); "
        "print(sorted({'asyncio', 'ctypes', 'psutil', 'subprocess', 'socket', 'ssl'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_people_have_names() -> None:
    assert person_name(0) == "root"
    assert person_name(4_123_456) == "uid:4123456"


def test_a_placed_file_is_whole_or_not_there_and_removing_twice_is_no_error(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    host.place("/drop.conf", b"one")
    host.place("/drop.conf", b"two")
    assert (tmp_path / "drop.conf").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["drop.conf"]
    (tmp_path / "aim").write_bytes(b"kept")
    (tmp_path / "link.new").symlink_to("aim")
    with pytest.raises(OSError):
        host.place("/link", b"never through a link")
    assert (tmp_path / "aim").read_bytes() == b"kept"
    host.remove("/drop.conf")
    host.remove("/drop.conf")
    assert not (tmp_path / "drop.conf").exists()
