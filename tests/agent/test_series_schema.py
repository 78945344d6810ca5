"""Opening `series.db`: newer, damaged, not writable, in use: each says what, where and what to do, and loses nothing."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from stead.agent.series_store import SeriesStore
from stead.model.errors import SteadError


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "series.db"
    SeriesStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SteadError, match="newer stead") as caught:
        SeriesStore(path)
    assert caught.value.problem.code == "store.newer"
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "series.db"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(SteadError, match="move the file away") as caught:
        SeriesStore(path)
    assert caught.value.problem.code == "store.damaged"


def test_a_directory_that_can_not_be_written_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(SteadError, match="can't be written") as caught:
                SeriesStore(Path(folder, "series.db"))
        finally:
            if root:
                os.seteuid(0)
        assert caught.value.problem.code == "store.read-only"


def test_there_is_one_writer(tmp_path: Path) -> None:
    first = SeriesStore(tmp_path / "series.db")
    with pytest.raises(SteadError, match="another stead agent") as caught:
        SeriesStore(tmp_path / "series.db")
    assert caught.value.problem.code == "store.in-use"
    first.close()
    SeriesStore(tmp_path / "series.db").close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    SeriesStore(tmp_path / "series.db").close()
    assert (tmp_path / "series.db").stat().st_mode & 0o777 == 0o600
