"""Recompute a log from its leaves, and refuse by name what does not hold.

Nothing but bytes is taken from the source: the root is computed anew from every leaf and compared with what was signed;
earlier checkpoints that a person or a witness kept are compared with the roots of the same leaves. The first thing that does
not hold is raised as a SteadError, named as in `stead.ledger.refusals`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from stead.ledger import refusals
from stead.ledger.gone import Erasure, Gone, unexplained
from stead.ledger.key_chain import KeyChain
from stead.ledger.source import LogSource
from stead.ledger.span import Seen, look
from stead.model.errors import SteadError
from stead.model.ledger_messages import LedgerHead
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import VerifierKey, parse_vkey
from stead.tlog.merkle import HASH_BYTES, Unproven
from stead.tlog.note import Note, parse_note, verified
from stead.tlog.policy import NONE, LogLine, TrustPolicy, check_checkpoint, parse_policy
from stead.tlog.strict import Malformed, encode64
from stead.tlog.tiles import WIDTH, Tile, TileTree

SPAN: Final = 64 * WIDTH
Looks = Callable[[Sequence[tuple[int, int]]], Iterable[Seen]]
"""Looks at stretches of entries, [start, end) of their indexes, and gives what was seen of each, in their order."""
Watch = Callable[[int, int], None]
"""Told of progress: leaves done, leaves in all."""


class Kept(NamedTuple):
    """A checkpoint that somebody kept: where it was found, and the signed note."""

    place: str
    note: bytes


class Compared(msgspec.Struct, frozen=True):
    """An earlier checkpoint that the log was found to continue."""

    place: str
    size: int


class Verification(msgspec.Struct, frozen=True):
    """What was found to hold. `pinned`: the key came from the reader; else it is the log's own word for itself."""

    place: str
    origin: str
    size: int
    root: str  # base64
    signed_by: tuple[str, ...]  # vkeys
    pinned: bool
    rotations: int  # changes of the key, each signed by the key before
    tiles: int  # stored tiles that were compared
    deep: bool  # also every column, the form of every leaf, and every blob
    blobs: int = 0  # that match their leaf
    erased: int = 0  # that their leaf names and that are gone
    continues: tuple[Compared, ...] = ()
    beside: tuple[Compared, ...] = ()  # likewise, of checkpoints that lay beside the log
    witnessed: int = 0  # entries under the newest checkpoint that a quorum of witnesses cosigned


def verify(
    source: LogSource,
    *,
    pins: Sequence[VerifierKey] = (),
    kept: Sequence[Kept] = (),
    beside: Sequence[Kept] = (),
    policy: TrustPolicy | None = None,
    deep: bool = False,
    watch: Watch | None = None,
    looks: Looks | None = None,
    copied: bool = False,
) -> Verification:
    """Recompute the whole log. SteadError, named by what does not hold; see the module's description.

    `pins` are keys of the log that the reader has from elsewhere. `kept` are earlier checkpoints; of those that only lay
    `beside` the log another log's are passed over. `policy` is the reader's own: its logs are pinned too, and a quorum of its
    witnesses must have cosigned a checkpoint that the log continues. `deep` also checks every column, that each leaf is
    canonical, and every blob: one that is not there must have been erased by an order. Of a log that was `copied`, newer blobs
    than any that is there were not copied. `looks` does the looking where it is not to be done here, with as much care.
    """
    head = source.head()
    pins = [*pins, *(log.key for log in (policy.logs if policy else ()))]
    known = [*pins, *(key for key in log_keys(head, source.place) if key not in pins)]
    note, checkpoint = signed_checkpoint(head.checkpoint, known, source.place)
    cosigned = _cosigned(head, policy, known, source.place)
    beside = [*cosigned, *(one for one in beside if _is_of(one, checkpoint.origin))]
    older = [(one, kept_checkpoint(one, checkpoint)) for one in (*kept, *beside)]
    walk = _Walk(source, looks or (lambda spans: (look(source, *span, deep=deep) for span in spans)), watch)
    walk.to({*(one.size for _, one in older if one.size < checkpoint.size), checkpoint.size}, checkpoint.size)
    _compare_root(walk, checkpoint)
    trusted = walk.keys.trusted(pins or known[-1:])
    signers = [one.key for one in verified(note, known) if one.key in trusted]
    if not signers:
        who = "the pinned key" if pins else known[-1].text
        raise refusals.unsigned(f"{who} neither signed this checkpoint nor signed for the key that did", source.place)
    for file, one in older:
        _signed_before(file, trusted, known)
        _compare_kept(file.place, one, walk.roots.get(one.size), checkpoint, source.place)
    _nothing_beyond(source, checkpoint.size)
    _nothing_lost(walk, checkpoint, list(trusted), copied)
    return Verification(
        source.place,
        checkpoint.origin,
        checkpoint.size,
        encode64(checkpoint.root),
        tuple(key.text for key in signers),
        bool(pins),
        len(walk.keys.rotations),
        walk.tiles,
        deep,
        walk.blobs,
        walk.erased,
        tuple(Compared(file.place, one.size) for file, one in older[: len(kept)]),
        tuple(Compared(file.place, one.size) for file, one in older[len(kept) :]),
        older[len(kept)][1].size if cosigned else 0,
    )


