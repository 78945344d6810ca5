"""A proof as three files: the leaf's exact bytes, a tlog-proof, and the tlog-policy that says whose signatures count.

They stand alone: who has them needs neither the host nor stead to check them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stead.model.change import Run
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.find import Finding
from stead.model.ledger_messages import ID_MAX, ProofBundle
from stead.model.record import StoredEntry
from stead.tlog.checkpoint import parse_checkpoint
from stead.tlog.keys import VerifierKey
from stead.tlog.note import parse_note
from stead.tlog.policy import LogLine, TrustPolicy, check_checkpoint, format_policy
from stead.tlog.proof import TlogProof, format_proof
from stead.tlog.strict import Malformed

RECEIPT = "receipt.issued"
NO_WITNESS = TrustPolicy((), (), (), "none")


class Record(Protocol):
    """What is needed of a ledger to prove one of its entries."""

    @property
    def checkpoint(self) -> bytes:
        """The newest signed checkpoint."""
        ...

    def entry(self, prefix: str) -> StoredEntry | None:
        """One entry by its id, or a unique beginning or ending of it."""
        ...

    def run(self, prefix: str) -> Run | None:
        """One run likewise."""
        ...

    def finding(self, prefix: str) -> Finding | None:
        """One finding likewise."""
        ...

    def runs_of(self, finding_id: str) -> Sequence[Run]:
        """The runs that answered a finding, newest first."""
        ...

    def entries(self, limit: int = ..., subject: str = ..., types: Sequence[str] = ...) -> Sequence[StoredEntry]:
        """The newest entries about a subject."""
        ...

    def proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion proof of a leaf in the tree of a size."""
        ...


def policy_of(keys: Sequence[VerifierKey], witnesses: TrustPolicy = NO_WITNESS) -> TrustPolicy:
    """The trust policy of a log's proofs: its keys, and the witnesses and quorum of the policy that its operator chose."""
    return witnesses._replace(logs=tuple(LogLine(key) for key in keys))


def bundle(record: Record, thing: str, policy: TrustPolicy, cosigned: bytes | None = None) -> ProofBundle:
    """Prove an entry, or what speaks for a run or a finding. `cosigned` is the newest checkpoint with the policy's quorum.

    SteadError: nothing has that id, or several things have.
    """
    entry = speaks_for(record, thing)
    index = entry.seq - 1
    checkpoint, note = record.checkpoint, ""
    if policy.quorum != NO_WITNESS.quorum:
        if cosigned is not None and _covers(cosigned, index, policy):
            checkpoint = cosigned
        else:
            note = "no quorum of witnesses has cosigned a checkpoint that covers this entry yet"
    size = _size(checkpoint)
    if index >= size:
        raise SteadError("this entry is not under a signed checkpoint yet", entry.id, "try again", code="proof.too-new")
    proof = TlogProof(index, tuple(record.proof(index, size)), checkpoint)
    return ProofBundle(entry.id, index, entry.leaf, format_proof(proof), format_policy(policy), note)


def speaks_for(record: Record, thing: str) -> StoredEntry:
    """The entry of this id; for a run or finding the receipt, else what was recorded of it last. SteadError: none, or several."""
    if len(thing) > ID_MAX:
        what = f"nothing has an id of {len(thing)} characters"
        raise SteadError(what, "", "give an id, or its beginning", code="entry.id", exit_code=EXIT_USAGE)
    run, finding = record.run(thing), record.finding(thing)
    if run is not None and finding is not None:
        what = f"a run and a finding begin or end with {thing}"
        raise SteadError(what, "", "give more of the id", code="entry.ambiguous", exit_code=EXIT_USAGE)
    found = None
    if run is not None:
        found = _receipt(record, [run.id]) or _newest(record, run.id)
    elif finding is not None:
        found = _receipt(record, [one.id for one in record.runs_of(finding.id)]) or _newest(record, finding.id)
    else:
        found = record.entry(thing)
    if found is None:
        what = f"no entry, run or finding has an id that begins or ends with {thing!r}"
        raise SteadError(what, "", "`stead ledger tail`, `stead runs` and `stead findings` list them", code="entry.unknown")
    return found


def _receipt(record: Record, runs: Sequence[str]) -> StoredEntry | None:
    return next((found[0] for run in runs if (found := record.entries(1, run, (RECEIPT,)))), None)


def _newest(record: Record, subject: str) -> StoredEntry | None:
    found = record.entries(1, subject)
    return found[0] if found else None


def _size(checkpoint: bytes) -> int:
    return parse_checkpoint(parse_note(checkpoint).text).size


def _covers(checkpoint: bytes, index: int, policy: TrustPolicy) -> bool:
    try:
        return check_checkpoint(parse_note(checkpoint), policy).checkpoint.size > index
    except Malformed:
        return False
