"""The ledger is for ever: what an entry of each type has said, it goes on saying. `leaves.json` only ever gains lines.

After adding a defaulted field: `python -m tests.flow.test_leaves` writes the file anew. A removal fails here, and there.
What the first release wrote is in `tests/vectors/leaves_v1.json`: its bytes, its tree and what its entries say stay good.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import rfc8785

from stead.flow import receipt, record, runs
from stead.flow.record import Stamp
from stead.ledger.leaf import canonical, leaf
from stead.ledger.strict_leaf import unfit
from stead.model.change import Attempt, Govern, Governed, Hold, Receipt, Run, RunState, Verdict
from stead.model.find import Finding
from stead.model.observe import Fact
from stead.model.policy import Autonomy
from stead.model.record import Entry, StoredEntry
from stead.tlog.merkle import Unproven, check_inclusion, leaf_hash, leaf_hashes
from stead.tlog.tiles import TileTree, inclusion_proof
from tests.flow.kit import ANN, NOW, PREDICTION, approval, decision, dial_step, proposal, stamp

COMMITTED = Path(__file__).with_name("leaves.json")
FIRST = json.loads((Path(__file__).parent.parent / "vectors" / "leaves_v1.json").read_text())
LEAVES = [one["leaf"].encode() for one in FIRST["leaves"]]
GOVERN = Govern("level", "m", "host", 5.0, 2.0, 9.0, used_metric="u", used_subject="host")
GOVERNED = Governed(0, "level", 4.0, 3.0, 9.0, 12, 1.5, "m is 1.5", NOW.unix_ms)
FREE = frozenset(("before", "want", "after", "found", "left", "identity", "within", "ceilings"))  # their members are actuators'


def samples() -> list[Entry]:
    """One entry of every type that the road makes, with every optional part there."""
    finding = Finding("f1", "band|m|s", "band", "m", "host", "warning", "t", 1.5, 0.9, "cores", 1, 2, 3, cleared_ms=4)
    at = stamp()
    waiting, first = runs.start(
        proposal((dial_step(lease_s=9.0, govern=GOVERN),), prediction=PREDICTION), decision("ask", approvals_needed=1), at
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
        record.receipt_made(msgspec.structs.replace(waiting, approvals=(approval(),)), stepped, at),
        record.conflict_seen(waiting, 0, {"level": 5}, at),
        record.run_adjusted(msgspec.structs.replace(waiting, governed=(GOVERNED,)), at),
        record.verdict_made(waiting, Verdict("helped", "r", 1.0, 0.5, 0.7, 1), at),
        record.hold_made(hold, waiting, at.by(ANN)),
        record.hold_lifted(hold, at.by(ANN)),
        receipt_issued(waiting, at),
        record.autonomy_changed(Autonomy(), Autonomy("act", {"host": 1}), at),
        record.agent_started("1", at, boot_id="b"),
        record.agent_stopped("1", at),
        record.fact_seen(Fact("left_alone", "cgroup:/a", "it is protected", recorded=True), at),
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
        governed=(GOVERNED,),
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


def lost(before: dict[str, list[str]], now: dict[str, list[str]]) -> dict[str, set[str]]:
    """Type → what its leaves have said, and say no more."""
    return {type_: gone for type_, names in before.items() if (gone := set(names) - set(now.get(type_, ())))}


def fixed(names: list[str]) -> set[str]:
    """The members that a type always has; what a state consists of is its actuator's business."""
    return {name for name in names if not FREE.intersection(name.split(".")[:-1])}


def test_no_leaf_ever_says_less() -> None:
    assert not lost(json.loads(COMMITTED.read_text()), said())


def test_a_lost_or_renamed_member_is_noticed() -> None:
    now = said()
    changed = {**now, "attempt.made": [name.replace("actuator", "lever") for name in now["attempt.made"]]}
    assert lost(now, changed) == {"attempt.made": {".body.actuator"}}
    assert lost(now, {type_: names for type_, names in now.items() if type_ != "verdict.made"}).keys() == {"verdict.made"}


def test_the_leaves_of_the_first_release_say_nothing_that_is_not_said_any_more() -> None:
    now = said()
    for data in LEAVES:
        value = json.loads(data)
        type_ = "run.waiting" if value["type"].startswith("run.") else value["type"]
        assert not fixed(sorted(members(value, ""))) - {".blob"} - set(now[type_]), value["type"]


def test_every_type_of_the_first_release_is_among_them() -> None:
    types = {one["type"] for one in FIRST["leaves"]}
    assert {f"run.{state}" for state in get_args(RunState)} <= types
    later = {"receipt.issued", "run.adjusted", "metrics.action_recommended", "hold.made", "hold.lifted", "fact.seen"}
    assert set(said()) - types == later


def test_the_leaves_of_the_first_release_are_canonical_and_name_what_is_beside_them() -> None:
    for data, one in zip(LEAVES, FIRST["leaves"], strict=True):
        value = json.loads(data)
        assert rfc8785.dumps(value) == canonical(value) == data and not unfit(data)
        if one["salt"] is not None:
            beside = bytes.fromhex(one["salt"]) + one["data"].encode()
            assert value["blob"] == "sha256:" + hashlib.sha256(beside).hexdigest()
        else:
            assert "blob" not in value


def test_the_leaves_of_the_first_release_are_under_the_root_that_was_computed_then() -> None:
    root, hashes = bytes.fromhex(FIRST["root"]), leaf_hashes(LEAVES)
    tree = TileTree(lambda level, index: b"")
    tree.append(hashes)
    assert tree.root() == root
    for index, one in enumerate(hashes):
        check_inclusion(one, index, len(hashes), inclusion_proof(tree, index), root)
        with pytest.raises(Unproven):
            check_inclusion(leaf_hash(LEAVES[index] + b" "), index, len(hashes), inclusion_proof(tree, index), root)


def test_what_is_new_is_committed() -> None:
    assert json.loads(COMMITTED.read_text()) == said(), "run `python -m tests.flow.test_leaves` and commit leaves.json"


if __name__ == "__main__":
    if gone := lost(json.loads(COMMITTED.read_text()), said()):
        raise SystemExit(f"what a leaf has said it goes on saying: {gone}")
    COMMITTED.write_text(json.dumps(said(), indent=1, sort_keys=True) + "\n")
