"""A log as plain files in the layout of C2SP tlog-tiles (v0.1.0): what any C2SP tool reads, and any web server serves.

`checkpoint`, `tile/<L>/<N>` with 256 hashes a tile, `tile/entries/<N>` with the leaves, incomplete ones as `<N>.p/<W>`; beside
them the trust policy and, only when asked for, what is kept beside the leaves: `blobs/<sha256 in hex>` holds salt ‖ data. The
checkpoint is written last, when all that it speaks for is on disk, so an export that was interrupted is still sound.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final, Literal

import msgspec

from stead.ledger import durable, refusals
from stead.ledger.source import LogSource
from stead.ledger.verify import Watch, log_keys, signed_checkpoint
from stead.model.errors import SteadError
from stead.model.ledger_messages import LEAVES_MAX
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.merkle import leaf_hashes
from stead.tlog.note import parse_note
from stead.tlog.strict import Malformed
from stead.tlog.tiles import LEVEL_MAX, WIDTH, TileTree, bundle, tile_path

CHECKPOINT: Final = "checkpoint"
POLICY: Final = "policy.tlog-policy"
COSIGNED: Final = "checkpoint.cosigned"  # the newest that a quorum of witnesses cosigned, if there is one; not part of tlog-tiles
BLOBS: Final = "blobs"
BLOB_MODE: Final = 0o600  # command lines, names, error texts: for the owner
VERIFY: Final = "`stead ledger verify` says what was changed, as far as that can be told"


class Exported(msgspec.Struct, frozen=True):
    """What an export wrote."""

    folder: str
    origin: str
    size: int
    added: int  # entries that were not there before
    files: int
    blobs: int


def export(source: LogSource, folder: Path, *, blobs: bool = False, watch: Watch | None = None) -> Exported:
    """Write the log to a folder, or add to it what is new. SteadError: the folder is another log's, or not this one's past."""
    try:
        return _export(source, folder, blobs, watch)
    except OSError as error:
        what = f"the export can't be written: {error.strerror}"
        raise SteadError(what, str(error.filename or folder), "choose another folder", code="export.unwritable") from error


def _export(source: LogSource, folder: Path, blobs: bool, watch: Watch | None) -> Exported:
    head = source.head()
    _, checkpoint = signed_checkpoint(head.checkpoint, log_keys(head, source.place), source.place)
    before = _before(folder, checkpoint)
    copy = _Copy(source, folder, watch)
    copy.run(before, checkpoint)
    kept = copy.blobs(checkpoint.size) if blobs else 0
    durable.settle(copy.files)
    last = {POLICY: head.policy, COSIGNED: head.cosigned, CHECKPOINT: head.checkpoint}
    if not head.cosigned:
        del last[COSIGNED]
    for name, data in last.items():
        durable.put(folder / name, data)
        durable.settle([folder / name])
    _tidy(folder, before.size if before else 0, checkpoint.size)
    added = checkpoint.size - (before.size if before else 0)
    return Exported(str(folder), checkpoint.origin, checkpoint.size, added, len(copy.files) + len(last), kept)


def _before(folder: Path, newest: Checkpoint) -> Checkpoint | None:
    """The checkpoint of an earlier export to the same folder. Its root is compared with our own; its signature proves no more."""
    place = folder / CHECKPOINT
    if not place.exists():
        return None
    try:
        before = parse_checkpoint(parse_note(place.read_bytes()).text)
    except Malformed as error:
        raise refusals.malformed(str(error), str(place)) from None
    if before.origin != newest.origin:
        raise refusals.foreign(str(place), before.origin, newest.origin)
    if before.size > newest.size:
        raise refusals.rolled_back(str(place), before.size, newest.size, str(folder))
    return before


class _Copy:
    """One run: the tree as it grows, and the files that were written."""

    def __init__(self, source: LogSource, folder: Path, watch: Watch | None) -> None:
        self.source, self.folder, self.watch = source, folder, watch
        self.files: list[Path] = []
        self._leaves: list[bytes] = []  # of the bundle that is not complete yet

    def run(self, before: Checkpoint | None, newest: Checkpoint) -> None:
        """Write every tile and bundle that is new. SteadError: the log is not what was exported, or not what was signed."""
        old = before.size if before else 0
        tree = self._restored(old - old % WIDTH)
        for size in sorted({old, newest.size}):
            self._grow(tree, size, newest.size)
            if before is not None and size == old and tree.root() != before.root:
                refuse = refusals.forked if old == newest.size else refusals.rewritten
                raise refuse(str(self.folder / CHECKPOINT), old, str(self.folder))
        if tree.root() != newest.root:
            raise refusals.altered("the entries do not give the root that was signed", self.source.place, VERIFY)
        for tile in tree.partial():
            self._put(tile.path, tile.hashes)
        if self._leaves:
            self._put(tile_path("entries", newest.size // WIDTH, len(self._leaves)), bundle(self._leaves))

    def blobs(self, size: int) -> int:
        """Write what is kept beside the leaves; how many there are."""
        start = found = 0
        while start < size:
            answer = self.source.blobs(start, min(start + LEAVES_MAX, size))
            for blob in answer.blobs:
                data = blob.salt + blob.data
                path = self.folder / BLOBS / hashlib.sha256(data).hexdigest()
                if not path.exists():
                    durable.put(path, data, BLOB_MODE)
                    self.files.append(path)
                found += 1
            start = answer.end if answer.end > start else size
        return found

    def _restored(self, size: int) -> TileTree:
        """The tree of what was exported completely."""
        try:
            return TileTree.restore(lambda level, index: (self.folder / tile_path(level, index)).read_bytes(), size, [])
        except (OSError, Malformed) as error:
            raise refusals.malformed(f"{error}; export to a new folder", str(self.folder)) from None

    def _grow(self, tree: TileTree, size: int, last: int) -> None:
        while tree.size < size:
            room = WIDTH - len(self._leaves)
            leaves = [entry.leaf for entry in self.source.leaves(tree.size, min(tree.size + room, size))]
            if not leaves:
                raise refusals.truncated(last, tree.size, self.source.place)
            self._leaves += leaves
            for tile in tree.append(leaf_hashes(leaves)):
                self._put(tile.path, tile.hashes)
            if len(self._leaves) == WIDTH:
                self._put(tile_path("entries", tree.size // WIDTH - 1), bundle(self._leaves))
                self._leaves = []
            if self.watch is not None:
                self.watch(tree.size, last)

    def _put(self, path: str, data: bytes) -> None:
        durable.put(self.folder / path, data)
        self.files.append(self.folder / path)


def _tidy(folder: Path, old: int, new: int) -> None:
    """Drop the incomplete tiles of the earlier export whose complete ones are there now."""
    level: int | Literal["entries"]
    for level in ("entries", *range(LEVEL_MAX)):
        unit = WIDTH ** (1 if level == "entries" else level + 1)
        if old < unit > new:
            break
        if old // unit != new // unit:
            shutil.rmtree(folder / f"{tile_path(level, old // unit)}.p", ignore_errors=True)
