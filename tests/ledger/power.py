"""A disk in memory whose power can fail: SQLite writes to it through apsw, and every write, truncation and sync is kept.

    disk = Disk()
    connection = disk.connect(path)               # what the store takes as its connection factory
    ...                                           # the store works; `disk.note(x)` puts a mark between the operations
    for at, files in crashes(disk.trace, points): # what may be left of the files after a loss of power at that operation
        Disk(files).connect(path)                 # and the store starts again on it

What a loss of power may leave is said in losses.py.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

SECTOR: Final = 512
PAGES_A_CHECKPOINT: Final = 40  # few, so that WAL resets and checkpoints happen often in a short trace
_numbers = itertools.count(1)


class Op(NamedTuple):
    """One thing done to a file: "write", "truncate", "sync", "delete" (durable at once if `size`), "rename" (to `mark`, at once).

    "unsynced" is a sync that failed; a "note" stands between operations, and says what somebody was told by then.
    """

    kind: str
    name: str = ""
    offset: int = 0
    data: bytes = b""
    size: int = 0
    mark: Any = None


class Disk:
    """Files in memory, and what was done to them. `before` is called with each operation, and may raise a Fault."""

    def __init__(self, files: Mapping[str, bytes] | None = None, pages_a_checkpoint: int = PAGES_A_CHECKPOINT) -> None:
        self.files = {name: bytearray(data) for name, data in (files or {}).items()}
        self.trace: list[Op] = []
        self.before: Callable[[Op], None] = lambda op: None
        self.pages_a_checkpoint = pages_a_checkpoint
        self.synchronous = ""  # of every connection, whatever the store asks for
        self.lies = False  # a commit is answered before it is made: see `Connection`
        self.dead = False

    def done(self, op: Op) -> None:
        """Record an operation, unless a fault forbids it."""
        if self.dead:
            raise Fault(apsw.SQLITE_IOERR)
        try:
            self.before(op)
        except Fault:
            if op.kind == "sync":
                self.trace.append(op._replace(kind="unsynced"))
            raise
        self.trace.append(op)

    def note(self, mark: Any) -> None:
        """A mark between operations: what somebody was told by now."""
        self.trace.append(Op("note", mark=mark))

    def killed(self) -> Disk:
        """The same files for another process, when the one that had them is gone: nothing that it does reaches them now."""
        self.dead = True
        after = Disk(pages_a_checkpoint=self.pages_a_checkpoint)
        after.files, after.trace, after.synchronous = dict(self.files), self.trace, self.synchronous
        return after

    def connect(self, path: Path) -> Connection:
        """A connection to a file on this disk, opened as `stead.ledger.connect.connect` does it."""
        with _as_sqlite3():
            self._renew(f"{path.name}-wal")
        return Connection(self, path)

    def _renew(self, name: str) -> None:
        """`stead.ledger.connect.renew_log` on this disk."""
        if data := bytes(self.files.get(name, b"")):
            self.done(Op("delete", f"{name}.new", size=1))
            self.done(Op("write", f"{name}.new", 0, data))
            self.done(Op("sync", f"{name}.new"))
            self.done(Op("rename", f"{name}.new", mark=name))
            self.files[name] = bytearray(data)


class Fault(apsw.Error):
    """What the disk answers instead of obeying."""

    def __init__(self, code: int) -> None:
        super().__init__(f"simulated {apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes[code]}")
        self.extendedresult = code
        self.result = code & 0xFF


class _File:
    """One open file: apsw calls these methods."""

    def __init__(self, disk: Disk, name: str, durable: bool) -> None:
        self.disk, self.name, self.durable = disk, name, durable
        self.data = disk.files.setdefault(name, bytearray()) if durable else bytearray()

    def _done(self, op: Op) -> None:
        if self.durable:
            self.disk.done(op)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self.data[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        kept = bytes(data)
        self._done(Op("write", self.name, offset, kept))
        put(self.data, offset, kept)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._done(Op("truncate", self.name, size=size))
        del self.data[size:]

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._done(Op("sync", self.name))

    def xFileSize(self) -> int:  # noqa: N802
        return len(self.data)

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE  # as SQLite assumes of a file system on its own

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xClose(self) -> None:  # noqa: N802
        pass


def put(data: bytearray, offset: int, piece: bytes) -> None:
    """Write at an offset, with zeros before it where there was nothing."""
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


class _Files(apsw.VFS):
    """The disk as SQLite sees it; randomness and time come from the system's own."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        super().__init__(name, "", maxpathname=1024)

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        flags[1] = flags[0]
        durable = bool(flags[0] & (apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL))
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _File(self.disk, path.rpartition("/")[2], durable)

    def xDelete(self, name: str, sync_directory: bool) -> None:  # noqa: N802
        short = name.rpartition("/")[2]
        self.disk.done(Op("delete", short, size=int(sync_directory)))
        self.disk.files.pop(short, None)

    def xAccess(self, name: str, flags: int) -> bool:  # noqa: N802
        return name.rpartition("/")[2] in self.disk.files


