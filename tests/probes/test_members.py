from __future__ import annotations

from pathlib import Path

import pytest

from stead.cgroups.tree import Groups
from stead.model.intent import Intent, Protect
from stead.probes.members import Members
from stead.probes.proc_table import Table
from tests.probes.crowd import Crowd


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    made = Crowd(tmp_path)
    made.born(1, "systemd", parent=0, group="/init.scope")
    return made


class Look:
    """Members over one table, tick by tick."""

    def __init__(self, crowd: Crowd, intent: Intent) -> None:
        self.crowd, self.table, self.members = crowd, Table(), Members(intent)
        self.groups = Groups.of(crowd.host)

    def __call__(self) -> Members:
        now = self.crowd.tick()
        self.table.update(self.crowd.host, now, self.crowd.last_pid)
        self.members.update(self.crowd.host, self.groups, self.table, now)
        return self.members

    def protected(self) -> list[list[int]]:
        return [sorted(task.pid for task in thing.tasks) for thing in self.members.protected]

    def contenders(self) -> dict[str, list[int]]:
        return {thing.subject: sorted(task.pid for task in thing.tasks) for thing in self.members.contenders}


def intent(*protect: str, best_effort: tuple[str, ...] = ()) -> Intent:
    return Intent((Protect(protect, "dear"),), best_effort)


def test_processes_are_found_by_name_when_they_come_become_another_and_go(crowd: Crowd) -> None:
    look = Look(crowd, intent("nginx", best_effort=("make",)))
    crowd.born(10, "nginx")
    crowd.born(20, "bash")
    look()
    assert (look.protected(), look.contenders()) == ([[10]], {})
    crowd.becomes(20, "make")
    look()
    assert look.contenders() == {"process:20@140": [20]}
    crowd.ends(20)
    crowd.ends(10)
    look()
    assert (look.protected(), look.contenders()) == ([[]], {})


def test_what_a_contender_starts_is_part_of_it(crowd: Crowd) -> None:
    look = Look(crowd, intent("nginx", best_effort=("make", "cc*")))
    crowd.born(20, "bash")
    crowd.born(21, "make", parent=20)
    crowd.born(22, "sh", parent=21)
    crowd.born(23, "cc1", parent=22)
    crowd.born(30, "cc1", parent=1)
    look()
    assert look.contenders() == {"process:21@147": [21, 22, 23], "process:30@210": [30]}
    assert [(thing.title, thing.pattern) for thing in look.members.contenders] == [
        ("make (pid 21)", "process:make"),
        ("cc1 (pid 30)", "process:cc*"),
    ]


def test_what_is_protected_or_never_slowed_ends_a_contenders_family(crowd: Crowd) -> None:
    look = Look(crowd, intent("nginx", best_effort=("make",)))
    crowd.born(21, "make")
    crowd.born(22, "nginx", parent=21)
    crowd.born(23, "helper", parent=22)
    crowd.born(24, "sshd", parent=21)
    crowd.born(25, "shell", parent=24)
    look()
    assert look.contenders() == {"process:21@147": [21]}
    assert look.protected() == [[22]]


def test_threads_of_the_kernel_are_no_contenders_whatever_they_are_called(crowd: Crowd) -> None:
    look = Look(crowd, intent("nginx", best_effort=("make",)))
    crowd.born(21, "make", parent=2, flags=0x00200000)
    look()
    assert look.contenders() == {}


def test_a_group_is_one_contender_with_all_below_it(crowd: Crowd) -> None:
    crowd.group("/batch.slice")
    crowd.group("/batch.slice/night.service")
    look = Look(crowd, intent("service:web", best_effort=("cgroup:/batch.slice", "cgroup:/batch.slice/*", "tar")))
    crowd.born(10, "python3", group="/system.slice/web.service")
    crowd.born(20, "tar", group="/batch.slice/night.service")
    crowd.born(21, "gzip", group="/batch.slice")
    look()
    (found,) = look.contenders().items()
    inode = crowd.host.inode("/sys/fs/cgroup/batch.slice")
    assert found == (f"cgroup:/batch.slice@{inode}", [20, 21])
    assert look.protected() == [[10]]


