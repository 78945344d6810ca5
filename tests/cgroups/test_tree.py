"""Where groups are: mounts, memberships, folders, identities, who is in them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from stead.cgroups.tree import Groups, Mount, parse_membership, parse_mounts
from stead.host import LocalHost
from tests.cgroups.groups import group, put, real_groups, removed, sleeper
from tests.cgroups.recorded import MOUNTS, RecordedHost

CONTAINER = "510 500 0:26 /docker/0a1b /sys/fs/cgroup/memory ro,nosuid master:11 - cgroup cgroup rw,memory\n"
JOINED = "33 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n"
SPACED = "33 25 0:28 / /mnt/a\\040b rw - cgroup cgroup rw,xattr,name=systemd\n"
OUTSIDE = "33 25 0:28 /../../other /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
MEMBER = "9:name=systemd:/\n5:cpu,cpuacct:/batch\n4:memory:/a:b/c\n0::/x.slice (deleted)\n"


def test_mounts_by_controller():
    v1, v2 = parse_mounts(MOUNTS["hybrid"])
    assert v2 == Mount("/sys/fs/cgroup/unified", "/") and set(v1) == {"cpu", "memory", "blkio", "pids", "freezer"}
    assert parse_mounts(MOUNTS["v2"]) == ({}, Mount("/sys/fs/cgroup", "/"))
    assert parse_mounts(JOINED)[0] == dict.fromkeys(("cpu", "cpuacct"), Mount("/sys/fs/cgroup/cpu,cpuacct", "/"))
    assert parse_mounts(SPACED)[0] == {"name=systemd": Mount("/mnt/a b", "/")}
    assert parse_mounts(OUTSIDE) == ({}, None), "another namespace's paths are not ours"
    assert parse_mounts("torn - \n1 2 3 - cgroup2\n\n") == ({}, None)


def test_memberships():
    paths = {"name=systemd": "/", "cpu": "/batch", "cpuacct": "/batch", "memory": "/a:b/c", "": "/x.slice"}
    assert parse_membership(MEMBER) == paths
    assert parse_membership("nonsense\n:::\n") == {}


@pytest.mark.parametrize(("mounts", "version"), [("v2", "v2"), ("hybrid", "hybrid"), ("none", "none")])
def test_versions(tmp_path, mounts, version):
    assert Groups.of(RecordedHost(tmp_path, mounts=mounts)).version == version


def test_a_host_without_proc_has_none(tmp_path):
    groups = Groups.of(LocalHost(tmp_path))
    assert groups.version == "none" and groups.folder("/x") is None and groups.pids("/") == () and groups.target("/x") is None
    assert groups.lacks("cpu_weight") == "this host has no control groups"


def test_a_part_that_is_shown_to_a_container(tmp_path):
    host = RecordedHost(tmp_path, mounts="none")
    host.put("/proc/self/mountinfo", CONTAINER)
    groups = Groups.of(host)
    assert groups.folder("/docker/0a1b", "memory") == "/sys/fs/cgroup/memory"
    assert groups.folder("/docker/0a1b/x", "memory") == "/sys/fs/cgroup/memory/x"
    assert groups.folder("/docker/0a1bc", "memory") is None and groups.folder("/", "memory") is None


@pytest.mark.parametrize("path", ["relative", "/a/../../etc", ""])
def test_what_is_no_path_of_a_group_has_no_folder(tmp_path, path):
    assert Groups.of(RecordedHost(tmp_path)).folder(path, "cpu") is None


def test_where_a_process_is(tmp_path):
    host = RecordedHost(tmp_path, mounts="hybrid")
    host.put("/proc/7/cgroup", "5:cpu:/\n4:memory:/some\n3:pids:/other\n0::/uni\n")
    groups = Groups.of(host)
    assert [groups.path_of(7, name) for name in ("", "cpu", "memory", "pids", "io")] == ["/some", "/", "/some", "/other", None]
    assert groups.path_of(8) is None
    assert Groups.of(RecordedHost(tmp_path)).path_in("0::/a.slice\n") == "/a.slice"


def test_an_identity_is_of_one_very_group(tmp_path):
    host = RecordedHost(tmp_path)
    host.group("/a")
    groups = Groups.of(host)
    target = groups.target("/a")
    assert target is not None and target.identity == {"id": groups.id_of("/a"), "boot_id": host.boot_id}
    assert groups.is_there(target)
    for identity in ({"id": "1"}, {"id": ""}, {"id": "cpu.1"}, {"boot_id": "other"}):
        assert not groups.is_there(msgspec.structs.replace(target, identity={**target.identity, **identity}))
    assert not groups.is_there(msgspec.structs.replace(target, name="/b"))
    assert not groups.is_there(msgspec.structs.replace(target, kind="process"))


def test_processes_and_groups_below(tmp_path):
    host = RecordedHost(tmp_path)
    for path, pids in {"/a": [1, 2], "/a/b": [3], "/a/b/cpu.odd": [4], "/c": [9]}.items():
        host.group(path, pids=pids)
    groups = Groups.of(host)
    for _ in range(2):  # the second time it knows which names are files
        assert groups.pids("/a") == (1, 2) and groups.pids("/a", deep=True) == (1, 2, 3, 4) and groups.children("/a") == ("/a/b",)
    host.group("/a/late", pids=[5])
    assert groups.children("/a") == ("/a/b", "/a/late") and groups.pids("/gone", deep=True) == ()


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("memory_high_bytes", "version 1 of control groups has no memory.high"),
        ("nonsense", "a limit has no nonsense"),
        ("cpu_weight", ""),
    ],
)
def test_what_version_1_lacks_is_said(tmp_path, field, words):
    assert Groups.of(RecordedHost(tmp_path, mounts="hybrid")).lacks(field) == words


def test_a_controller_nowhere_and_one_not_in_this_group(tmp_path):
    host = RecordedHost(tmp_path)
    host.put("/sys/fs/cgroup/cgroup.controllers", "memory")
    host.group("/a", controllers=("memory",))
    groups = Groups.of(host)
    assert groups.lacks("cpu_max_percent", "/a") == "no tree here has the cpu controller"
    assert groups.lacks("memory_high_bytes", "/a") == "" and groups.lacks("frozen", "/a") == ""
    assert groups.lacks("memory_high_bytes", "/b") == "/b is not in the memory controller's tree"


def test_weights_need_a_disk_that_heeds_them(tmp_path):
    host = RecordedHost(tmp_path)
    assert Groups.of(host).lacks("io_weight") == ""
    host.put("/sys/block/vda/queue/scheduler", "[none] bfq")
    assert Groups.of(host).lacks("io_weight").startswith("no disk here weighs IO")
    host.put("/sys/fs/cgroup/io.cost.qos", "254:0 enable=1 ctrl=auto")
    assert Groups.of(host).lacks("io_weight") == ""


def test_this_machines_own():
    _, groups = real_groups()
    with sleeper() as pid, group(groups) as path:
        put(groups, path, pid)
        assert groups.path_of(pid) == path == groups.path_of(pid, "memory")
        assert groups.pids(path) == (pid,) and path in groups.children("/") and pid in groups.pids("/", deep=True)
        target = groups.target(path)
        assert target is not None and groups.is_there(target) and target.identity["id"].startswith("cpu.")
        assert len(groups.folders(path)) == 5
    assert groups.id_of(path) is None and not groups.is_there(target)
    assert groups.path_of(os.getpid(), "cpu") is not None and groups.unit_of("/system.slice/x.service") is None


def test_a_threaded_group_tells_the_processes_that_its_threads_are_of() -> None:
    _, groups = real_groups()
    place = groups.unified(f"/steadtest-{os.getpid()}-threaded")
    if place is None:
        pytest.skip("there is no tree of version 2 here")
    top = Path(place)
    top.mkdir()
    below = top / "threads"
    code = "import threading, time; t = threading.Thread(target=time.sleep, args=(600,)); t.start(); t.join()"
    try:
        with sleeper(code) as pid:
            below.mkdir()
            (top / "cgroup.procs").write_text(str(pid))
            (below / "cgroup.type").write_text("threaded")
            (below / "cgroup.threads").write_text(thread_of(pid))
            assert groups.pids(f"/{top.name}/threads") == (pid,)
    finally:
        removed(below)
        removed(top)


def thread_of(pid: int) -> str:
    """A thread of a process besides its first, once it has one."""
    until = time.monotonic() + 10.0
    while time.monotonic() < until:
        found = [one.name for one in Path(f"/proc/{pid}/task").iterdir() if one.name != str(pid)]
        if found:
            return found[0]
        time.sleep(0.01)
    raise AssertionError("it began no thread")
