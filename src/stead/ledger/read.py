"""Reading the ledger: what is durable, as values.

Live runs, open findings and holds come from memory (they are few, and every tick asks); all else from the one connection,
under its lock. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from stead.ledger.connect import Connection
from stead.ledger.errors import altered
from stead.ledger.search import search
from stead.ledger.tree import ID, LogReader
from stead.model.change import Hold, Run
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.find import Finding
from stead.model.ledger_messages import EntryPage, SearchEntries
from stead.model.policy import Approval
from stead.model.record import StoredEntry

_WHICH: Final = {
    "all": "1",
    "proposals": "state IN ('waiting', 'advised')",
    "runs": "acts",
}


class LedgerReader(LogReader):
    """The reading side: the log, and what follows from it. `_attach` is called with each new connection."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._closed = False
        self._live: dict[str, Run] = {}
        self._open: dict[str, Finding] = {}
        self._holds: dict[tuple[str, str], Hold] = {}
        self._decode_run = msgspec.json.Decoder(Run)
        self._decode_finding = msgspec.json.Decoder(Finding)

    def _attach(self, db: Connection) -> None:
        """Read anew what is kept in memory, after a start or an I/O error. SteadError `ledger.altered`: it can't be read."""
        self._bundles.forget()
        runs = db.execute("SELECT data FROM runs WHERE NOT final ORDER BY updated_ms, rowid").fetchall()
        findings = db.execute("SELECT data FROM findings WHERE cleared_ms IS NULL ORDER BY opened_ms").fetchall()
        holds = db.execute("SELECT data FROM holds").fetchall()
        try:
            live = [self._decode_run.decode(row[0]) for row in runs]
            opened = [self._decode_finding.decode(row[0]) for row in findings]
            held = [msgspec.json.decode(row[0], type=Hold) for row in holds]
        except msgspec.MsgspecError as error:
            raise altered(f"a run, finding or hold of the ledger can't be read: {error}", self.path) from error
        self._live = {run.id: run for run in live}
        self._open = {one.id: one for one in opened}
        self._holds = {(hold.playbook, hold.target): hold for hold in held}

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

    def not_put_back(self, limit: int) -> Sequence[Run]:
        """Runs of which something could not be put back, newest first."""
        rows = self._rows("SELECT data FROM runs WHERE state = 'undo_failed' ORDER BY updated_ms DESC, rowid DESC LIMIT ?", limit)
        return tuple(self._decode_run.decode(row[0]) for row in rows)

    def run(self, prefix: str) -> Run | None:
        """One run by its id or a unique beginning or ending of it. SteadError when several fit."""
        if not ID.fullmatch(prefix):
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
        if not ID.fullmatch(prefix):
            return None
        rows = self._rows("SELECT data FROM findings WHERE id LIKE ? OR id LIKE ? LIMIT 2", f"{prefix}%", f"%{prefix}")
        return self._decode_finding.decode(rows[0][0]) if len(rows) == 1 else None

    def approvals(self, proposal_id: str) -> Sequence[Approval]:
        """Every approval of one proposal, used or not."""
        rows = self._rows("SELECT data FROM approvals WHERE proposal = ? ORDER BY rowid", proposal_id)
        return tuple(msgspec.json.decode(row[0], type=Approval) for row in rows)

    def entries(self, limit: int = 50, subject: str = "", types: Sequence[str] = ()) -> Sequence[StoredEntry]:
        """The newest entries, newest first; about one subject (a finding's or run's id), of some types."""
        where, values = _about(subject, types)
        return self._entries(f"{where} ORDER BY seq DESC LIMIT ?", *values, limit)

    def count(self, subject: str = "", types: Sequence[str] = ()) -> int:
        """How many entries there are about one subject, of some types."""
        where, values = _about(subject, types)
        return int(self._rows(f"SELECT count(*) FROM entries WHERE {where}", *values)[0][0])  # noqa: S608 - our own words

    def search(self, query: SearchEntries) -> EntryPage:
        """Entries that meet a query, newest first. One answer looks at a bounded stretch, so that nobody waits long for it."""
        return search(self._entries, self.blobs, query, self.size)

    def bulk(self, entry_id: str) -> bytes | None:
        """What is kept beside an entry's leaf, if anything still is."""
        found = self.blob(entry_id)
        return None if found is None else found.data

    def commits(self, run_id: str) -> int:
        """How many commits, each with one fsync of its own at most, have carried this run; 0 for one that is not on record."""
        rows = self._rows("SELECT commits FROM runs WHERE id = ?", run_id)
        return int(rows[0][0]) if rows else 0

    def meta(self, key: str) -> str | None:
        """A small fact about the state itself."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def actions_since(self, unix_ms: int) -> int:
        """How many runs made their first change at or after this time; those that lower autonomy don't count."""
        return int(self._rows("SELECT count(*) FROM runs WHERE began_ms >= ?", unix_ms)[0][0])


def _about(subject: str, types: Sequence[str]) -> tuple[str, list[Any]]:
    """The condition on entries about one subject, of some types, and its values. Empty: whatever it is."""
    where, values = ["1"], list[Any]()
    if subject:
        where.append("subject = ?")
        values.append(subject)
    if types:
        where.append(f"type IN ({', '.join('?' * len(types))})")
        values.extend(types)
    return " AND ".join(where), values