def log_keys(head: LedgerHead, place: str) -> list[VerifierKey]:
    """Every key that a log says is or was its own, the newest first. SteadError when one can't be read."""
    vkeys = dict.fromkeys([*head.vkeys, *(key.vkey for key in head.keys)])
    try:
        return [parse_vkey(text) for text in vkeys]
    except Malformed as error:
        raise refusals.malformed(str(error), place) from None


def signed_checkpoint(data: bytes, keys: Sequence[VerifierKey], place: str) -> tuple[Note, Checkpoint]:
    """A checkpoint that at least one of these keys signed. SteadError `ledger.unsigned` otherwise."""
    try:
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
        signers = verified(note, [key for key in keys if key.name == checkpoint.origin])
    except Malformed as error:
        raise refusals.unsigned(f"the checkpoint is not to be believed: {error}", place) from None
    if not signers:
        raise refusals.unsigned(f"no key that is trusted here signed this checkpoint of {checkpoint.origin}", place)
    return note, checkpoint


def _signed_before(kept: Kept, trusted: Collection[VerifierKey], known: Sequence[VerifierKey]) -> None:
    """Raise `ledger.unsigned` for a kept checkpoint without a trusted signature; of an earlier key, if the log `known` it."""
    try:
        signed_checkpoint(kept.note, list(trusted), kept.place)
    except SteadError:
        note, checkpoint = signed_checkpoint(kept.note, known, kept.place)
        signer = next(one.key for one in verified(note, known) if one.key.name == checkpoint.origin)
        raise refusals.signed_by_earlier(signer.text, kept.place) from None


def _cosigned(head: LedgerHead, policy: TrustPolicy | None, keys: Sequence[VerifierKey], place: str) -> list[Kept]:
    """The newest checkpoint that a quorum of witnesses has cosigned: by the reader's policy, else by the log's own word."""
    try:
        trusted = policy or parse_policy(head.policy)
        if not head.cosigned and (policy is None or policy.quorum == NONE):
            return []
        if not head.cosigned:
            raise Unproven("nobody has cosigned any checkpoint of it")
        logs = tuple(LogLine(key) for key in dict.fromkeys(keys))
        accepted = check_checkpoint(parse_note(head.cosigned), trusted._replace(logs=logs))
    except Malformed as error:
        why = f"the witnesses' cosignatures are not what the policy asks for: {error}"
        fix = "have its newest checkpoint cosigned there (`stead ledger witness`); what they refuse to cosign, believe nothing of"
        raise refusals.unsigned(why, place, fix) from None
    names = " and ".join(name for name, _ in accepted.witnesses)
    return [Kept(f"what {names} cosigned", head.cosigned)] if names else []


def _is_of(kept: Kept, origin: str) -> bool:
    try:
        return parse_checkpoint(parse_note(kept.note).text).origin == origin
    except Malformed:
        return False


def kept_checkpoint(kept: Kept, newest: Checkpoint) -> Checkpoint:
    """A kept checkpoint, its signature not looked at yet. SteadError: it is none, or another log's."""
    try:
        one = parse_checkpoint(parse_note(kept.note).text)
    except Malformed as error:
        raise refusals.unsigned(f"it is no signed checkpoint: {error}", kept.place) from None
    if one.origin != newest.origin:
        raise refusals.foreign(kept.place, one.origin, newest.origin)
    return one


def _compare_root(walk: _Walk, checkpoint: Checkpoint) -> None:
    if walk.roots[checkpoint.size] == checkpoint.root:
        return
    first = checkpoint.size - checkpoint.size % WIDTH + 1 if walk.tiles or checkpoint.size < WIDTH else 1
    what = f"entries {first} to {checkpoint.size} do not give the root that was signed: at least one was changed"
    fix = "" if walk.tiles or checkpoint.size < WIDTH else "verify again when no agent runs: the store itself can say which one"
    raise refusals.altered(what, walk.source.place, fix)


