"""Files that are whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stead.ledger import durable


def test_a_file_is_replaced_whole_with_its_directories_and_its_mode(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "file"
    durable.put(place, b"one")
    assert (place.read_bytes(), stat.S_IMODE(place.stat().st_mode)) == (b"one", 0o644)
    durable.put(place, b"two", 0o600)
    assert (place.read_bytes(), stat.S_IMODE(place.stat().st_mode)) == (b"two", 0o600)
    assert [path.name for path in place.parent.iterdir()] == ["file"]


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "file"
    durable.put(place, b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        durable.put(place, b"two")
    assert place.read_bytes() == b"one" and list(tmp_path.iterdir()) == [place]


def test_files_and_their_directories_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.add(os.readlink(f"/proc/self/fd/{fd}")))
    paths = [tmp_path / "a" / name for name in ("x", "y")]
    for path in paths:
        durable.put(path, b"")
    durable.settle(paths)
    assert {str(path) for path in paths} | {str(tmp_path / "a"), str(tmp_path)} <= synced
