"""Reading a ledger while no agent runs: without its private keys, without changing a byte, and without believing it.

Nothing is compared here: what is wrong with a ledger is found by whoever verifies the leaves, tiles and checkpoint that this
hands over.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

from stead.host.sqlite_header import written_by
from stead.ledger import tables
from stead.ledger.connect import read_only
from stead.ledger.read import LedgerReader
from stead.ledger.state_lock import StateLock
from stead.model.errors import SteadError
from stead.tlog.tiles import TileTree


class OfflineLedger(LedgerReader):
    """A ledger that nobody writes: it holds the state's lock until it is closed. Made by `open_offline`."""

    def __init__(self, path: Path, lock: StateLock) -> None:
        super().__init__(path)
        self._state_lock = lock
        self._restored: TileTree | None = None
        index = path.with_name(f"{path.name}-shm")
        self._made = None if index.exists() else index

    @property
    def size(self) -> int:
        """How many entries there are."""
        with self._guard, self._errors():
            return tables.count_entries(self._need(), self.path)

    def close(self) -> None:
        """Let go of the file and of the state."""
        with self._guard:
            db, self._db = self._db, None
            if db is not None:
                db.close()
            if self._made is not None:
                self._made.unlink(missing_ok=True)
        self._state_lock.release()

    def __enter__(self) -> OfflineLedger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _log(self) -> TileTree:
        if self._restored is None:
            self._restored = self._restore()
        return self._restored

    def _open_file(self) -> None:
        tables.refuse_foreign(self.path)
        version, _ = written_by(self.path)
        if version != tables.VERSION:
            raise self._unreadable(version)
        db = self._db = read_only(self.path)
        kept = tables.get_checkpoint(db, "own", "")
        self.origin, self.checkpoint = tables.get_meta(db, "origin") or "", kept[1] if kept else b""
        with contextlib.suppress(SteadError):  # it is read for its log
            self._attach(db)

    def _unreadable(self, version: int) -> SteadError:
        """Why there is nothing here to read."""
        what, code = "there is no ledger", "ledger.none"
        fix = "start the agent once: it makes the ledger, or brings it up to date"
        if version:
            what, code = f"the ledger is of version {version}", "ledger.older"
        elif self.path.exists() and self.path.stat().st_size:
            what, fix, code = "this file is no ledger", "keep a copy, and bring ledger.db back from a backup", "ledger.damaged"
        elif self.path.exists():
            what, fix = "the ledger is empty", "bring ledger.db back from a backup, or start the agent, which makes a new one"
        return SteadError(what, str(self.path), fix, code=code)


def open_offline(path: Path | str) -> OfflineLedger:
    """Open a ledger to read. SteadError: an agent has it (`state.in-use`), there is none, it is older, newer or damaged."""
    place = Path(path)
    ledger = OfflineLedger(place, StateLock.share(place.parent))
    try:
        with ledger._errors():
            ledger._open_file()
    except BaseException:
        ledger.close()
        raise
    return ledger
