"""Erasing what lies beside a leaf, and the copies of it in the tables of the present.

The leaf stays, so every proof still holds, and an entry `blob.erased` says what was erased, by whom. A run or finding that is
still at work needs its words, and writes them anew with each move: it is refused until it has ended.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from stead.ledger.connect import Connection
from stead.model.change import Run
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.find import Finding

TYPE: Final = "blob.erased"
REASON_MAX: Final = 1000
ERASED: Final = "erased"  # stands where a text was
_BESIDE: Final = (("blobs", "ref = (SELECT blob"), ("bundled_blobs", "seq = (SELECT seq"))


class Erasure(NamedTuple):
    """What one entry `blob.erased` says: the id of the entry, and what its leaf called that which is gone."""

    entry_id: str
    blob: str


def erase(db: Connection, entry_id: str) -> None:
    """Erase it all, overwritten with zeros, in the transaction that is open.

    SteadError `blob.none`: there is nothing; `blob.in-use`: the entry is about a run or finding that has not ended.
    """
    db.execute("PRAGMA secure_delete=ON").fetchall()
    row = db.execute("SELECT subject FROM entries WHERE id = ?", (entry_id,)).fetchone()
    if row is None or not _delete(db, entry_id):
        what = "there is nothing to erase: no such entry, or nothing lies beside it any more"
        raise SteadError(what, f"entry {entry_id}", code="blob.none")
    subject = str(row[0])
    _scrub_run(db, entry_id, subject)
    _scrub_finding(db, entry_id, subject)


def check_reason(reason: str) -> str:
    """The reason as it is recorded. SteadError: there is none, or too much of one."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_MAX:
        what = f"an erasure needs a reason, of {REASON_MAX} characters at most"
        raise SteadError(what, "--reason", "say why it has to go", code="ledger.reason", exit_code=EXIT_USAGE)
    return reason


def scrubbed(run: Run) -> Run:
    """A run with what its undo needs and what leaves say; its title, labels, reason and error texts are gone."""
    replace = msgspec.structs.replace
    receipts = tuple(replace(one, error=ERASED) if one.error else one for one in run.receipts)
    proposal = replace(run.proposal, title=ERASED, labels={})
    return replace(run, proposal=proposal, reason=ERASED if run.reason else "", receipts=receipts)


def _delete(db: Connection, entry_id: str) -> bool:
    for table, place in _BESIDE:
        where = f"FROM {table} WHERE {place} FROM entries WHERE id = ?)"  # constants
        if db.execute(f"SELECT 1 {where}", (entry_id,)).fetchone() is not None:
            db.execute(f"DELETE {where}", (entry_id,))
            return True
    return False


def _scrub_run(db: Connection, entry_id: str, run_id: str) -> None:
    row = db.execute("SELECT final, data FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return
    if not row[0]:
        raise _in_use(entry_id, f"run {run_id}")
    _put(db, "runs", run_id, scrubbed(msgspec.json.decode(row[1], type=Run)))


def _scrub_finding(db: Connection, entry_id: str, finding_id: str) -> None:
    row = db.execute("SELECT cleared_ms, data FROM findings WHERE id = ?", (finding_id,)).fetchone()
    if row is None:
        return
    if row[0] is None:
        raise _in_use(entry_id, f"finding {finding_id}")
    finding = msgspec.json.decode(row[1], type=Finding)
    _put(db, "findings", finding_id, msgspec.structs.replace(finding, title=ERASED, evidence=(), labels={}))


def _put(db: Connection, table: str, id_: str, value: Any) -> None:
    db.execute(f"UPDATE {table} SET data = ? WHERE id = ?", (msgspec.json.encode(value), id_))  # noqa: S608 - our own names


def _in_use(entry_id: str, what: str) -> SteadError:
    fix = "erase it when that has ended: `stead runs` and `stead findings` tell"
    return SteadError(f"what lies beside this entry is still in use by {what}", f"entry {entry_id}", fix, code="blob.in-use")