def test_a_group_with_a_protected_process_in_it_is_left_out_and_said(crowd: Crowd) -> None:
    crowd.group("/batch.slice")
    crowd.group("/other.slice")
    look = Look(crowd, intent("postgres", best_effort=("cgroup:/batch.slice", "cgroup:/other.slice")))
    crowd.born(20, "tar", group="/batch.slice")
    crowd.born(21, "postgres", group="/batch.slice")
    crowd.born(22, "sshd", group="/other.slice")
    look()
    assert look.contenders() == {}
    assert look.members.left_out == {
        "/batch.slice": "postgres (pid 21) is in it, and is protected",
        "/other.slice": "sshd (pid 22) is in it, and is the way in by ssh",
    }
    assert look.members.left_alone == {
        ("cgroup:/batch.slice", "left alone, though cgroup:/batch.slice names it: it holds protected work"),
        ("cgroup:/other.slice", "left alone, though cgroup:/other.slice names it: it holds the way in by ssh"),
    }


def test_a_protected_process_that_is_also_to_be_slowed_is_left_alone_whatever_its_pid(crowd: Crowd) -> None:
    look = Look(crowd, intent("nginx", best_effort=("process:*gin*",)))
    for pid in (10, 11):
        crowd.born(pid, "nginx")
    assert look().left_alone == {
        ("best_effort:process:*gin*", "nginx is left alone, though process:*gin* names it: it is protected")
    }
    for pid in (10, 11):
        crowd.ends(pid)
    assert not look().left_alone


def test_a_placed_contender_that_begins_something_protected_is_left_out_until_that_is_out_of_its_group(crowd: Crowd) -> None:
    look = Look(crowd, intent("nginx", best_effort=("make", "tar")))
    crowd.group("/stead/21-147")
    crowd.born(21, "make", group="/stead/21-147")
    crowd.born(30, "tar")
    look()
    assert look.contenders() == {"process:21@147": [21], "process:30@210": [30]}
    crowd.born(32, "nginx", parent=21, group="/stead/21-147")
    look()
    assert look.contenders() == {"process:30@210": [30]}, "without its demand the lease of its placement lapses"
    assert look.members.left_out == {"process:21@147": "nginx (pid 32) was begun in its group"}
    crowd.put("/proc/32/cgroup", "0::/\n")
    crowd.tick(60)
    look()
    assert look.contenders() == {"process:21@147": [21], "process:30@210": [30]}


def test_a_process_that_was_moved_is_seen_within_a_minute(crowd: Crowd) -> None:
    crowd.group("/batch.slice")
    look = Look(crowd, intent("nginx", best_effort=("cgroup:/batch.slice",)))
    crowd.born(20, "tar")
    look()
    assert look.contenders() == {}
    crowd.put("/proc/20/cgroup", "0::/batch.slice\n")
    look()
    assert look.contenders() == {}
    crowd.tick(60)
    look()
    assert len(look.contenders()) == 1


@pytest.mark.parametrize("pid", [14299, 14301], ids=["just before the tick", "while the tick went on"])
def test_a_process_that_has_just_begun_is_followed_to_the_group_that_it_is_put_into(crowd: Crowd, pid: int) -> None:
    crowd.group("/batch.slice")
    look = Look(crowd, intent("nginx", best_effort=("cgroup:/batch.slice",)))
    crowd.born(pid, "tar")
    look()
    age_ms = crowd.now.mono_ms - 10 * look.table.tasks[pid].start_ticks
    assert abs(age_ms) < 100 and (age_ms < 0) == (pid == 14301) and look.contenders() == {}
    crowd.put(f"/proc/{pid}/cgroup", "0::/batch.slice\n")
    look()
    assert list(look.contenders().values()) == [[pid]]


def test_pressure_counts_of_groups_that_only_protected_processes_are_in(crowd: Crowd) -> None:
    look = Look(crowd, intent("service:web", "service:db", "nginx"))
    crowd.born(10, "python3", group="/system.slice/web.service")
    crowd.born(11, "postgres", group="/system.slice/db.service")
    crowd.born(12, "nginx", group="/user.slice/session-1.scope")
    crowd.born(13, "bash", group="/user.slice/session-1.scope")
    crowd.born(14, "nginx", group="/")
    look()
    assert look.protected() == [[10, 11, 12, 14]]
    assert look.members.protected[0].apart == {"/system.slice/web.service", "/system.slice/db.service"}
