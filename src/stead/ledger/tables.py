"""The ledger's tables, and the rows that values become. A file of an older version is brought up to date, a newer one refused.

`entries` holds exact leaf bytes, which `pack.py` moves to `bundles`, and `blobs` what lies beside them, which it moves to
`bundled_blobs`; `tiles` holds the complete tiles of the Merkle tree over the leaves. What these say never changes. `runs`,
`approvals`, `holds` and `findings` are what follows from the entries, kept in the same transaction so that they can't differ
from them. A tile's key is its index · 8 + its level, so that new tiles come last in their table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from stead.host.sqlite_header import written_by
from stead.ledger.connect import Connection
from stead.ledger.errors import altered
from stead.ledger.keys import KeyRow
from stead.model.change import Hold, Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Approval
from stead.tlog.tiles import Tile

_Type = TypeVar("_Type")
VERSION: Final = 2
APPLICATION_ID: Final = 0x57EAD001
_LEVEL_BITS: Final = 3  # 256^8 leaves and no more
_LOG: Final = """
CREATE TABLE tiles (place INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE checkpoints (role TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, note BLOB NOT NULL,
                          PRIMARY KEY (role, name)) WITHOUT ROWID;
CREATE TABLE keys (vkey TEXT PRIMARY KEY, since_ms INTEGER NOT NULL, until_ms INTEGER) WITHOUT ROWID;
CREATE TABLE bundles (place INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE bundled_blobs (seq INTEGER PRIMARY KEY, salt BLOB NOT NULL, data BLOB NOT NULL)
"""
SCHEMA: Final = f"""
CREATE TABLE entries (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, subject TEXT NOT NULL,
                      ts_ms INTEGER NOT NULL, leaf BLOB NOT NULL, blob TEXT);
CREATE INDEX entries_subject ON entries (subject, seq);
CREATE TABLE blobs (ref TEXT PRIMARY KEY, salt BLOB NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (id TEXT PRIMARY KEY, state TEXT NOT NULL, final INTEGER NOT NULL, acts INTEGER NOT NULL,
                   began_ms INTEGER, updated_ms INTEGER NOT NULL, finding TEXT, targets TEXT NOT NULL, data BLOB NOT NULL,
                   commits INTEGER NOT NULL DEFAULT 0);
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
{_LOG}
"""
_FROM: Final = {0: SCHEMA, 1: f"ALTER TABLE runs ADD COLUMN commits INTEGER NOT NULL DEFAULT 0; {_LOG}"}
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
    if application not in (0, APPLICATION_ID) or version < 0:
        raise SteadError("this is another program's database", str(path), "choose another state directory", code="ledger.foreign")


def prepare(db: Connection) -> int:
    """Make the tables, or what an older version lacks, in the transaction that is open. Returns the version that was there."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version != VERSION:
        for statement in _FROM[version].split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={VERSION}")
    return version


def put_tiles(db: Connection, tiles: Iterable[Tile]) -> None:
    """Keep complete tiles."""
    db.executemany("INSERT INTO tiles VALUES (?, ?)", [(_place(tile.level, tile.index), tile.hashes) for tile in tiles])


def get_tile(db: Connection, level: int, index: int) -> bytes | None:
    """A complete tile's hashes, joined; None where there is none."""
    row = db.execute("SELECT hashes FROM tiles WHERE place = ?", (_place(level, index),)).fetchone()
    return None if row is None else typed(row[0], bytes)


def _place(level: int, index: int) -> int:
    return index << _LEVEL_BITS | level


def count_entries(db: Connection, path: Path) -> int:
    """The last entry's number: how many there are, if none is missing. SteadError `ledger.altered`: one is before the first."""
    first, last = db.execute("SELECT (SELECT min(seq) FROM entries), (SELECT max(seq) FROM entries)").fetchone()
    if first is not None and first < 1:
        raise altered(f"an entry has the number {first}, and the first one is 1: no checkpoint was ever signed for it", path)
    return int(last or 0)


def get_leaves(db: Connection, start: int, end: int, path: Path) -> list[bytes]:
    """The leaves of indexes [start, end). SteadError `ledger.altered` unless all are there."""
    rows = db.execute("SELECT leaf FROM entries WHERE seq > ? AND seq <= ? ORDER BY seq", (start, end)).fetchall()
    if len(rows) != end - start:
        raise altered(f"of entries {start + 1} to {end}, {end - start - len(rows)} are missing", path)
    return [typed(row[0], bytes) for row in rows]


def get_checkpoint(db: Connection, role: str, name: str) -> tuple[int, bytes] | None:
    """Size and note of a kept checkpoint. Roles: "own", "cosigned" (by a witness), "witnessed" (of another log)."""
    row = db.execute("SELECT size, note FROM checkpoints WHERE role = ? AND name = ?", (role, name)).fetchone()
    return None if row is None else (typed(row[0], int), typed(row[1], bytes))


def put_checkpoint(db: Connection, role: str, name: str, size: int, note: bytes) -> None:
    """Keep a checkpoint in place of the one before it."""
    db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)", (role, name, size, note))


def get_keys(db: Connection) -> list[KeyRow]:
    """All keys that this log ever had, newest first."""
    rows = db.execute("SELECT vkey, since_ms, until_ms FROM keys ORDER BY until_ms IS NOT NULL, since_ms DESC").fetchall()
    return [KeyRow(typed(row[0], str), typed(row[1], int), None if row[2] is None else typed(row[2], int)) for row in rows]


def put_key(db: Connection, key: KeyRow) -> None:
    """Keep a key of the log."""
    db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", key)


def put_run(db: Connection, run: Run) -> None:
    """Keep a run's newest state. `began_ms` is its first forward attempt: what budgets count, unless it lowers autonomy."""
    forward = [attempt.at_ms for attempt in run.attempts if attempt.direction == "forward"]
    began_ms = min(forward) if forward and not run.proposal.lowers else None
    targets = " ".join(step.target.key for step in run.proposal.steps)
    acts = run.state not in _ADVISORY and run.state != "waiting"
    row = (run.id, run.state, run.final, acts, began_ms, run.updated_ms, run.proposal.finding_id, targets, _json(run))
    db.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
        " final = excluded.final, acts = excluded.acts, began_ms = excluded.began_ms, updated_ms = excluded.updated_ms,"
        " finding = excluded.finding, targets = excluded.targets, data = excluded.data, commits = commits + 1",
        row,
    )


def put_approval(db: Connection, approval: Approval) -> None:
    """Keep an approval, unused."""
    row = (approval.id, approval.proposal_id, approval.expires_ms, approval.used_ms, _json(approval))
    db.execute("INSERT INTO approvals VALUES (?, ?, ?, ?, ?)", row)


def use_approval(db: Connection, approval_id: str, now_ms: int) -> None:
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


def put_finding(db: Connection, finding: Finding) -> None:
    """Keep a finding's newest state."""
    row = (finding.id, finding.fingerprint, finding.opened_ms, finding.cleared_ms, _json(finding))
    db.execute("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?)", row)


def put_hold(db: Connection, hold: Hold) -> None:
    """Keep a playbook off a target."""
    db.execute("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (hold.playbook, hold.target, _json(hold)))


def drop_holds(db: Connection, holds: Sequence[tuple[str, str]]) -> None:
    """Lift holds, by playbook and target."""
    db.executemany("DELETE FROM holds WHERE playbook = ? AND target = ?", holds)


def get_meta(db: Connection, key: str) -> str | None:
    """A small fact about the state itself."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def put_meta(db: Connection, meta: Iterable[tuple[str, str]]) -> None:
    """Keep small facts about the state itself."""
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)


def typed(value: Any, type_: type[_Type], path: Path = Path("ledger.db")) -> _Type:
    """A column's value, which in SQLite may be of any type. SteadError `ledger.altered`: it is of another."""
    if type(value) is not type_:
        raise altered(f"a column has {type(value).__name__} where {type_.__name__} belongs", path)
    return value


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
