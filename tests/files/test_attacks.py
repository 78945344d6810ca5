"""Whoever can write beside a file must not make stead touch another: links, exchanged folders, files that just changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stead.files import openers, packing, quarantine
from stead.model.errors import SteadError
from tests.files.kit import DAY_S, LOGS, PACK, Place, everything, now

SECRET = b"root:secret\n" * 10_000


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def victim(place: Place) -> Path:
    """A file outside the list that nothing here may touch."""
    path = place.root / "etc/shadow.log.1"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


def refused(place: Place, path: bytes) -> str:
    """Why it can't be quarantined, as a look says."""
    found = place.cleaner.look(place.target(path))
    return "" if found is None else dict(found.objections).get("quarantine", "")


def test_a_link_at_the_end_is_no_file(place: Place, victim: Path) -> None:
    os.symlink(victim, place.real("/var/log/x.log.1"))
    target = place.target(b"/var/log/x.log.1")
    assert place.cleaner.look(target) is None
    with pytest.raises(FileNotFoundError):
        place.move(target, "quarantine")
    assert victim.read_bytes() == SECRET


def test_a_link_on_the_way_is_not_followed(place: Place, victim: Path) -> None:
    os.symlink(victim.parent, place.real("/var/log/app"))
    found = victim.stat()
    target = place.target(b"/etc/shadow.log.1")
    there = type(target)("file", "/var/log/app/shadow.log.1", target.identity)
    assert found.st_size == len(SECRET)
    for want in ("quarantine", "compressed"):
        with pytest.raises(SteadError, match="symbolic link"):
            place.move(there, want)
    assert victim.read_bytes() == SECRET and victim.stat().st_ino == found.st_ino


def test_a_hard_link_is_refused(place: Place, victim: Path) -> None:
    os.link(victim, place.real("/var/log/x.log.1"))
    assert "hard links" in refused(place, b"/var/log/x.log.1")
    with pytest.raises(SteadError):
        place.move(place.target(b"/var/log/x.log.1"), "quarantine")
    assert victim.stat().st_nlink == 2 and place.names() == set()


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))], ids=["pipe", "device"]
)
def test_what_is_no_file_is_not_even_opened(place: Place, make: Callable[[bytes], None]) -> None:
    if os.geteuid() != 0:
        pytest.skip("making a device needs root")
    with contextlib.suppress(PermissionError):
        make(place.real("/var/log/x.log.1"))
        assert place.cleaner.look(place.target(b"/var/log/x.log.1")) is None


@pytest.mark.parametrize("path", ["/etc/shadow.log.1", "/var/log/../../etc/shadow.log.1", "/var/log/app.conf"])
def test_what_no_rule_names_is_left_alone(place: Place, victim: Path, path: str) -> None:
    place.file("/var/log/app.conf")
    try:
        found = place.cleaner.look(type(place.target(b"/etc/shadow.log.1"))("file", path, place.target(path.encode()).identity))
        assert found is not None
        assert dict(found.objections) == dict.fromkeys(("quarantine", "compress"), "no rule of the allow-list names it")
    except SteadError as error:
        assert ".." in path and "one form" in str(error)


