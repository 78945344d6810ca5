"""The ledger's tables, and the rows that values become. One schema version; a newer one is refused, never guessed at.

`entries` holds exact leaf bytes; nothing in it is ever changed. The other tables are what follows from the entries (runs,
approvals, holds, findings), kept in the same transaction so that they can't differ from them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from stead.host.sqlite_header import written_by
from stead.ledger.leaf import leaf
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Approval
from stead.model.record import Entry, StoredEntry

VERSION: Final = 1
APPLICATION_ID: Final = 0x57EAD001
SCHEMA: Final = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, subject TEXT NOT NULL,
                      ts_ms INTEGER NOT NULL, leaf BLOB NOT NULL, blob TEXT);
CREATE INDEX entries_subject ON entries (subject, seq);
CREATE TABLE blobs (ref TEXT PRIMARY KEY, salt BLOB NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (id TEXT PRIMARY KEY, state TEXT NOT NULL, final INTEGER NOT NULL, acts INTEGER NOT NULL,
                   began_ms INTEGER, updated_ms INTEGER NOT NULL, finding TEXT, targets TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX runs_live ON runs (updated_ms) WHERE NOT final;
CREATE INDEX runs_began ON runs (began_ms) WHERE began_ms IS NOT NULL;
CREATE INDEX runs_updated ON runs (updated_ms);
CREATE TABLE approvals (id TEXT PRIMARY KEY, proposal TEXT NOT NULL, expires_ms INTEGER NOT NULL, used_ms INTEGER,
                        data BLOB NOT NULL);
CREATE INDEX approvals_proposal ON approvals (proposal);
CREATE TABLE holds (playbook TEXT NOT NULL, target TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (playbook, target));
CREATE TABLE findings (id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, opened_ms INTEGER NOT NULL, cleared_ms INTEGER,
                       data BLOB NOT NULL);
CREATE INDEX findings_open ON findings (opened_ms) WHERE cleared_ms IS NULL;
CREATE INDEX findings_cleared ON findings (cleared_ms) WHERE cleared_ms IS NOT NULL;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_ADVISORY: Final = frozenset(("advised", "refused", "unsupported"))


def refuse_foreign(path: Path) -> None:
    """Another program's database, or one from a newer stead, is refused before SQLite changes a byte of it."""
    version, application = written_by(path)
    if version > VERSION:
        raise SteadError(
            f"the ledger is of version {version}, and this stead knows up to {VERSION}",
            str(path),
            "start the newer stead that wrote it, or give this one another state directory with --state",
            code="ledger.newer",
        )
    if application not in (0, APPLICATION_ID):
        raise SteadError("this is another program's database", str(path), "choose another state directory", code="ledger.foreign")


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables of an empty database."""
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        db.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; COMMIT;"
        )


def put_entry(db: sqlite3.Connection, entry: Entry, salt: bytes) -> StoredEntry:
    """Append one entry as its leaf, with its blob."""
    data, blob = leaf(entry, salt)
    if blob is not None:
        db.execute("INSERT INTO blobs VALUES (?, ?, ?)", (blob.ref, blob.salt, blob.data))
    row = (entry.id, entry.type, entry.subject, entry.ts_ms, data, blob.ref if blob else None)
    added = db.execute("INSERT INTO entries (id, type, subject, ts_ms, leaf, blob) VALUES (?, ?, ?, ?, ?, ?)", row)
    return StoredEntry(added.lastrowid or 0, entry.id, entry.type, entry.subject, entry.ts_ms, data)


def put_run(db: sqlite3.Connection, run: Run) -> None:
    """Keep a run's newest state. `began_ms` is its first forward attempt: what budgets count, unless it lowers autonomy."""
    forward = [attempt.at_ms for attempt in run.attempts if attempt.direction == "forward"]
    began_ms = min(forward) if forward and not run.proposal.lowers else None
    targets = " ".join(step.target.key for step in run.proposal.steps)
    acts = run.state not in _ADVISORY and run.state != "waiting"
    row = (run.id, run.state, run.final, acts, began_ms, run.updated_ms, run.proposal.finding_id, targets, _json(run))
    db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def put_approval(db: sqlite3.Connection, approval: Approval) -> None:
    """Keep an approval, unused."""
    row = (approval.id, approval.proposal_id, approval.expires_ms, approval.used_ms, _json(approval))
    db.execute("INSERT INTO approvals VALUES (?, ?, ?, ?, ?)", row)


def use_approval(db: sqlite3.Connection, approval_id: str, now_ms: int) -> None:
    """Use an approval up. SteadError when it is missing, used or expired."""
    row = db.execute("SELECT expires_ms, used_ms, data FROM approvals WHERE id = ?", (approval_id,)).fetchone()
    why = "is not on record"
    if row is not None and row[1] is None and row[0] > now_ms:
        used = msgspec.structs.replace(msgspec.json.decode(row[2], type=Approval), used_ms=now_ms)
        db.execute("UPDATE approvals SET used_ms = ?, data = ? WHERE id = ?", (now_ms, _json(used), approval_id))
        return
    if row is not None:
        why = "has been used already" if row[1] is not None else "has expired"
    raise SteadError(f"the approval {why}", f"approval {approval_id}", "approve the proposal again", code="approval.void")


def put_finding(db: sqlite3.Connection, finding: Finding) -> None:
    """Keep a finding's newest state."""
    row = (finding.id, finding.fingerprint, finding.opened_ms, finding.cleared_ms, _json(finding))
    db.execute("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?)", row)


def put_hold(db: sqlite3.Connection, hold: Hold) -> None:
    """Keep a playbook off a target."""
    db.execute("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (hold.playbook, hold.target, _json(hold)))


def drop_holds(db: sqlite3.Connection, holds: Sequence[tuple[str, str]]) -> None:
    """Lift holds, by playbook and target."""
    db.executemany("DELETE FROM holds WHERE playbook = ? AND target = ?", holds)


def put_meta(db: sqlite3.Connection, meta: dict[str, str]) -> None:
    """Keep small facts about the state itself."""
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
