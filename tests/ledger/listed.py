"""A log as a list of leaves with its own key, signed anew whenever it is asked: what an owner of the key could hand over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from stead.ledger.bundle import NO_WITNESS, policy_of
from stead.ledger.keys import rotation_text
from stead.ledger.leaf import iso
from stead.ledger.verify import Kept
from stead.model.ledger_messages import BlobList, LedgerHead, StoredBlob
from stead.model.record import StoredEntry
from stead.tlog.checkpoint import Checkpoint
from stead.tlog.keys import ED25519, SigningKey, new_signing_key
from stead.tlog.merkle import leaf_hash
from stead.tlog.note import format_note, sign_note
from stead.tlog.policy import TrustPolicy, format_policy
from stead.tlog.strict import encode64
from tests.ledger.kit import tree_hash

ORIGIN = "host1/ledger"
T0 = 1_760_000_000_000


def key(number: int, origin: str = ORIGIN) -> SigningKey:
    return new_signing_key(origin, ED25519, bytes([number]) * 32)


def leaf(seq: int, **more: Any) -> bytes:
    """A leaf as stead writes it; `more` replaces members."""
    members: dict[str, Any] = {
        "actor": {"id": "stead", "kind": "agent"},
        "body": {"about": f"subject {seq}", "n": seq},
        "host": "host1",
        "id": f"e{seq:04d}",
        "prev_cause": "",
        "ts": iso(T0 + seq),
        "type": "test.noted",
        "v": 1,
    }
    return json.dumps({**members, **more}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def entry(seq: int, data: bytes | None = None, **more: Any) -> StoredEntry:
    """A stored entry whose columns say what its leaf says."""
    data = leaf(seq, **more) if data is None else data
    read = json.loads(data)
    return StoredEntry(seq, read["id"], read["type"], read["body"].get("about", ""), T0 + seq, data)


def rotated(seq: int, old: SigningKey, new: SigningKey, *, signers: tuple[SigningKey, SigningKey] | None = None) -> StoredEntry:
    """An entry `key.rotated`; `signers` sign it in place of the two keys themselves."""
    first, second = signers or (old, new)
    text = rotation_text(old.name, old.verifier.text, new.verifier.text)
    body = {
        "about": old.name,
        "new": new.verifier.text,
        "new_signature": encode64(second.sign(text)),
        "old": old.verifier.text,
        "old_signature": encode64(first.sign(text)),
        "overlap_until_ms": 1,
    }
    return entry(seq, type="key.rotated", body=body)


class Listed:
    """A source that hands over what it was given. `shows_tiles`: also the tiles of `tiles_of`, as a store would."""

    place = "the list"
    keeps_blobs = True

    def __init__(
        self,
        entries: Sequence[StoredEntry],
        keys: Sequence[SigningKey] = (key(1),),
        *,
        signers: Sequence[SigningKey] | None = None,
        tiles_of: Sequence[StoredEntry] | None = None,
        blobs: dict[int, tuple[bytes, bytes]] | None = None,
        witnesses: TrustPolicy = NO_WITNESS,
        page: int = 100,
    ) -> None:
        self.entries, self.keys = list(entries), keys
        self.signers = keys[:1] if signers is None else signers
        self.tiles_of, self.kept, self.page = tiles_of, blobs or {}, page
        self.witnesses = witnesses
        self.note = self.signed(len(self.entries))
        self.cosigned = b""

    def signed(self, size: int) -> bytes:
        """The checkpoint of its first entries."""
        root = tree_hash([one.leaf for one in self.entries[:size]])
        return format_note(sign_note(Checkpoint(self.keys[0].name, size, root).text, self.signers))

    def checkpoint(self, size: int, name: str = "kept.note") -> Kept:
        """The same, as somebody kept it."""
        return Kept(name, self.signed(size))

    def head(self) -> LedgerHead:
        return LedgerHead(
            self.note,
            tuple(one.verifier.text for one in self.keys),
            len(self.entries),
            self.keys[0].name,
            format_policy(policy_of([one.verifier for one in self.keys], self.witnesses)),
            cosigned=self.cosigned,
        )

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        return self.entries[start : min(end, start + self.page)]

    def blobs(self, start: int, end: int) -> BlobList:
        end = min(end, start + 7)
        found = [StoredBlob(seq, *self.kept[seq]) for seq in range(start + 1, end + 1) if seq in self.kept]
        return BlobList(tuple(found), end)

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        if self.tiles_of is None or level or width < 256:
            return None
        return b"".join(leaf_hash(one.leaf) for one in self.tiles_of[index * 256 : (index + 1) * 256])


def log(size: int, **more: Any) -> Listed:
    """A sound log."""
    return Listed([entry(seq) for seq in range(1, size + 1)], **more)


def changed(one: StoredEntry, **columns: Any) -> StoredEntry:
    return msgspec.structs.replace(one, **columns)


def blob_ref(salt: bytes, data: bytes) -> str:
    return "sha256:" + hashlib.sha256(salt + data).hexdigest()
