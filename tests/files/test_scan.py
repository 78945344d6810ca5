"""What the allow-list finds: the right files of the right folders, bounded, and never through a link."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec
import pytest

from stead.catalog import load_catalog
from stead.catalog.cleaning import problems
from stead.files import cleaner
from stead.files import scan as scanning
from stead.files.allow_list import names, objection
from stead.files.mounts import Readings, mount_of
from stead.model.cleaning import CleaningRule
from stead.model.errors import SteadError
from stead.probes.cleanable import Cleanable, probe
from tests.files.kit import DAY_S, LOGS, PACK, TEMP, Place, now

SHIPPED = {rule.category: rule for rule in load_catalog().cleaning}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def found(place: Place, purpose: str, mount: str = "mount:/") -> list[str]:
    place.cleaner.found = None
    place.cleaner.refresh(now())
    return [target.name for target in place.cleaner.candidates(purpose, mount)]


def test_the_largest_come_first_and_links_never(place: Place) -> None:
    place.file("/var/log/a.log.1", b"a" * 10)
    place.file("/var/log/app/b.log.2", b"b" * 1000)
    place.file("/var/log/keep.conf", b"c" * 9000)
    place.file("/etc/d.log.1", b"d" * 9000)
    os.symlink(place.real("/etc/d.log.1"), place.real("/var/log/d.log.1"))
    os.symlink(place.real("/etc"), place.real("/var/log/etc"))
    os.link(place.real("/var/log/keep.conf"), place.real("/var/log/h.log.1"))
    assert found(place, "quarantine") == ["/var/log/app/b.log.2", "/var/log/a.log.1"]
    assert found(place, "quarantine", "mount:/run") == []


def test_one_run_has_so_many_files_and_the_next_the_next(place: Place) -> None:
    for number in range(40):
        place.file(f"/tmp/f{number:02}", b"x" * (100 - number))
    first = found(place, "quarantine")
    assert len(first) == scanning.FILES_MAX and first[0] == "/tmp/f00"
    place.move(place.cleaner.candidates("quarantine", "mount:/")[0], "quarantine")
    assert len(place.cleaner.candidates("quarantine", "mount:/")) == scanning.FILES_MAX - 1, "what was moved is not found again"
    assert found(place, "quarantine")[-1] == "/tmp/f32"


def test_an_open_one_does_not_stand_before_the_others(place: Place) -> None:
    place.file("/tmp/open", b"x" * 500)
    place.file("/tmp/free", b"x" * 5)
    with open(place.real("/tmp/open"), "rb"):
        assert found(place, "quarantine") == ["/tmp/free"]


def test_folders_of_others_and_of_other_devices_are_passed_over(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    place.file("/var/log/theirs/a.log.1")
    os.chown(place.real("/var/log/theirs"), 1234, 1234)
    place.file("/var/log/ours/a.log.1")
    assert found(place, "quarantine") == ["/var/log/ours/a.log.1"]


def test_a_look_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "ENTRIES_MAX", 10)
    for number in range(30):
        place.file(f"/tmp/f{number}")
    assert len(found(place, "quarantine")) == 10


def test_no_descriptor_is_left_open(place: Place) -> None:
    place.file("/var/log/a/b/c.log.1")
    place.file("/tmp/x")
    found(place, "quarantine")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        found(place, "quarantine")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_is_due_is_purged_and_nothing_sooner(place: Place) -> None:
    log, temp = place.target(place.file("/var/log/a.log.1")), place.target(place.file("/tmp/a"))
    place.move(log, "quarantine")
    place.move(temp, "quarantine")
    assert found(place, "purge") == ["/var/log/a.log.1"]
    kept = place.cleaner.found
    assert kept is not None and {held.item.path for held in kept.held} == {"/var/log/a.log.1", "/tmp/a"}
    (due,) = place.cleaner.candidates("purge", "mount:/")
    assert due == log, "the very target that was moved"


def test_the_probe_says_it_all(place: Place) -> None:
    place.file("/var/log/a.log.1", b"x" * 3000)
    place.move(place.target(place.file("/tmp/a", b"x" * 700)), "quarantine")
    reading = probe(place.cleaner).read(place.host, now())
    values = {sample.metric: sample.value for sample in reading.samples if sample.subject == "mount:/"}
    assert values == {
        "disk.cleanable_bytes": 3000.0,
        "disk.compressible_bytes": 3000.0,
        "disk.quarantine_bytes": 700.0,
        "disk.quarantine_due_bytes": 0.0,
    }
    assert {fact.name: fact.value for fact in reading.facts} == {
        "cleanable.logs": 3000,
        "cleanable.plain": 3000,
        "cleanable.temp": 0,
    }


def test_the_probe_without_a_list_knows_nothing(place: Place) -> None:
    assert {sample.value for sample in Cleanable(None).read(place.host, now()).samples} == {None}
    place.cleaner.rule_by([CleaningRule("none", folders=("/nowhere",), names=("*",))])
    assert {sample.value for sample in probe(place.cleaner).read(place.host, now()).samples} == {None}


def test_a_folder_that_can_not_be_looked_into_is_said(place: Place) -> None:
    os.symlink(place.real("/var/log"), place.real("/var/linked"))
    place.cleaner.rule_by([LOGS, msgspec.structs.replace(TEMP, folders=("/var/linked",))])
    reading = probe(place.cleaner).read(place.host, now())
    (refused,) = (fact for fact in reading.facts if fact.name.startswith("cleanable.refused."))
    assert "symbolic link" in str(refused.value)


def test_mounts_are_called_as_the_disk_probe_calls_them() -> None:
    points = [("/", "/dev/vda"), ("/var", "/dev/vdb"), ("/data/var", "/dev/vdb"), ("/tmp", "tmpfs"), ("/varnish", "tmpfs")]
    assert [mount_of(folder, points) for folder in ("/var/log", "/data/var/x", "/tmp", "/varnish/x", "/opt")] == [
        "/var",
        "/var",
        "/tmp",
        "/varnish",
        "/",
    ]


@pytest.mark.parametrize(
    ("category", "named", "not_named"),
    [
        (
            "package-cache",
            ["/var/cache/apt/archives/a_1%3a2.deb", "/var/cache/dnf/f/packages/x.rpm"],
            ["/var/cache/apt/pkgcache.bin"],
        ),
        ("journal", ["/var/log/journal/ab12/system@00-01.journal"], ["/var/log/journal/ab12/system.journal"]),
        (
            "rotated-logs",
            ["/var/log/nginx/access.log.2.gz", "/var/log/syslog.1"],
            ["/var/log/syslog", "/var/log/audit/audit.log.1"],
        ),
        (
            "plain-logs",
            ["/var/log/a.log.1", "/var/log/messages-20250101"],
            ["/var/log/a.log", "/var/log/wtmp.1", "/var/log/a.log.1.gz"],
        ),
        ("temporary", ["/tmp/big"], ["/tmp/sub/big", "/tmp/systemd-private-x", "/tmp/.X11-unix"]),
        ("core-dumps", ["/var/lib/systemd/coredump/core.x.zst"], ["/var/lib/systemd/other"]),
    ],
)
def test_the_shipped_rules_name_what_they_mean(category: str, named: list[str], not_named: list[str]) -> None:
    assert all(names(SHIPPED[category], path.encode()) for path in named)
    assert not any(names(SHIPPED[category], path.encode()) for path in not_named)


def test_what_is_young_or_sparse_stays(place: Place) -> None:
    path = place.real(place.file("/var/log/a.log.1", age_s=40 * DAY_S))
    old = msgspec.structs.replace(LOGS, min_age_s=30.0 * DAY_S)
    assert "changed" in objection(old, os.stat(path), time.time(), Readings()), "its times were set back just now"
    assert objection(old, os.stat(path), time.time() + 31 * DAY_S, Readings()) == ""
    os.truncate(path, 1 << 30)
    assert found(place, "quarantine") == []


@pytest.mark.parametrize(
    "folder", ["/", "/var", "/etc", "/etc/x", "/home/ann", "/usr/share", "var/log", "/var/../etc", "/var//log", "/proc"]
)
def test_no_rule_may_name_the_system_or_people(folder: str) -> None:
    assert list(problems(CleaningRule("bad", folders=(folder,), names=("*",))))


def test_the_shipped_rules_are_sound() -> None:
    assert all(not list(problems(rule)) for rule in SHIPPED.values()) and len(SHIPPED) >= 6
    assert list(problems(CleaningRule("bad", folders=("/srv/x",), names=("*",), depth=9, min_age_s=-1.0)))


def test_one_that_is_compressed_already_is_no_candidate(place: Place) -> None:
    place.cleaner.rule_by([PACK, msgspec.structs.replace(PACK, category="gz", names=("*.gz",))])
    place.file("/var/log/a.log.1")
    place.file("/var/log/a.log.1.gz")
    assert found(place, "compress") == []


def test_what_would_hardly_get_smaller_is_no_candidate(place: Place) -> None:
    place.file("/var/log/noise.log.1", os.urandom(200_000))
    place.file("/var/log/words.log.1", b"GET /index.html 200\n" * 10_000)
    assert found(place, "compress") == ["/var/log/words.log.1"]


def test_what_was_tried_in_vain_does_not_stand_before_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.file("/tmp/a", b"x" * 100)
    place.file("/tmp/b", b"x" * 10)
    assert found(place, "quarantine") == ["/tmp/a", "/tmp/b"]
    target = place.cleaner.candidates("quarantine", "mount:/")[0]
    with open(place.real("/tmp/a"), "rb"), pytest.raises(SteadError):
        place.move(target, "quarantine")
    assert found(place, "quarantine") == ["/tmp/b"]
    later = time.monotonic() + 2 * DAY_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert found(place, "quarantine") == ["/tmp/a", "/tmp/b"]
    assert place.cleaner._failed == {}, "nothing is remembered for ever"


def test_what_the_policy_protects_is_no_candidate(place: Place) -> None:
    place.file("/tmp/a")
    place.file("/var/log/b.log.1")
    place.file("/var/log/c.log.1")
    place.cleaner.protected = ("file:/tmp/*", "/var/log/b*")
    assert found(place, "quarantine") == ["/var/log/c.log.1"]


def test_a_look_never_stands_in_the_way_of_a_move(place: Place) -> None:
    ended, looks = threading.Event(), 0

    def look_for_ever() -> None:
        nonlocal looks
        while not ended.is_set():
            place.cleaner.found = None
            place.cleaner.refresh(now())
            looks += 1

    paths = [place.file(f"/var/log/a{number}.log.1") for number in range(4)]
    thread = threading.Thread(target=look_for_ever)
    thread.start()
    try:
        for path in paths * 10:
            for want, inode in (("compressed", False), ("quarantine", True)):
                target = place.target(path, inode=inode)
                place.move(target, want)
                place.move(target, "here")
    finally:
        ended.set()
        thread.join()
    assert looks > 2


def test_while_one_look_hangs_the_others_have_what_was_found_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "PATIENCE_S", 0.01)
    place.file("/tmp/a")
    place.cleaner._scanning.acquire()
    with pytest.raises(BlockingIOError, match="hangs"):
        place.cleaner.refresh(now())
    place.cleaner._scanning.release()
    before = place.cleaner.refresh(now())
    place.cleaner.touched(place.target("/tmp/a"))
    place.cleaner._scanning.acquire()
    assert place.cleaner.refresh(now()) is before
    place.cleaner._scanning.release()
    assert place.cleaner.refresh(now()) is not before


def test_each_file_is_counted_once_and_by_the_rule_that_will_be_asked(place: Place) -> None:
    old = msgspec.structs.replace(LOGS, category="old", min_age_s=DAY_S, folders=("/var/log/app", "/var/log"))
    place.cleaner.rule_by([old, msgspec.structs.replace(LOGS, folders=("/var/log", "/var/log/app"))])
    place.file("/var/log/app/a.log.1")
    assert found(place, "quarantine") == [], "the first rule that names it does not let it go yet"
    place.cleaner.rule_by([msgspec.structs.replace(old, min_age_s=0.0)])
    assert found(place, "quarantine") == ["/var/log/app/a.log.1"]
    assert place.cleaner.found is not None and [one.files for one in place.cleaner.found.cleanable] == [1]


def test_what_lies_in_a_quarantine_is_no_candidate(place: Place) -> None:
    everything = msgspec.structs.replace(TEMP, folders=("/var/log",), depth=3, quarantine_in="/var/log")
    place.cleaner.rule_by([everything])
    place.move(place.target(place.file("/var/log/a")), "quarantine")
    place.file("/var/log/b")
    assert found(place, "quarantine") == ["/var/log/b"] and len(place.names("/var/log/.stead-quarantine")) == 2
    (key,) = (name for name in place.names("/var/log/.stead-quarantine") if not name.endswith(".json"))
    seen = place.cleaner.look(place.target(f"/var/log/.stead-quarantine/{key}"))
    assert seen is not None and dict(seen.objections)["quarantine"] == "no rule of the allow-list names it"