def test_a_folder_of_another_user_is_refused(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    path = place.file("/var/log/app/x.log.1")
    target = place.target(path)
    os.chown(place.real("/var/log/app"), 1234, -1)
    for want in ("quarantine", "compressed"):
        with pytest.raises(SteadError, match="belongs to uid 1234"):
            place.move(target, want)
    assert "belongs to uid 1234" in refused(Place(place.root), path)


@pytest.mark.parametrize("left", ["off", "gone"])
@pytest.mark.parametrize("want", ["quarantine", "compressed"])
def test_what_a_rule_took_comes_back_without_it(place: Place, want: str, left: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    path = place.file("/var/log/app/x.log.1")
    target, before = place.target(path, inode=want == "quarantine"), everything(place.real(path))
    os.chown(place.real("/var/log/app"), 65534, -1)
    rules = [msgspec.structs.replace(rule, owners=("nobody",)) for rule in (LOGS, PACK)]
    place.cleaner.rule_by(rules)
    place.move(target, want)
    assert place.place(target) == want
    place.cleaner.rule_by([msgspec.structs.replace(rule, enabled=False) for rule in rules] if left == "off" else [])
    assert place.place(target) == want
    place.move(target, "here")
    assert everything(place.real(path)) == before and place.names() == set()
    with pytest.raises(SteadError, match="no rule of the allow-list names it"):
        place.move(target, want)


@pytest.mark.parametrize("made", [False, True], ids=["by-us", "at-boot"])
def test_what_is_held_without_a_rule_is_listed_still(place: Place, made: bool) -> None:
    if made:
        os.mkdir(place.real("/var/.stead-quarantine"), 0o700)
    target = place.target(place.file("/var/log/x.log.1"))
    place.move(target, "quarantine")
    place.cleaner.rule_by([])
    (held,) = place.cleaner.refresh(now()).held
    assert held.target == target and held.item.due_ms - held.item.at_ms == 7 * DAY_S * 1000


@contextlib.contextmanager
def opened(path: bytes, how: str) -> Iterator[None]:
    """Another process, or this one, has it open."""
    if how == "mapped":
        with open(path, "r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        yield
        mapped.close()
        return
    code = f"import sys; f = open(sys.argv[1], {how!r}); print(flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-S", "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None and other.stdout is not None
    other.stdout.readline()
    yield
    other.stdin.close()
    other.wait()
    other.stdout.close()


@pytest.mark.parametrize("how", ["rb", "ab", "mapped"])
def test_an_open_file_is_left_alone(place: Place, how: str) -> None:
    path = place.file("/var/log/x.log.1")
    target = place.target(path)
    with opened(place.real(path), how):
        assert "it is open" in refused(place, path)
        if how != "mapped":
            assert "python" in refused(place, path)
        for want in ("quarantine", "compressed"):
            with pytest.raises(SteadError, match="it is open"):
                place.move(target, want)
    assert place.names() == set() and refused(place, path) == ""
    assert os.listdir(place.real("/var/log")) == [b"x.log.1"]


def test_one_that_was_written_meanwhile_is_another(place: Place) -> None:
    path = place.file("/var/log/x.log.1")
    target = place.target(path)
    with open(place.real(path), "ab") as file:
        file.write(b"more")
    assert place.cleaner.look(target) is None
    with pytest.raises(FileNotFoundError):
        place.move(target, "compressed")


def swap_on(monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], None], *, after: bool = False) -> None:
    """Do something in the very moment in which a function is called, once."""
    real, done = getattr(module, name), []

    def called(*args: object, **more: object) -> object:
        result = real(*args, **more) if after else None
        if not done:
            done.append(True)
            act()
        return result if after else real(*args, **more)

    monkeypatch.setattr(module, name, called)


def test_a_file_that_is_exchanged_before_the_rename_comes_back(
    place: Place, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.file("/var/log/x.log.1")
    target, real = place.target(path), place.real(path)

    def exchange() -> None:
        os.unlink(real)
        os.rename(victim, real)

    swap_on(monkeypatch, quarantine, "rename", exchange)
    with pytest.raises(SteadError, match="another file was put in its place"):
        place.move(target, "quarantine")
    with open(real, "rb") as file:
        assert file.read() == SECRET, "it is where whoever exchanged it had put it"
    assert place.names() == set()


def test_a_folder_that_is_exchanged_for_a_link_does_not_mislead(
    place: Place, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.file("/var/log/app/shadow.log.1")
    target = place.target(path)

    def exchange() -> None:
        os.rename(place.real("/var/log/app"), place.real("/var/log/old"))
        os.symlink(victim.parent, place.real("/var/log/app"))

    swap_on(monkeypatch, quarantine, "rename", exchange)
    place.move(target, "quarantine")
    assert victim.read_bytes() == SECRET and os.listdir(place.real("/var/log/old")) == []
    with pytest.raises(SteadError, match="symbolic link"):
        place.move(target, "here")
    assert victim.read_bytes() == SECRET and place.names() != set()


@pytest.mark.parametrize("what", ["written", "opened", "exchanged"])
def test_a_compression_that_was_overtaken_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path = place.file("/var/log/x.log.1")
    target, real = place.target(path, inode=False), place.real(path)
    kept = []

    def overtake() -> None:
        if what == "exchanged":
            os.unlink(real)
        with open(real, "ab") as file:
            if what != "opened":
                file.write(b"new line\n")
            kept.append(os.dup(file.fileno()) if what == "opened" else None)

    swap_on(monkeypatch, packing, "_make", overtake, after=True)
    with pytest.raises(SteadError):
        place.move(target, "compressed")
    with open(real, "rb") as file:
        assert file.read().endswith(b"line\n"), "the newest is at its path"
    for one in kept:
        if one is not None:
            os.close(one)
    assert place.names() == set() and os.listdir(place.real("/var/log")) == [b"x.log.1"], "no stale copy stays beside it"


def test_a_file_that_is_opened_in_the_very_moment_of_the_move_comes_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    target, kept = place.target(path := place.file("/var/log/x.log.1")), []
    swap_on(monkeypatch, quarantine, "rename", lambda: kept.append(os.open(place.real(path), os.O_WRONLY | os.O_APPEND)))
    with pytest.raises(SteadError, match="open"):
        place.move(target, "quarantine")
    os.write(kept[0], b"new line\n")
    os.close(kept[0])
    with open(place.real(path), "rb") as file:
        assert file.read().endswith(b"new line\n"), "who had it open writes where people look"
    assert place.names() == set()


def test_a_compression_that_is_written_to_in_its_last_moment_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    target, kept = place.target(path := place.file("/var/log/x.log.1"), inode=False), []
    swap_on(monkeypatch, quarantine, "rename", lambda: kept.append(os.open(place.real(path), os.O_WRONLY | os.O_APPEND)))
    real = quarantine.opener

    def late(descriptor: int, *, fresh: bool = True) -> str:
        for one in kept:  # it is written, and closed, before anybody can see that it was open
            os.write(one, b"new line\n")
            os.close(one)
        kept.clear()
        return real(descriptor, fresh=fresh)

    monkeypatch.setattr(quarantine, "opener", late)
    with pytest.raises(SteadError):
        place.move(target, "compressed")
    with open(place.real(path), "rb") as file:
        assert file.read().endswith(b"new line\n"), "the newest is at its path"
    assert place.names() == set() and os.listdir(place.real("/var/log")) == [b"x.log.1"]


def test_the_quarantine_itself_can_not_be_prepared_by_others(place: Place, victim: Path) -> None:
    target = place.target(place.file("/var/log/x.log.1"))
    os.symlink(victim.parent, place.real("/var/.stead-quarantine"))
    with pytest.raises(SteadError, match="something else has the quarantine's name"):
        place.move(target, "quarantine")
    os.unlink(place.real("/var/.stead-quarantine"))
    os.mkdir(place.real("/var/.stead-quarantine"), 0o777)
    os.chmod(place.real("/var/.stead-quarantine"), 0o777)
    with pytest.raises(SteadError, match="not stead's alone"):
        place.move(target, "quarantine")
    assert os.path.exists(place.real("/var/log/x.log.1"))
    os.chmod(place.real("/var/.stead-quarantine"), 0o700)
    if os.geteuid() == 0:
        os.chown(place.real("/var/.stead-quarantine"), 1234, -1)
        with pytest.raises(SteadError, match="not stead's alone"):
            place.move(target, "quarantine")
        os.chown(place.real("/var/.stead-quarantine"), 0, -1)
    place.move(target, "quarantine")
    os.mkdir(place.real("/var/log/.stead-quarantine"))
    if os.geteuid() == 0:
        os.chown(place.real("/var/log/.stead-quarantine"), 1234, -1)
    assert place.place(target) == "quarantine", "one that others put in the way does not hide it"
    os.chmod(place.real("/var/.stead-quarantine"), 0o755)
    with pytest.raises(SteadError, match="not stead's alone"):
        place.cleaner.look(target)


def test_a_storm_of_exchanges_never_reaches_another_file(tmp_path: Path) -> None:
    place = Place(tmp_path, LOGS, PACK)
    outside = place.root / "etc"
    outside.mkdir()
    folder, link = place.real("/var/log/app"), place.real("/var/log/link")
    os.mkdir(folder)
    os.symlink(outside, link)
    ended = threading.Event()

    def storm() -> None:
        spare = folder + b".spare"
        while not ended.is_set():
            with contextlib.suppress(OSError):
                os.rename(folder, spare)
                os.rename(link, folder)
                os.rename(folder, link)
                os.rename(spare, folder)

    for number in range(40):
        (outside / f"f{number}.log.1").write_bytes(SECRET)
        os.utime(outside / f"f{number}.log.1", ns=(10**18, 10**18))
    attacker = threading.Thread(target=storm)
    attacker.start()
    moved = 0
    try:
        for number in range(40):
            name = f"f{number}.log.1"
            there = place.target(f"/etc/{name}", inode=False)
            mine = type(there)("file", f"/var/log/app/{name}", {**there.identity, "inode": str(os.stat(outside / name).st_ino)})
            for want in ("quarantine", "compressed"):
                with contextlib.suppress(SteadError, OSError):
                    place.move(mine, want)
                    moved += 1
    finally:
        ended.set()
        attacker.join()
    assert moved == 0 and all((outside / f"f{number}.log.1").read_bytes() == SECRET for number in range(40))
    assert len(os.listdir(outside)) == 40


class NoLease:
    """A file system that has no leases, or a unit that lacks CAP_LEASE."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, fd: int, command: int, *rest: object) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(self.number, os.strerror(self.number))
        return 0


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES])
def test_without_leases_proc_is_searched(place: Place, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(openers.fcntl, "fcntl", NoLease(number))
    path = place.file("/var/log/x.log.1")
    target = place.target(path)
    if os.geteuid() != 0:
        assert "can't be told here" in refused(place, path)
        return
    assert refused(place, path) == ""
    with opened(place.real(path), "ab"):
        with pytest.raises(SteadError, match=r"it is open: python\S* \(pid \d+\) has it"):
            place.move(target, "quarantine")
    place.move(target, "quarantine")
    assert place.place(target) == "quarantine"
