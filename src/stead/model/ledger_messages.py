"""What is asked and answered about the ledger: its checkpoint, leaves, blobs, proofs and keys.

A verifier takes nothing on trust from these answers: it gets exact bytes, and recomputes. All are part of the unions in
`stead.model.messages`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stead.model.record import StoredEntry

LEAVES_MAX: Final = 512  # leaves in one answer
ID_MAX: Final = 200  # characters of what is asked for by id; a UUID has 36


class GetCheckpoint(msgspec.Struct, frozen=True, tag="checkpoint"):
    """→ LedgerHead: the newest signed checkpoint that is durable, and the keys of the log."""


class GetLeaves(msgspec.Struct, frozen=True, tag="leaves"):
    """→ LeafList over indexes [start, end): at most 512, and fewer where they are large; empty beyond the end."""

    start: int
    end: int


class GetBlobs(msgspec.Struct, frozen=True, tag="blobs"):
    """→ BlobList over the leaves of indexes [start, end): what is kept beside them and was not erased."""

    start: int
    end: int


class SearchEntries(msgspec.Struct, frozen=True, tag="search"):
    """→ EntryPage, newest first: entries that meet all that is given. One answer looks at a bounded stretch.

    `text` is looked for in leaf and blob, whatever its case; `types` is a glob; `subject` may be the start of an id;
    `actor` is an id or a kind; times are Unix milliseconds, [since, until). Only entries with `after` < seq < `before` are
    looked at (before 0: no bound).
    """

    text: str = ""
    types: str = ""
    subject: str = ""
    actor: str = ""
    since_ms: int = 0
    until_ms: int = 0
    after: int = 0
    before: int = 0
    limit: int = 50


class GetProof(msgspec.Struct, frozen=True, tag="proof"):
    """→ ProofBundle of an entry, or of what speaks for a run or finding; the start or end of an id is enough."""

    id: str


class RotateKey(msgspec.Struct, frozen=True, tag="rotate-key"):
    """→ LedgerHead: the log gets a new key, which the old one signs for. A person must order it."""


class EraseBlob(msgspec.Struct, frozen=True, tag="erase"):
    """→ LeafList with the entry that says so: what lies beside one entry is erased for good. A person must order it.

    `id` is the entry's, or a part that only this one begins or ends with. `reason` is kept beside the new entry.
    """

    id: str
    reason: str


class LogKey(msgspec.Struct, frozen=True):
    """One key of the log: its verifier key, when it began, and how its private half is kept."""

    vkey: str
    since_ms: int
    active: bool  # does it sign checkpoints now?
    place: str = ""  # file of the private key
    sealed: bool = False  # by systemd-creds to this machine


class LedgerHead(msgspec.Struct, frozen=True, tag="checkpoint"):
    """Answer to GetCheckpoint and RotateKey. `policy` is the trust policy file that goes with proofs of this log.

    `vkeys` are those that sign now, `keys` all that ever did, newest first. `cosigned` is the newest checkpoint that a quorum of
    its witnesses has cosigned; empty where there is none. `witness` is the vkey by which this host cosigns other logs.
    """

    checkpoint: bytes
    vkeys: tuple[str, ...]
    size: int
    origin: str
    policy: bytes
    keys: tuple[LogKey, ...] = ()
    cosigned: bytes = b""
    witness: str = ""


class LeafList(msgspec.Struct, frozen=True, tag="leaves"):
    """Answer to GetLeaves: entries with their exact leaf bytes, in order from `start`."""

    entries: tuple[StoredEntry, ...]


class StoredBlob(msgspec.Struct, frozen=True):
    """What is kept beside the leaf of entry `seq`; sha256(salt ‖ data) is what the leaf calls its blob."""

    seq: int
    salt: bytes
    data: bytes


class BlobList(msgspec.Struct, frozen=True, tag="blobs"):
    """Answer to GetBlobs. It speaks of the indexes before `end`, which is less than what was asked for where blobs are large."""

    blobs: tuple[StoredBlob, ...]
    end: int


class EntryPage(msgspec.Struct, frozen=True, tag="search"):
    """Answer to SearchEntries. `more`: ask again with this as `before`; 0 when all has been looked at."""

    entries: tuple[StoredEntry, ...]
    more: int = 0


class ProofBundle(msgspec.Struct, frozen=True, tag="proof"):
    """Answer to GetProof: three files that a stranger checks offline, and the place of the entry (`index` from 0)."""

    id: str
    index: int
    leaf: bytes
    proof: bytes  # c2sp.org/tlog-proof@v1
    policy: bytes  # c2sp.org/tlog-policy
    note: str = ""  # what the proof lacks, in words: "no witness has cosigned it yet"
