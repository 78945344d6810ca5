from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stead.ledger import state_lock
from stead.ledger.connect import CACHE_KIB, connect, read_only, secure
from stead.ledger.offline import open_offline
from stead.ledger.state_lock import StateLock
from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError
from stead.model.ledger_messages import SearchEntries
from stead.testing import FakeClock
from stead.tlog.merkle import check_inclusion, leaf_hash
from stead.tlog.strict import Malformed
from tests.ledger.kit import note, opened, signed_by, tree_hash
from tests.ledger.test_tables import first_release

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.ledger.kit import note, opened
async def main():
    store = opened(Path(sys.argv[1]))
    for _ in range(3):
        await store.commit([note("kept", bulk=b"beside") for _ in range(100)])
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def killed(place: Path) -> None:
    """A ledger of 300 entries whose agent was killed, so that its write-ahead log is still there."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(place)], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL and (place / "ledger.db-wal").stat().st_size > 0


def hashes(place: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.glob("ledger.db*")}


# -- the connection


def test_a_log_that_was_left_behind_is_written_to_a_new_file_before_it_is_read(tmp_path: Path) -> None:
    killed(tmp_path)
    log = tmp_path / "ledger.db-wal"
    before, left = log.stat().st_ino, log.read_bytes()
    (tmp_path / "ledger.db-wal.new").write_bytes(b"of a start that was interrupted")
    db = connect(tmp_path / "ledger.db")
    assert log.stat().st_ino != before and log.read_bytes() == left and log.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "ledger.db-wal.new").exists()
    secure(db, tmp_path / "ledger.db")
    assert db.execute("SELECT count(*) FROM entries").fetchone()[0] == 300
    db.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    os.umask(0o022)
    db = connect(tmp_path / "ledger.db")
    secure(db, tmp_path / "ledger.db")
    db.execute("CREATE TABLE t (x)")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert db.execute("PRAGMA cache_size").fetchone() == (-CACHE_KIB,)
    db.close()


def test_a_connection_that_cannot_be_opened_leaves_none_behind(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        connect(tmp_path / "none" / "ledger.db")


# -- reading without an agent


async def test_a_ledger_is_read_without_an_agent_and_without_its_keys(tmp_path: Path) -> None:
    store = opened(tmp_path)
    stored = await store.commit([note(bulk=b"beside") for _ in range(300)])
    head, vkeys = store.checkpoint, store.vkeys()
    store.close()
    next((tmp_path / "keys").glob("*.key")).unlink()
    before = hashes(tmp_path)
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert ledger.checkpoint == head and ledger.vkeys() == vkeys and ledger.origin == "host1/ledger" and ledger.size == 300
        assert ledger.leaves(0, 999) == tuple(stored) and ledger.bulk(stored[0].id) == b"beside"
        assert ledger.root_at(300) == tree_hash([entry.leaf for entry in stored]) and signed_by(head, vkeys[0])
        check_inclusion(leaf_hash(stored[9].leaf), 9, 300, ledger.proof(9), ledger.root_at(300))
        assert len(ledger.search(SearchEntries(text="x", limit=7)).entries) == 7 and ledger.entry(stored[5].id) == stored[5]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            ledger._need().execute("DELETE FROM entries")
    assert hashes(tmp_path) == before and not list(tmp_path.glob("*-shm"))


def test_what_a_killed_agent_left_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    killed(tmp_path)
    before = hashes(tmp_path)
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert ledger.size == 300 == len(ledger.leaves(0, 999))
        assert ledger.root_at(300) == tree_hash([entry.leaf for entry in ledger.leaves(0, 300)])
    assert hashes(tmp_path) == before
    store = opened(tmp_path)
    assert store.size == 300
    store.close()


async def test_what_is_wrong_with_a_ledger_is_not_hidden_from_who_verifies_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note() for _ in range(300)])
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("DELETE FROM tiles")
    db.execute("DELETE FROM entries WHERE seq > 280")
    db.commit()
    db.close()
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert ledger.size == 280 == len(ledger.leaves(0, 999)) and b"\n300\n" in ledger.checkpoint
        assert ledger.tile(0, 0) is None
        with pytest.raises(SteadError, match=r"tile 0 of level 0 .* missing"):
            ledger.proof(3)


async def test_a_ledger_that_no_agent_would_open_can_still_be_verified(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit([note()])
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("INSERT INTO runs VALUES ('r', 'waiting', 0, 0, NULL, 1, NULL, '', x'7b7d', 0)")
    db.execute("DELETE FROM checkpoints")
    db.commit()
    db.close()
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert ledger.checkpoint == b"" and len(ledger.leaves(0, 9)) == 1
        with pytest.raises(Malformed):
            ledger.vkeys()


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(SteadError, match="there is no ledger") as caught:
        open_offline(tmp_path / "ledger.db")
    assert caught.value.problem.code == "ledger.none" and "start the agent" in caught.value.problem.fix
    assert not (tmp_path / "ledger.db").exists()
    first_release(tmp_path)
    with pytest.raises(SteadError, match="version 1") as caught:
        open_offline(tmp_path / "ledger.db")
    assert caught.value.problem.code == "ledger.older"
    StateLock.take(tmp_path).release()


def test_read_only_changes_nothing_even_by_mistake(tmp_path: Path) -> None:
    first_release(tmp_path)
    db = read_only(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM entries")
    db.close()


# -- the lock


def test_readers_share_the_state_and_an_agent_waits_for_them(tmp_path: Path) -> None:
    readers = [StateLock.share(tmp_path) for _ in range(3)]
    taken = list[LedgerStore]()
    starting = threading.Thread(target=lambda: taken.append(opened(tmp_path)))
    starting.start()
    for reader in readers:
        assert not taken
        reader.release()
    starting.join(20)
    (agent,) = taken
    with pytest.raises(SteadError, match=rf"pid {os.getpid()}\) is running"):
        StateLock.share(tmp_path)
    agent.close()
    StateLock.share(tmp_path).release()


def test_a_reader_that_never_ends_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_lock, "READERS_END_S", 0.0)
    reader = StateLock.share(tmp_path)
    with pytest.raises(SteadError) as caught:
        StateLock.take(tmp_path)
    assert caught.value.problem.code == "state.in-use"
    reader.release()


def test_a_medium_that_cannot_be_written_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_one_entry(tmp_path))

    def read_only_medium(*_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(state_lock, "_opened", read_only_medium)
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert ledger.size == 1
    with pytest.raises(SteadError, match="can't be written"):
        StateLock.take(tmp_path)


async def _one_entry(place: Path) -> None:
    store = LedgerStore.open(place / "ledger.db", "host1", FakeClock())
    await store.commit([note()])
    store.close()
