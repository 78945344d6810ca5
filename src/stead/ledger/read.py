"""Reading the ledger: what is durable, as values.

Live runs, open findings and holds come from memory (they are few, and every tick asks); all else from the one connection,
under its lock. Nothing here writes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from stead.ledger.errors import as_stead_error
from stead.model.change import Hold, Run
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.find import Finding
from stead.model.policy import Approval
from stead.model.record import StoredEntry

_COLUMNS: Final = "seq, id, type, subject, ts_ms, leaf"
_WHICH: Final = {
    "all": "1",
    "proposals": "state IN ('waiting', 'advised')",
    "runs": "acts",
}


class LedgerReader:
    """The reading side. `_guard` is the connection's lock; `_attach` is called with each new connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._live: dict[str, Run] = {}
        self._open: dict[str, Finding] = {}
        self._holds: dict[tuple[str, str], Hold] = {}
        self._decode_run = msgspec.json.Decoder(Run)
        self._decode_finding = msgspec.json.Decoder(Finding)

    def _attach(self, db: sqlite3.Connection) -> None:
        """Read anew what is kept in memory: after a start, and after an I/O error."""
        runs = (self._decode_run.decode(row[0]) for row in db.execute("SELECT data FROM runs WHERE NOT final ORDER BY rowid"))
        findings = db.execute("SELECT data FROM findings WHERE cleared_ms IS NULL ORDER BY opened_ms")
        self._live = {run.id: run for run in runs}
        self._open = {one.id: one for one in (self._decode_finding.decode(row[0]) for row in findings)}
        holds = (msgspec.json.decode(row[0], type=Hold) for row in db.execute("SELECT data FROM holds"))
        self._holds = {(hold.playbook, hold.target): hold for hold in holds}
        self._db = db

    def _remember(
        self, runs: Iterable[Run], findings: Iterable[Finding], holds: Iterable[Hold], dropped: Iterable[tuple[str, str]]
    ) -> None:
        """What was just made durable, in memory too. New dictionaries: readers on another thread may hold the old ones."""
        live, opened, held = dict(self._live), dict(self._open), dict(self._holds)
        for run in runs:
            live.pop(run.id, None)
            if not run.final:
                live[run.id] = run
        for finding in findings:
            opened.pop(finding.id, None)
            if finding.open:
                opened[finding.id] = finding
        held.update({(hold.playbook, hold.target): hold for hold in holds})
        for key in dropped:
            held.pop(key, None)
        self._live, self._open, self._holds = live, opened, held

    def _need(self) -> sqlite3.Connection:
        if self._db is None:
            raise SteadError("the ledger is not open just now", "ledger.db", "see stead.log", code="ledger.closed")
        return self._db

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._guard:
            try:
                return self._need().execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise as_stead_error(error, self.path) from error

    def live_runs(self) -> Sequence[Run]:
        """Runs that are not final, as they are durable."""
        return tuple(self._live.values())

    def open_findings(self) -> Sequence[Finding]:
        """Findings that have not cleared, oldest first."""
        return tuple(self._open.values())

    def holds(self) -> Sequence[Hold]:
        """What people keep off."""
        return tuple(self._holds.values())

    def runs(self, which: Literal["all", "proposals", "runs"] = "all", limit: int = 100, since_ms: int = 0) -> Sequence[Run]:
        """Runs that moved at or after `since_ms`, newest first. `proposals` wait or were advised; `runs` acted or will."""
        sql = f"SELECT data FROM runs WHERE updated_ms >= ? AND {_WHICH[which]} ORDER BY updated_ms DESC, rowid DESC LIMIT ?"  # noqa: S608
        return tuple(self._decode_run.decode(row[0]) for row in self._rows(sql, since_ms, limit))

    def run(self, prefix: str) -> Run | None:
        """One run by its id or a unique beginning or ending of it. SteadError when several fit."""
        if not prefix or not all(char.isalnum() or char == "-" for char in prefix):
            return None
        found = self._rows(
            "SELECT data FROM runs WHERE id LIKE ? OR id LIKE ? ORDER BY updated_ms DESC LIMIT 2", f"{prefix}%", f"%{prefix}"
        )
        if len(found) > 1:
            raise SteadError(
                f"several runs begin or end with {prefix}", "", "give more of the id", code="run.ambiguous", exit_code=EXIT_USAGE
            )
        return self._decode_run.decode(found[0][0]) if found else None

    def runs_of(self, finding_id: str) -> Sequence[Run]:
        """All runs that answered one finding, newest first."""
        rows = self._rows("SELECT data FROM runs WHERE finding = ? ORDER BY updated_ms DESC", finding_id)
        return tuple(self._decode_run.decode(row[0]) for row in rows)

    def findings(self, cleared: bool = False, limit: int = 100) -> Sequence[Finding]:
        """Open findings, or with `cleared` also those that cleared, newest first."""
        if not cleared:
            return tuple(reversed(self.open_findings()))[:limit]
        rows = self._rows("SELECT data FROM findings ORDER BY cleared_ms IS NOT NULL, opened_ms DESC LIMIT ?", limit)
        return tuple(self._decode_finding.decode(row[0]) for row in rows)

    def finding(self, prefix: str) -> Finding | None:
        """One finding by its id or a unique beginning or ending of it."""
        if not prefix or not all(char.isalnum() or char == "-" for char in prefix):
            return None
        rows = self._rows("SELECT data FROM findings WHERE id LIKE ? OR id LIKE ? LIMIT 2", f"{prefix}%", f"%{prefix}")
        return self._decode_finding.decode(rows[0][0]) if len(rows) == 1 else None

    def approvals(self, proposal_id: str) -> Sequence[Approval]:
        """Every approval of one proposal, used or not."""
        rows = self._rows("SELECT data FROM approvals WHERE proposal = ? ORDER BY rowid", proposal_id)
        return tuple(msgspec.json.decode(row[0], type=Approval) for row in rows)

    def entries(self, limit: int = 50, subject: str = "", types: Sequence[str] = ()) -> Sequence[StoredEntry]:
        """The newest entries, newest first; about one subject (a finding's or run's id), of some types."""
        where, values = ["1"], list[Any]()
        if subject:
            where.append("subject = ?")
            values.append(subject)
        if types:
            where.append(f"type IN ({', '.join('?' * len(types))})")
            values.extend(types)
        sql = f"SELECT {_COLUMNS} FROM entries WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"  # noqa: S608
        return tuple(StoredEntry(*row) for row in self._rows(sql, *values, limit))

    def entry(self, entry_id: str) -> StoredEntry | None:
        """One entry by its id."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM entries WHERE id = ?", entry_id)  # noqa: S608
        return StoredEntry(*rows[0]) if rows else None

    def bulk(self, entry_id: str) -> bytes | None:
        """What is kept beside an entry's leaf, if anything still is."""
        rows = self._rows("SELECT data FROM blobs WHERE ref = (SELECT blob FROM entries WHERE id = ?)", entry_id)
        return bytes(rows[0][0]) if rows else None

    def meta(self, key: str) -> str | None:
        """A small fact about the state itself."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def actions_since(self, unix_ms: int) -> int:
        """How many runs made their first change at or after this time; those that lower autonomy don't count."""
        return int(self._rows("SELECT count(*) FROM runs WHERE began_ms >= ?", unix_ms)[0][0])
