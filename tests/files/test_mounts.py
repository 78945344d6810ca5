"""What a time of access is worth, by how the file system is mounted, and what a rule that needs it does without."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from stead.files.mounts import Readings, readings
from stead.files.way import mount_of
from stead.model.cleaning import CleaningRule
from stead.model.errors import SteadError
from stead.probes.cleanable import probe
from tests.files.kit import DAY_S, TEMP, Place, now

UNREAD = msgspec.structs.replace(TEMP, unread=True, min_age_s=2.0 * DAY_S)
OTHER = CleaningRule("other", folders=("/tmp",), names=("*.old",), min_age_s=0.0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, OTHER, UNREAD)


def told(place: Place) -> Readings:
    descriptor = os.open(place.root, os.O_RDONLY)
    try:
        return readings(place.host, mount_of(descriptor))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("options", "type_", "more", "expected"),
    [
        ("rw,relatime", "ext4", "rw", Readings("", DAY_S)),
        ("rw", "ext4", "rw", Readings()),
        ("rw,relatime", "xfs", "rw,lazytime", Readings("", DAY_S, DAY_S)),
        ("rw,noatime", "ext4", "rw", Readings("/ is mounted with noatime, so when a file was last read is not known")),
        ("rw,relatime", "nfs4", "rw", Readings("a file system of type nfs4 may not say when a file was last read")),
        ("rw,relatime", "overlay", "rw", Readings("a file system of type overlay may not say when a file was last read")),
    ],
)
def test_what_a_mount_tells(place: Place, options: str, type_: str, more: str, expected: Readings) -> None:
    place.mounted(options, type_=type_, more=more)
    assert told(place) == expected


def test_what_others_see_counts_too(place: Place) -> None:
    place.mounted("rw,noatime", table="1")
    assert "noatime" in told(place).unknown, "who reads there renews nothing here"
    place.mounted("rw,relatime", table="1")
    assert told(place) == Readings("", DAY_S)
    (place.root / "proc/self/mountinfo").unlink()
    assert told(place).unknown == "its mount is not known"


def times(read: float, written: float, moved: float) -> os.stat_result:
    """A file's times, in days."""
    return os.stat_result((0o100600, 1, 1, 1, 0, 0, 1, read * DAY_S, written * DAY_S, moved * DAY_S))


@pytest.mark.parametrize(
    ("told_of", "read", "written", "moved", "last"),
    [
        (Readings(), 5, 1, 2, 5),
        (Readings("", DAY_S), 5, 1, 2, 6),
        (Readings("", DAY_S), 1, 1, 2, 2),
        (Readings("", DAY_S, DAY_S), 5, 1, 2, 7),
        (Readings("", 0.0, DAY_S), 2, 1, 2, 3),
        (Readings("", DAY_S), 1, 9, 2, 9),
    ],
)
def test_the_latest_reading_that_can_have_been(told_of: Readings, read: int, written: int, moved: int, last: int) -> None:
    assert told_of.last_s(times(read, written, moved)) == last * DAY_S


def test_without_it_the_rule_names_no_file_and_says_so(place: Place) -> None:
    place.file("/tmp/a.bin", b"x" * 100)
    place.file("/tmp/b.old", b"x" * 10)
    place.mounted("rw,noatime")
    reading = probe(place.cleaner).read(place.host, now())
    facts = {fact.name: fact.value for fact in reading.facts}
    assert facts.keys() == {"cleanable.other", "cleanable.refused./tmp"} and facts["cleanable.other"] == 10
    assert "the rule temp names no file: / is mounted with noatime" in str(facts["cleanable.refused./tmp"])
    with pytest.raises(SteadError, match="noatime"):
        place.move(place.target("/tmp/a.bin"), "quarantine")
    place.move(place.target("/tmp/b.old"), "quarantine")


def test_a_day_is_added_where_a_reading_is_told_once_a_day(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.real(place.file("/tmp/a.bin"))
    file = os.stat(path)
    os.utime(path, ns=(file.st_mtime_ns + DAY_S * 10**9, file.st_mtime_ns))
    target = place.target("/tmp/a.bin")
    for days, why in ((2.5, "read or changed"), (3.5, "read or changed"), (4.5, "")):
        monkeypatch.setattr("time.time", lambda later=file.st_mtime + days * DAY_S: later)
        found = place.cleaner.look(target)
        assert (
            found is not None
            and why in dict(found.objections).get("quarantine", "")
            and bool(why) == bool(dict(found.objections).get("quarantine"))
        )
