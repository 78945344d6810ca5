from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from stead.host.sqlite_header import written_by


def test_no_file_and_no_database_say_nothing(tmp_path: Path) -> None:
    assert written_by(tmp_path / "none.db") == (0, 0)
    (tmp_path / "text.db").write_text("x" * 200)
    assert written_by(tmp_path / "text.db") == (0, 0)
    (tmp_path / "empty.db").touch()
    (tmp_path / "empty.db-wal").write_bytes(b"\0" * 40)
    assert written_by(tmp_path / "empty.db") == (0, 0)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_what_is_committed_is_read_wherever_it_is(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "one.db"
    program = (
        f"import sqlite3, os; db = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        f"db.execute('PRAGMA journal_mode={journal}'); db.execute('CREATE TABLE t (a)')\n"
        "db.execute('PRAGMA user_version=3'); db.execute('PRAGMA application_id=77'); db.execute('INSERT INTO t VALUES (1)')\n"
        "db.execute('PRAGMA user_version=4'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert written_by(path) == (4, 77)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    sqlite3.connect(path).close()
    assert written_by(path) == (4, 77)
