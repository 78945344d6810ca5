"""Quarantine, compression and their ways back on a real file system: what comes back is what went."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest

from stead.files.gz import read_head
from stead.files.paths import meant, shown
from stead.files.places import Places
from stead.files.way import open_way
from stead.model.errors import SteadError
from tests.files.kit import LOGS, TEMP, Place, everything, now

ODD = b"/var/log/n\xc3\xa4me \xff\x01%41\n.log.1"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def dressed(place: Place, path: bytes) -> None:
    """A file with everything that can be lost."""
    real = place.real(path)
    os.chmod(real, 0o4640)
    os.setxattr(real, "user.note", b"\x00kept")
    os.utime(real, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
        os.chmod(real, 0o4640)


@pytest.mark.parametrize("path", [b"/var/log/app.log.1", ODD, b"/var/log/app/deep/x.log.2"])
def test_quarantine_and_back_is_the_same_file(place: Place, path: bytes) -> None:
    place.file(path)
    dressed(place, path)
    before, inode = everything(place.real(path)), os.stat(place.real(path)).st_ino
    target = place.target(path)
    place.move(target, "quarantine")
    assert place.place(target) == "quarantine" and not os.path.lexists(place.real(path))
    place.move(target, "here")
    assert everything(place.real(path)) == before and os.stat(place.real(path)).st_ino == inode
    assert place.place(target) == "here" and place.names() == set()


@pytest.mark.parametrize("path", [b"/var/log/app.log.1", ODD])
def test_compressed_and_back_is_the_same_in_all_that_counts(place: Place, path: bytes) -> None:
    place.file(path, os.urandom(64) * 5000)
    dressed(place, path)
    before = everything(place.real(path))
    target = place.target(path, inode=False)
    place.move(target, "compressed")
    packed = place.real(path + b".gz")
    assert place.place(target) == "compressed" and not os.path.lexists(place.real(path))
    assert stat.S_IMODE(os.stat(packed).st_mode) == 0o4640 and os.getxattr(packed, "user.note") == b"\x00kept"
    with gzip.open(packed) as plain:
        assert plain.read() == before[0], "any gunzip reads it"
    place.move(target, "here")
    assert everything(place.real(path)) == before
    assert not os.path.lexists(packed) and place.names() == set() and place.place(target) == "here"


def test_an_empty_gain_is_no_gain(place: Place) -> None:
    path = place.file("/var/log/noise.log.1", os.urandom(300_000))
    with pytest.raises(SteadError, match="hardly gets smaller"):
        place.move(place.target(path, inode=False), "compressed")
    assert set(os.listdir(place.real("/var/log"))) == {b"noise.log.1"} and place.names() == set()


def test_purged_is_gone_and_says_what_became_free(place: Place) -> None:
    path = place.file("/var/log/app.log.1", os.urandom(1 << 20))
    target = place.target(path)
    place.move(target, "quarantine")
    place.notes.clear()
    place.move(target, None)
    assert place.cleaner.look(target) is None and place.names() == set()
    assert place.notes == [note for note in place.notes if "by statvfs" in note] and "1048576 bytes" in place.notes[0]


def test_only_what_is_in_quarantine_is_purged(place: Place) -> None:
    target = place.target(place.file("/var/log/app.log.1"))
    with pytest.raises(SteadError, match="can't go away for good"):
        place.move(target, None)
    assert place.place(target) == "here"


def test_what_lies_beside_says_where_it_came_from(place: Place) -> None:
    target = place.target(place.file(ODD))
    place.move(target, "quarantine")
    (origin,) = (name for name in place.names() if name.endswith(".json"))
    assert shown(ODD) in (place.root / "var/.stead-quarantine" / origin).read_text()


def test_something_else_at_the_path_is_never_replaced(place: Place) -> None:
    path = place.file("/var/log/app.log.1")
    target = place.target(path)
    place.move(target, "quarantine")
    place.file(path, b"another")
    with pytest.raises(SteadError, match="something else is at its path"):
        place.move(target, "here")
    assert (place.root / "var/log/app.log.1").read_bytes() == b"another" and place.place(target) == "quarantine"


def test_a_compressed_file_of_anothers_is_never_replaced(place: Place) -> None:
    path = place.file("/var/log/app.log.1")
    place.file("/var/log/app.log.1.gz", b"theirs")
    with pytest.raises(SteadError, match="a file of that name already"):
        place.move(place.target(path, inode=False), "compressed")
    assert (place.root / "var/log/app.log.1.gz").read_bytes() == b"theirs" and os.path.exists(place.real(path))


def test_a_damaged_compressed_file_is_found_out(place: Place) -> None:
    path = place.file("/var/log/app.log.1")
    target = place.target(path, inode=False)
    place.move(target, "compressed")
    packed = place.real(path + b".gz")
    with open(packed, "r+b") as file:
        head = read_head(file.fileno())
        assert head is not None
        file.seek(head[1] + 30)
        file.write(b"\xff\xff\xff\xff\xff")
    with pytest.raises(SteadError, match="damaged"):
        place.move(target, "here")
    assert os.path.exists(packed) and not os.path.exists(place.real(path)), "nothing is made of what can't be trusted"


def test_stopped_in_the_middle_leaves_nothing(place: Place) -> None:
    path = place.file("/var/log/app.log.1", b"line\n" * 2_000_000)
    asked = iter([False, True])
    with pytest.raises(InterruptedError):
        place.cleaner.move(place.target(path, inode=False), "compressed", place.notes.append, lambda: next(asked))
    assert set(os.listdir(place.real("/var/log"))) == {b"app.log.1"} and place.names() == set()


@pytest.mark.parametrize("name", ["relative", "/a//b", "/a/../b", "/a/%2F", "/a/%ff", "/a/%41", "/a/\udcff", "/a/"])
def test_each_path_has_one_name(name: str) -> None:
    with pytest.raises(SteadError, match="one form"):
        meant(name)


def test_names_survive_being_shown() -> None:
    for path in (ODD, b"/a/b c", "/tmp/π‮x".encode(), b"/" + bytes(range(1, 47)) + bytes(range(48, 256))):
        assert meant(shown(path)) == path and shown(path).isprintable()


@pytest.mark.parametrize("want", ["quarantine", "compressed"])
def test_a_file_that_can_not_be_changed_is_left_and_said(place: Place, want: str) -> None:
    path = place.file("/var/log/app.log.1")
    real = place.real(path).decode()
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", real], capture_output=True).returncode != 0:
        pytest.skip("no immutable files here")
    try:
        with pytest.raises(PermissionError):
            place.move(place.target(path, inode=want == "quarantine"), want)
    finally:
        subprocess.run(["chattr", "-i", real], check=True)
    assert os.listdir(place.real("/var/log")) == [b"app.log.1"] and place.names() == set()


def test_on_another_file_system_the_quarantine_is_there(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev or not os.access(shm, os.W_OK):
        pytest.skip("no second file system that can be written")
    with tempfile.TemporaryDirectory(dir=shm) as other:
        path, places = os.fsencode(f"{other}/x.log.1"), Places("", str(tmp_path))
        Path(other, "x.log.1").write_bytes(b"x" * 100)
        with open_way("", path, None) as way:
            assert places.place(way, b"/dev") == b"/dev/shm/.stead-quarantine", "the mount begins below what the rule says"
            assert places.place(way, os.fsencode(other)) == os.fsencode(other) + b"/.stead-quarantine"
            assert places.holding(way, b"/dev", b"x") is None and os.listdir(other) == ["x.log.1"], "it is not made by looking"


@pytest.mark.parametrize("want", ["quarantine", "compressed"])
def test_a_bind_mount_has_a_quarantine_of_its_own(place: Place, want: str) -> None:
    path = place.file("/var/log/bound/x.log.1")
    bound = place.real("/var/log/bound").decode()
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", bound, bound], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        before = everything(place.real(path))
        target = place.target(path, inode=want == "quarantine")
        place.move(target, want)
        assert place.place(target) == want and ".stead-quarantine" in os.listdir(bound)
        place.move(target, "here")
        assert everything(place.real(path)) == before and place.names("/var/log/bound/.stead-quarantine") == set()
    finally:
        subprocess.run(["umount", bound], check=True)
    assert place.names() == set()


def test_the_rule_is_asked_again_before_anything_moves(place: Place) -> None:
    log, temp = place.target(place.file("/var/log/app.log.1")), place.target(place.file("/tmp/a"))
    place.move(temp, "quarantine")
    place.cleaner.rule_by([msgspec.structs.replace(LOGS, min_bytes=1 << 30), TEMP])
    with pytest.raises(SteadError, match="the rule logs is for"):
        place.move(log, "quarantine")
    with pytest.raises(SteadError, match="no rule of the allow-list names it"):
        place.move(place.target("/var/log/app.log.1", inode=False), "compressed")
    with pytest.raises(SteadError, match=r"stays in quarantine for another 2\d"):
        place.move(temp, None)
    assert place.place(log) == "here" and place.place(temp) == "quarantine" and place.names() == set()
    place.cleaner.move(log, "quarantine", place.notes.append, lambda: False, back=True)
    assert place.place(log) == "quarantine", "an undo puts back what was, whatever the rules are by now"


def test_a_quarantine_that_could_not_be_used_is_said_before_anything_moves(place: Place) -> None:
    path = place.file("/var/log/app.log.1")
    target, above = place.target(path), place.real("/var").decode()
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", above], capture_output=True).returncode != 0:
        pytest.skip("no immutable folders here")
    try:
        found = place.cleaner.look(target)
        assert found is not None and all("can't be made" in why for _, why in found.objections) and len(found.objections) == 2
        assert "can't be made" in place.cleaner.refresh(now()).refused["/var/log"]
        for want in ("quarantine", "compressed"):
            with pytest.raises(SteadError, match="can't be made"):
                place.move(place.target(path, inode=want == "quarantine"), want)
    finally:
        subprocess.run(["chattr", "-i", above], check=True)
    assert os.listdir(place.real("/var/log")) == [b"app.log.1"]
    place.move(target, "quarantine")
    subprocess.run(["chattr", "+i", f"{above}/.stead-quarantine"], check=True)
    try:
        seen = place.cleaner.refresh(now())
        assert "nothing can be put back" in seen.refused["/var/.stead-quarantine"] and len(seen.held) == 1
    finally:
        subprocess.run(["chattr", "-i", f"{above}/.stead-quarantine"], check=True)
    place.move(target, "here")


def test_what_became_read_only_is_said_at_the_undo_and_goes_on_when_it_is_not(place: Place) -> None:
    path = place.file("/var/log/x.log.1")
    log, target = place.real("/var/log").decode(), place.target(path, inode=False)
    place.move(target, "compressed")
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", log, log], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", log], check=True)
        with pytest.raises(SteadError, match="ReadWritePaths"):
            place.move(target, "here")
        assert place.place(target) == "compressed"
    finally:
        subprocess.run(["umount", log], check=True)
    place.move(target, "here")
    assert place.place(target) == "here" and place.names() == set()


def test_what_is_read_only_is_said_beforehand(place: Place) -> None:
    path = place.file("/var/log/x.log.1")
    log = place.real("/var/log").decode()
    bind = ["mount", "--bind", log, log]
    if os.geteuid() != 0 or subprocess.run(bind, capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", log], check=True)
        found = place.cleaner.look(place.target(path))
        assert found is not None and "ReadWritePaths" in dict(found.objections)["quarantine"]
        seen = place.cleaner.refresh(now())
        assert "ReadWritePaths" in seen.refused["/var/log"] and not place.cleaner.candidates("quarantine", "mount:/")
    finally:
        subprocess.run(["umount", log], check=True)


def test_what_was_moved_under_other_mounts_is_still_found(place: Place) -> None:
    path = place.file("/var/log/app/x.log.1")
    target, log = place.target(path), place.real("/var/log").decode()
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", log, log], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        place.move(target, "quarantine")
        assert place.names("/var/log/.stead-quarantine") and place.names() == set()
    finally:
        subprocess.run(["umount", log], check=True)
    assert place.place(target) == "quarantine", "the mount is gone, the folder is not"
    assert [held.target for held in place.cleaner.refresh(now()).held] == [target]
    place.move(target, "here")
    assert os.path.exists(place.real(path)) and place.names("/var/log/.stead-quarantine") == set()
