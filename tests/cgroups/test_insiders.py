"""What is protected stays so however it is reached: by a group above it or below it, by another name, or unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead.cgroups.insiders import Shield, protected_inside, protected_process, session_inside
from stead.cgroups.tree import Groups
from tests.cgroups.recorded import RecordedHost

DB = "/app/db.service"


def host_with(tmp_path: Path) -> RecordedHost:
    """A service whose processes have a name that says nothing: a part of it in a group of its own, and another process beside."""
    host = RecordedHost(tmp_path)
    host.group("/app")
    for path, pid in ((DB, 70), (f"{DB}/worker", 71), ("/app/other.service", 72)):
        host.group(path, pids=[pid])
        host.process(pid, "java", path)
    host.put("/proc/70/cmdline", "/usr/bin/java\0/opt/shop-database-server.jar\0")
    return host


@pytest.mark.parametrize("pattern", [f"cgroup:{DB}", DB, "cgroup:/app/db*", "db*", "db.service", "service:db", "unit:db.service"])
def test_a_pattern_of_the_policy_holds_above_and_below_what_it_names(tmp_path: Path, pattern: str) -> None:
    host = host_with(tmp_path)
    groups, shield = Groups.of(host), Shield((pattern,))
    for path in ("/app", DB, f"{DB}/worker"):
        assert pattern in protected_inside(host, groups, path, shield), path
    for pid in (70, 71):
        assert pattern in protected_process(host, groups, pid, shield), pid
    assert protected_inside(host, groups, "/app/other.service", shield) == ""
    assert protected_process(host, groups, 72, shield) == ""


@pytest.mark.parametrize("pattern", ["shop-database-*", "process:shop-database-server.jar", "process:*java */opt/shop*"])
def test_a_name_longer_than_the_kernel_keeps_is_told_by_the_command(tmp_path: Path, pattern: str) -> None:
    host = host_with(tmp_path)
    assert pattern in protected_inside(host, Groups.of(host), "/app", Shield((pattern,)))
    assert protected_inside(host, Groups.of(host), "/app/other.service", Shield((pattern,))) == ""


@pytest.mark.parametrize("pattern", ["workload:db*", "process:db*", "kernel:ksm", "cgroup:/app/db", "unit:ap"])
def test_a_pattern_of_something_else_holds_nothing(tmp_path: Path, pattern: str) -> None:
    host = host_with(tmp_path)
    assert protected_inside(host, Groups.of(host), "/app", Shield((pattern,))) == ""


def test_what_can_not_be_seen_is_not_taken_for_harmless(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    groups = Groups.of(host)
    host.put(f"/sys/fs/cgroup{DB}/cgroup.procs", "0\n70\n")
    assert "can't be seen from here" in protected_inside(host, groups, DB, Shield())
    host.put(f"/sys/fs/cgroup{DB}/cgroup.procs", "70\n")
    host.put("/proc/70/stat", "nonsense")
    assert "nothing can be read" in protected_inside(host, groups, DB, Shield())
    host.remove("/proc/70/stat")
    assert protected_inside(host, groups, DB, Shield()) == "", "it has ended"


@pytest.mark.parametrize(("name", "tty", "what"), [("tmux: server", 0, "a terminal multiplexer"), ("bash", 34816, "a terminal")])
def test_a_person_in_a_group_is_seen_whatever_its_path_says(tmp_path: Path, name: str, tty: int, what: str) -> None:
    host = host_with(tmp_path)
    groups = Groups.of(host)
    assert session_inside(host, groups, "/app") == ""
    host.put("/proc/71/stat", f"71 ({name}) S 1 71 71 {tty} -1 0 {' '.join(['0'] * 12)} 500 0 0 0\n")
    assert what in session_inside(host, groups, "/app")
