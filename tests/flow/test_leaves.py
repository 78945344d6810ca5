"""The ledger is for ever: what an entry of each type has said, it goes on saying. `leaves.json` only ever gains lines.

After adding a defaulted field: `python -m tests.flow.test_leaves` writes the file anew. A removal fails here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from stead.flow import receipt, record, runs
from stead.flow.record import Stamp
from stead.ledger.leaf import leaf
from stead.model.change import Attempt, Hold, Receipt, Run, Verdict
from stead.model.find import Finding
from stead.model.policy import Autonomy
from stead.model.record import Entry, StoredEntry
from tests.flow.kit import ANN, NOW, PREDICTION, approval, decision, dial_step, proposal, stamp

COMMITTED = Path(__file__).with_name("leaves.json")


def samples() -> list[Entry]:
    """One entry of every type that the road makes, with every optional part there."""
    finding = Finding("f1", "band|m|s", "band", "m", "host", "warning", "t", 1.5, 0.9, "cores", 1, 2, 3, cleared_ms=4)
    at = stamp()
    waiting, first = runs.start(
        proposal((dial_step(lease_s=9.0),), prediction=PREDICTION), decision("ask", approvals_needed=1), at
    )
    attempt = Attempt("t1", "run-1", 0, "forward", {"level": 1}, {"level": 9}, NOW.unix_ms)
    hold = Hold("turn", "dial:a@1", "f1", ANN, NOW.unix_ms)
    stepped = Receipt("t1", 0, "forward", "done", {"level": 9}, "", NOW.unix_ms, 0.1, 0.2, ("turn a to 9",))
    return [
        record.finding_opened(finding, at),
        record.finding_cleared(finding, at),
        *first,
        record.policy_checked("run-1", "deny", ("paused",), "p1", at),
        record.approval_given(waiting, approval(), at),
        record.approval_denied(waiting, "no", at.by(ANN)),
        record.approval_expired(waiting, "late", at),
        record.attempt_made(waiting, attempt, at, ("yes",)),
        record.receipt_made(waiting, stepped, at),
        record.conflict_seen(waiting, 0, {"level": 5}, at),
        record.verdict_made(waiting, Verdict("helped", "r", 1.0, 0.5, 0.7, 1), at),
        record.hold_made(hold, waiting, at.by(ANN)),
        record.hold_lifted(hold, at.by(ANN)),
        receipt_issued(waiting, at),
        record.autonomy_changed(Autonomy(), Autonomy("act", {"host": 1}), at),
        record.agent_started("1", at),
        record.agent_stopped("1", at),
        record.snapshots_taken((), 0, 1, at),
    ]


def receipt_issued(run: Run, at: Stamp) -> Entry:
    """A receipt with everything in it that one can have."""
    finding = Finding("finding-1", "band|m|s", "band", "m", "host", "warning", "t", 1.5, 0.9, "cores", 1, 2, 3)
    opened = record.finding_opened(finding, at)
    stored = StoredEntry(1, opened.id, opened.type, opened.subject, opened.ts_ms, leaf(opened, b"salt")[0])
    done = msgspec.structs.replace(
        run,
        state="held",
        approvals=(approval(used_ms=1),),
        receipts=(Receipt("t1", 0, "forward", "done", {"level": 9}, "", NOW.unix_ms, 0.1, 0.2, ("turn a to 9",)),),
        verdict=Verdict("helped", "r", 1.0, 0.5, 0.7, 1),
    )
    return receipt.issued(done, [record.run_moved(done, at)], [stored], 3, at.new_id)


def members(value: Any, path: str) -> set[str]:
    """Every member name with its path; lists count as one element."""
    if isinstance(value, dict):
        return {path}.union(*(members(item, f"{path}.{name}") for name, item in value.items()))
    if isinstance(value, list):
        return {path}.union(*(members(item, f"{path}[]") for item in value))
    return {path}


def said() -> dict[str, list[str]]:
    """Type → what its leaf says."""
    leaves = ((entry.type, json.loads(leaf(entry, b"salt")[0])) for entry in samples())
    return {type_: sorted(members(value, "")) for type_, value in leaves}


def test_no_leaf_ever_says_less() -> None:
    now = said()
    for type_, names in json.loads(COMMITTED.read_text()).items():
        assert not set(names) - set(now[type_]), f"{type_} lost members"


def test_what_is_new_is_committed() -> None:
    assert json.loads(COMMITTED.read_text()) == said(), "run `python -m tests.flow.test_leaves` and commit leaves.json"


if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(said(), indent=1, sort_keys=True) + "\n")
