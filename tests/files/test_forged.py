"""Whoever owns a compressed file can write what he likes into its head: an undo, which runs as root, must not do what it says."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.files import gz
from stead.model.errors import SteadError
from tests.files.kit import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


FORGED = {
    "owner": {"uid": 0, "mode": 0o4755},
    "mode": {"mode": 0o4755},
    "capability": {"xattrs": {"user.mine": b"forged"}},
    "size": {"size": 10},
}


@pytest.mark.parametrize("what", FORGED)
def test_what_comes_back_is_no_more_than_the_compressed_file_is(place: Place, what: str) -> None:
    path = place.file("/var/log/app/x.log.1")
    if os.geteuid() == 0:
        os.chown(place.real(path), 1234, 1234)
    target = place.target(path, inode=False)
    place.move(target, "compressed")
    forge(place.real(path + b".gz"), FORGED[what])
    if what == "capability":
        place.move(target, "here")
        assert os.listxattr(place.real(path)) == []
        return
    if what == "owner" and os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    with pytest.raises(SteadError, match="another owner or mode" if what != "size" else "not what stead made"):
        place.move(target, "here")
    assert not os.path.lexists(place.real(path)), "nothing is made of it"


def forge(path: bytes, head: dict[str, Any]) -> None:
    """Write another head, as whoever owns the compressed file can."""
    with open(path, "r+b") as file:
        found = gz.read_head(file.fileno())
        assert found is not None
        file.seek(found[1])
        rest = file.read()
        file.seek(0)
        file.truncate()
        file.write(gz._head(msgspec.structs.replace(found[0], **head)) + rest)


def test_a_bomb_writes_no_more_than_its_head_says(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.file("/var/log/x.log.1", b"x" * 5000)
    target, written = place.target(path, inode=False), []
    place.move(target, "compressed")
    with open(place.real(path + b".gz"), "r+b") as file:
        found = gz.read_head(file.fileno())
        assert found is not None
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        file.seek(found[1])
        file.write(deflate.compress(bytes(64 << 20)) + deflate.flush())
        file.truncate()
    real = gz._write
    monkeypatch.setattr(gz, "_write", lambda fd, data: (written.append(len(data)), real(fd, data)))
    with pytest.raises(SteadError, match="size or hash differs"):
        place.move(target, "here")
    assert sum(written) <= 5000


def test_a_compressed_form_that_was_there_before_is_not_believed(place: Place) -> None:
    path = place.file("/var/log/x.log.1")
    other = Place(place.root / "other")
    theirs = other.file("/var/log/x.log.1", b"evil\n" * 50_000)
    target = place.target(path, inode=False)
    other.move(other.target(theirs, inode=False), "compressed")
    os.rename(other.real(theirs + b".gz"), place.real(path + b".gz"))
    forge(place.real(path + b".gz"), {"identity": target.identity})
    place.move(target, "compressed")
    place.move(target, "here")
    with open(place.real(path), "rb") as file:
        assert file.read() == b"line\n" * 50_000
