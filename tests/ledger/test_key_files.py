"""Keys on a disk that fails: whatever turns out to be durable, its secret is there, and no name is given twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stead.ledger.connect import Connection
from stead.ledger.key_files import KeyFiles
from stead.model.errors import SteadError
from tests.ledger.kit import ANN, Watched, check_log, failure, note, opened


class Unsure:
    """Opens connections whose next COMMIT fails although it is durable, as when a sync fails; after it nothing opens."""

    def __init__(self) -> None:
        self.fails = self.gone = False

    def __call__(self, path: Path) -> Connection:
        if self.gone:
            raise failure(sqlite3.SQLITE_IOERR)
        watched = Watched(self._before)
        self._db = watched(path)
        return self._db

    def _before(self, sql: str) -> None:
        if sql == "COMMIT" and self.fails:
            self.fails, self.gone = False, True
            self._db.execute("COMMIT")
            raise failure(sqlite3.SQLITE_IOERR)


def test_a_first_commit_that_fails_and_is_durable_keeps_its_key(tmp_path: Path) -> None:
    disk = Unsure()
    disk.fails = True
    with pytest.raises(SteadError, match="disk failed"):
        opened(tmp_path, connect=disk)
    store = opened(tmp_path)
    check_log(store)
    store.close()


async def test_a_rotation_that_fails_and_is_durable_keeps_its_key(tmp_path: Path) -> None:
    disk = Unsure()
    store = opened(tmp_path, connect=disk)
    disk.fails = True
    with pytest.raises(SteadError, match="disk failed"):
        await store.rotate_key(ANN)
    disk.gone = False
    await store.commit([note()])
    assert len(store.vkeys()) == 2
    check_log(store)
    store.close()


def test_a_public_half_that_a_crash_cut_off_is_written_anew(tmp_path: Path) -> None:
    """Else the log would count as one that never was here, and its name could be given to another."""
    opened(tmp_path).close()
    (public,) = (tmp_path / "keys").glob("*.vkey")
    public.write_bytes(b"host1/led")
    opened(tmp_path).close()
    assert KeyFiles(tmp_path / "keys").origins() == {"host1/ledger"}