class Rows:
    """What a statement answered: as much of sqlite3.Cursor as the store uses."""

    def __init__(self, rows: Sequence[Any], lastrowid: int, rowcount: int) -> None:
        self._rows = iter(rows)
        self.lastrowid, self.rowcount = lastrowid, rowcount

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def close(self) -> None:
        self._rows = iter(())


class Connection:
    """An apsw connection that answers as sqlite3's would, errors included.

    On a disk that `lies`, which is the control, COMMIT is answered at once and carried out only when the next transaction
    begins: what a store would do that answers before its COMMIT.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        name = f"power-{next(_numbers)}"
        self._disk, self._owed, self._files = disk, False, _Files(disk, name)
        with _as_sqlite3():
            self._db = apsw.Connection(str(path), vfs=name)
            self._db.set_wal_hook(self._checkpoint)

    def _checkpoint(self, db: apsw.Connection, name: str, pages: int) -> int:
        """As SQLite's own hook: a checkpoint that fails is tried again after a later commit, and fails nobody's commit."""
        if pages >= self._disk.pages_a_checkpoint:
            with contextlib.suppress(apsw.Error):
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return int(apsw.SQLITE_OK)

    @property
    def in_transaction(self) -> bool:
        """Is a transaction open?"""
        return bool(self._db.in_transaction)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Run one statement to its end."""
        said = sql.strip().upper()
        if self._disk.synchronous and said.startswith("PRAGMA SYNCHRONOUS="):
            sql = f"PRAGMA synchronous={self._disk.synchronous}"
        if self._disk.synchronous and said == "PRAGMA SYNCHRONOUS":
            return Rows([(2,)], 0, 0)  # the control hides what it does
        if self._disk.lies and said.startswith("COMMIT"):
            self._owed = True
            return Rows((), 0, 0)
        with _as_sqlite3():
            self._pay()
            rows = self._db.execute(sql, values).fetchall()
            return Rows(rows, self._db.last_insert_rowid(), self._db.changes())

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Rows:
        """Run one statement for each row."""
        with _as_sqlite3():
            self._pay()
            self._db.executemany(sql, rows)
            return Rows((), self._db.last_insert_rowid(), self._db.changes())

    def executescript(self, sql: str) -> Rows:
        """Run several statements."""
        return self.execute(sql)

    def close(self) -> None:
        """Close it: SQLite checkpoints, and takes the WAL away."""
        with _as_sqlite3():
            self._pay()
            self._db.close()
            self._files.unregister()

    def _pay(self) -> None:
        if self._owed:
            self._owed = False
            self._db.execute("COMMIT")


@contextlib.contextmanager
def _as_sqlite3() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        kinds: dict[type[apsw.Error], type[sqlite3.Error]] = {
            apsw.ConstraintError: sqlite3.IntegrityError,
            apsw.CorruptError: sqlite3.DatabaseError,
            apsw.NotADBError: sqlite3.DatabaseError,
        }
        told = kinds.get(type(error), sqlite3.OperationalError)(str(error))
        told.sqlite_errorcode = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
        raise told from error
