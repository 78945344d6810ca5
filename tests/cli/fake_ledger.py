"""The ledger of the fake agent: a few real leaves under a really signed checkpoint, so that what is shown can be checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stead.ledger.bundle import policy_of
from stead.model import ledger_messages as lm
from stead.model.errors import Problem
from stead.model.record import StoredEntry
from stead.tlog.merkle import leaf_hash
from stead.tlog.policy import format_policy
from stead.tlog.proof import TlogProof, format_proof
from stead.tlog.tiles import TileTree, inclusion_proof
from tests.ledger.listed import ORIGIN, Listed, blob_ref, entry, key, rotated

SALT = b"s" * 16
DETAIL = b'{"title":"sh has used 1.0 cores"}'
ENTRY_ID = "0199c7a0-0001-7000-8000-0000000000%02x"


def ledger(finding_id: str, run_id: str) -> Listed:
    """A finding, a proposal and a decision with their blobs, by a key that was changed once."""
    kinds = [("agent.started", "agent"), ("finding.opened", finding_id), ("proposal.made", run_id), ("decision.made", run_id)]
    entries = [
        entry(seq, id=ENTRY_ID % seq, type=kind, body={"about": about}, **({"blob": blob_ref(SALT, DETAIL)} if seq == 2 else {}))
        for seq, (kind, about) in enumerate(kinds, 1)
    ]
    return Listed([*entries, rotated(5, key(1), key(2))], (key(2), key(1)), blobs={2: (SALT, DETAIL)})


def proof_of(log: Listed, one: StoredEntry) -> lm.ProofBundle:
    """A true proof of one of its entries."""
    tree = TileTree()
    tree.append([leaf_hash(each.leaf) for each in log.entries])
    proof = TlogProof(one.seq - 1, tuple(inclusion_proof(tree, one.seq - 1)), log.note)
    policy = format_policy(policy_of([log.keys[0].verifier]))
    return lm.ProofBundle(one.id, one.seq - 1, one.leaf, format_proof(proof), policy)


def answers(log: Listed) -> dict[type[Any], Callable[[Any], Any]]:
    """Request type → answer."""

    def head(_: Any) -> lm.LedgerHead:
        keys = tuple(
            lm.LogKey(one.verifier.text, 1_760_000_000_000 - number, not number, "" if number else "/state/keys/x.key")
            for number, one in enumerate(log.keys)
        )
        given = log.head()
        return lm.LedgerHead(given.checkpoint, given.vkeys[:1], given.size, ORIGIN, given.policy, keys)

    def search(ask: lm.SearchEntries) -> lm.EntryPage:
        found = [one for one in reversed(log.entries) if one.seq > ask.after and ask.subject in one.subject]
        found = [one for one in found if ask.text.encode() in one.leaf and (not ask.before or one.seq < ask.before)]
        return lm.EntryPage(tuple(found[:1]), found[0].seq if len(found) > 1 else 0)

    def proof(ask: lm.GetProof) -> lm.ProofBundle | Problem:
        found = [one for one in log.entries if ask.id in (one.id, one.subject)]
        return proof_of(log, found[-1]) if found else Problem(f"nothing is called {ask.id}", "", "look", "entry.unknown")

    return {
        lm.GetCheckpoint: head,
        lm.GetLeaves: lambda ask: lm.LeafList(tuple(log.leaves(ask.start, ask.end))),
        lm.GetBlobs: lambda ask: log.blobs(ask.start, ask.end),
        lm.SearchEntries: search,
        lm.GetProof: proof,
        lm.RotateKey: head,
        lm.EraseBlob: lambda ask: lm.LeafList((entry(6, type="blob.erased", body={"about": ask.id}),)),
    }
