"""Keys on a disk that fails: whatever turns out to be durable, its secret is there, and no name is given twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stead.ledger.connect import Connection
from stead.ledger.key_files import KeyFiles
from stead.ledger.keys import KeyRing
from stead.model.errors import SteadError
from stead.tlog.keys import parse_vkey
from tests.ledger.kit import ANN, Watched, check_log, failure, note, opened, signed_by


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


@pytest.mark.parametrize("error", [SteadError("a secret is gone", code="test.no"), ValueError("no key"), OSError(5, "EIO")])
async def test_a_rotation_that_is_durable_is_not_reported_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = opened(tmp_path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(KeyRing, "adopt", fail)
    store.after_commit = fail
    new = (await store.rotate_key(ANN)).text
    assert [entry.seq for entry in await store.commit([note()])] == [2] and store.trouble == ""
    assert (tmp_path / "keys" / f"{parse_vkey(new).id.hex()}.key").exists(), "what signs from now on must not be thrown away"
    monkeypatch.undo()
    store.close()
    store = opened(tmp_path)
    await store.commit([note()])
    assert store.vkeys()[0] == new and signed_by(store.checkpoint, new) and store.size == 3
    check_log(store)
    store.close()