def _compare_kept(name: str, kept: Checkpoint, root: bytes | None, newest: Checkpoint, place: str) -> None:
    """`root` is that of as many entries as `kept` speaks of, as they are now; None when there are not so many."""
    if root is None:
        raise refusals.rolled_back(name, kept.size, newest.size, place)
    if kept.root != root:
        refuse = refusals.forked if kept.size == newest.size else refusals.rewritten
        raise refuse(name, kept.size, place)


def _nothing_beyond(source: LogSource, size: int) -> None:
    """An entry beyond the checkpoint is one that nobody signed for, unless the log has just grown."""
    beyond = source.leaves(size, size + 1)
    head = source.head()
    if (beyond or head.size > size) and parse_checkpoint(parse_note(head.checkpoint).text).size <= size:
        number = size + 1 if beyond else head.size
        raise refusals.altered(f"entry {number} is in the ledger, and no checkpoint was ever signed for it", source.place)


def _nothing_lost(walk: _Walk, checkpoint: Checkpoint, trusted: Sequence[VerifierKey], copied: bool) -> None:
    """What is gone from beside a leaf was erased, and an entry says so: one of those looked at, or one that came meanwhile."""
    lost = walk.lost(copied)
    if lost is None:
        return
    _, newest = signed_checkpoint(walk.source.head().checkpoint, trusted, walk.source.place)
    if newest.size > checkpoint.size:
        walk.to({newest.size}, newest.size)
        _compare_root(walk, newest)
        lost = walk.lost(copied)
    if lost is not None:
        what = "what its leaf says is kept beside it is gone, and no entry says that it was erased"
        raise refusals.altered(what, f"{walk.source.place}, entry {lost.seq}")


class _Walk:
    """One pass over all leaves: the tree they give, compared with what the log keeps of it."""

    def __init__(self, source: LogSource, looks: Looks, watch: Watch | None) -> None:
        self.source, self.looks, self.watch = source, looks, watch
        self.tree = TileTree()
        self.roots: dict[int, bytes] = {}
        self.keys = KeyChain()
        self.gone: list[Gone] = []
        self.erasures: list[Erasure] = []
        self.tiles = self.blobs = self.erased = self.newest_blob = 0

    def to(self, sizes: set[int], last: int) -> None:
        """Walk on to the last size, and note the root at each."""
        ends = sorted(end for end in {*sizes, *range(SPAN, last, SPAN)} if end >= self.tree.size)
        spans = list(zip([self.tree.size, *ends], ends, strict=False))
        for (start, end), seen in zip(spans, self.looks(spans), strict=True):
            for tile in self.tree.append(seen.hashes):
                self._compare_tile(tile)
            for entry in seen.rotated:
                self.keys.add(entry, self.source.place)
            self.blobs, self.erased = self.blobs + seen.blobs, self.erased + seen.erased
            self.gone += seen.gone
            self.erasures += seen.erasures
            self.newest_blob = max(self.newest_blob, seen.newest_blob)
            if len(seen.hashes) < end - start:
                raise refusals.truncated(last, self.tree.size, self.source.place)
            if end in sizes:
                self.roots[end] = self.tree.root()
            if self.watch is not None:
                self.watch(end, last)
        for tile in self.tree.partial():
            self._compare_tile(tile)

    def lost(self, copied: bool) -> Gone | None:
        """The first entry whose blob is gone, and was not erased. Of a copy only among those that were copied."""
        gone = [one for one in self.gone if one.seq < self.newest_blob] if copied else self.gone
        return unexplained(gone, self.erasures)

    def _compare_tile(self, tile: Tile) -> None:
        """Compare with what the log keeps: where they differ is where a leaf was changed."""
        kept = self.source.tile(tile.level, tile.index, tile.width)
        if kept is None:
            return
        self.tiles += 1
        if kept == tile.hashes:
            return
        if tile.level or len(kept) != len(tile.hashes):
            raise refusals.altered("a stored tile of hashes is not what the entries give", f"{self.source.place}: {tile.path}")
        step = HASH_BYTES
        place = next(i for i in range(tile.width) if kept[i * step : (i + 1) * step] != tile.hashes[i * step : (i + 1) * step])
        seq = tile.index * WIDTH + place + 1
        raise refusals.altered("its leaf is not the one that the tree has the hash of", f"{self.source.place}, entry {seq}")
