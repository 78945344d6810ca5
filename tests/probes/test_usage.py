"""What units and containers take: on a recorded tree of version 2, and on real groups of version 1 here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stead.cgroups.tree import Groups
from stead.host import LocalHost, SystemClock
from stead.model.observe import Now, Reading
from stead.probes.usage import leaves, probe

MOUNTS = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def put(root: Path, path: str, text: str) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def group(root: Path, path: str, used_us: int, held: int, unused: int) -> None:
    folder = f"/sys/fs/cgroup{path}"
    put(root, f"{folder}/cgroup.procs", "")
    put(root, f"{folder}/cpu.stat", f"usage_usec {used_us}\nuser_usec 1\n")
    put(root, f"{folder}/memory.current", f"{held}\n")
    put(root, f"{folder}/memory.stat", f"anon 5\ninactive_file {unused}\n")


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    put(tmp_path, "/proc/self/mountinfo", MOUNTS)
    put(tmp_path, "/proc/sys/kernel/random/boot_id", "b\n")
    put(tmp_path, "/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")
    for path in ("/system.slice", "/system.slice/web.service", "/init.scope", "/docker", "/docker/0a1b"):
        group(tmp_path, path, 1_000_000, 900, 300)
    return LocalHost(tmp_path)


def values(reading: Reading) -> dict[tuple[str, str], float | None]:
    return {(one.metric, one.subject.partition("@")[0]): one.value for one in reading.samples}


def test_services_scopes_and_containers_are_leaves(host: LocalHost) -> None:
    assert sorted(leaves(Groups.of(host))) == ["/docker/0a1b", "/init.scope", "/system.slice/web.service"]


def test_cores_come_from_two_readings_and_memory_leaves_out_unused_pages(host: LocalHost, tmp_path: Path) -> None:
    one = probe()
    first = values(one.read(host, Now(0, 0)))
    assert first["cgroup.memory_bytes", "cgroup:/system.slice/web.service"] == 600.0
    assert first["cgroup.cpu_cores", "cgroup:/system.slice/web.service"] is None
    group(tmp_path, "/system.slice/web.service", 6_000_000, 900, 300)
    group(tmp_path, "/docker/0a1b", 500_000, 900, 300)
    second = values(one.read(host, Now(10_000, 10_000)))
    assert second["cgroup.cpu_cores", "cgroup:/system.slice/web.service"] == 0.5
    assert second["cgroup.cpu_cores", "cgroup:/docker/0a1b"] is None, "a counter that went back is no rate"


# It takes its memory once it is in the group: version 1 counts a page where its process was when it took it.
_HOLDS = "import sys; sys.stdin.readline(); held = b'x' * (30 << 20); sys.stdin.read()"


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/sys/fs/cgroup/memory").is_dir(), reason="needs root and version 1 of cgroups")
def test_a_real_group_of_version_1_is_measured() -> None:
    path = f"/steadtest-{os.getpid()}.scope"
    folders = [Path(f"/sys/fs/cgroup/{name}{path}") for name in ("memory", "cpuacct")]
    child = subprocess.Popen([sys.executable, "-S", "-c", _HOLDS], stdin=-1)
    try:
        for folder in folders:
            folder.mkdir()
            (folder / "cgroup.procs").write_text(str(child.pid))
        assert child.stdin is not None
        child.stdin.write(b"now\n")
        child.stdin.flush()
        host, clock, one = LocalHost(), SystemClock(), probe()
        while (values(one.read(host, clock.now())).get(("cgroup.memory_bytes", f"cgroup:{path}")) or 0) < 15 << 20:
            assert child.poll() is None
        assert ("cgroup.cpu_cores", f"cgroup:{path}") in values(one.read(host, clock.now()))
    finally:
        child.kill()
        child.communicate()
        for folder in folders:
            folder.rmdir()
