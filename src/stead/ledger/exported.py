"""An exported folder as a source for verification: everything in it is read anew, and every file must belong to it.

Entries have no columns there, so what a row says is what its leaf says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from stead.ledger import bounded, refusals
from stead.ledger.export import BLOBS, CHECKPOINT, COSIGNED, POLICY
from stead.ledger.leaf import iso
from stead.ledger.strict_leaf import about, heads_of
from stead.ledger.verify import Kept, Looks, Verification, Watch, verify
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import BlobList, LedgerHead, StoredBlob
from stead.model.record import StoredEntry
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import VerifierKey
from stead.tlog.note import parse_note
from stead.tlog.policy import TrustPolicy, parse_policy
from stead.tlog.strict import Malformed
from stead.tlog.tiles import ENTRY_MAX_BYTES, WIDTH, tile_path, unbundle

SALT_BYTES: Final = 16
FILE_MAX_BYTES: Final = WIDTH * (2 + ENTRY_MAX_BYTES)  # of the largest entry bundle; what else must be there is smaller
BLOB_MAX_BYTES: Final = 1 << 26
TILE: Final = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<index>(x[0-9]{3}/)*[0-9]{3})(\.p/(?P<width>[0-9]{1,3}))?"
)
MISPLACED: Final = "this file is no part of the export, or not what it was"


def verify_export(
    folder: Path,
    *,
    pins: Sequence[VerifierKey] = (),
    kept: Sequence[Kept] = (),
    policy: TrustPolicy | None = None,
    deep: bool = False,
    watch: Watch | None = None,
    looks: Looks | None = None,
) -> Verification:
    """Recompute an exported log, as `verify` does, and look at every file of the folder. SteadError: what does not hold."""
    source = ExportSource(folder)
    found = verify(source, pins=pins, kept=kept, policy=policy, deep=deep, watch=watch, looks=looks, copied=True)
    for name in source.strays():
        raise refusals.altered(MISPLACED, str(folder / name), "export to a new folder, and compare")
    return found


class ExportSource:
    """A folder in the layout of tlog-tiles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / CHECKPOINT).is_file():
            what = f"there is no exported ledger in {folder}"
            raise SteadError(what, "", "`stead ledger export DIR` makes one", code="export.missing", exit_code=EXIT_USAGE)
        self._size = self._checkpoint().size
        self._bundle: tuple[int, list[bytes]] = (-1, [])

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def keeps_blobs(self) -> bool:
        """Only where they were exported too."""
        return (self.folder / BLOBS).is_dir()

    def head(self) -> LedgerHead:
        """Checkpoint and policy as they lie there; the keys are the policy's."""
        note, policy = self._read(CHECKPOINT), self._read(POLICY)
        checkpoint = self._checkpoint()
        try:
            read = parse_policy(policy) if policy else TrustPolicy((), (), (), "none")
        except Malformed as error:
            raise refusals.malformed(str(error), str(self.folder / POLICY)) from None
        vkeys = tuple(log.key.text for log in read.logs if log.key.name == checkpoint.origin)
        return LedgerHead(note, vkeys, checkpoint.size, checkpoint.origin, policy, cosigned=self._read(COSIGNED))

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        """Entries of [start, end) as far as they lie in one bundle."""
        if start >= min(end, self._size):
            return ()
        number, first = start // WIDTH, start - start % WIDTH
        leaves = self._entries(number)[start - first : end - first]
        return [self._entry(index, leaf) for index, leaf in enumerate(leaves, start + 1)]

    def blobs(self, start: int, end: int) -> BlobList:
        """What was exported of what is kept beside the leaves."""
        entries = self.leaves(start, end)
        found = []
        for entry in entries:
            name = heads_of((entry.leaf,))[0].blob.removeprefix("sha256:")
            data = self._blob(name) if len(name) == 64 and name.isalnum() else None
            if data is not None:
                found.append(StoredBlob(entry.seq, data[:SALT_BYTES], data[SALT_BYTES:]))
        return BlobList(tuple(found), start + len(entries))

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """A tile's hashes, nothing where the file is missing."""
        return self._read(tile_path(level, index, width))

    def strays(self) -> Iterator[str]:
        """Files that are no part of the export: neither what the checkpoint needs nor the beginning of it."""
        known = {CHECKPOINT, COSIGNED, POLICY}
        for path in sorted(one for one in self.folder.rglob("*") if one.is_symlink() or not one.is_dir()):
            name = path.relative_to(self.folder).as_posix()
            if name.startswith("tile/"):
                if not self._belongs(name):
                    yield name
            elif name.startswith(f"{BLOBS}/"):
                if hashlib.sha256(self._read(name, BLOB_MAX_BYTES)).hexdigest() != path.name:
                    yield name
            elif name not in known:
                yield name

    def _belongs(self, name: str) -> bool:
        """Is this the file of a tile or bundle, or an incomplete one of an earlier checkpoint, with what it then held?"""
        found = TILE.fullmatch(name)
        if found is None:
            return False
        level: int | Literal["entries"] = "entries" if found["level"] == "entries" else int(found["level"])
        index, width = int(re.sub("[x/]", "", found["index"])), int(found["width"] or WIDTH)
        present = min(self._size // (1 if level == "entries" else WIDTH**level) - index * WIDTH, WIDTH)
        if not 0 < width <= present or tile_path(level, index, width) != name:
            return False
        return self._read(tile_path(level, index, present)).startswith(self._read(name))

    def _checkpoint(self) -> Checkpoint:
        place = self.folder / CHECKPOINT
        try:
            return parse_checkpoint(parse_note(self._read(CHECKPOINT)).text)
        except Malformed as error:
            raise refusals.malformed(str(error), str(place)) from None

    def _entries(self, number: int) -> list[bytes]:
        if self._bundle[0] != number:
            width = min(self._size - number * WIDTH, WIDTH)
            path = tile_path("entries", number, width)
            data = self._read(path)
            try:
                leaves = unbundle(data) if data else []
            except Malformed as error:
                raise refusals.malformed(str(error), str(self.folder / path)) from None
            if data and len(leaves) != width:
                raise refusals.altered(f"{len(leaves)} entries are in it where {width} belong", str(self.folder / path))
            self._bundle = (number, leaves)
        return self._bundle[1]

    def _entry(self, seq: int, leaf: bytes) -> StoredEntry:
        try:
            head = heads_of((leaf,))[0]
            at_ms = round(datetime.fromisoformat(head.ts).timestamp() * 1000)
            iso(at_ms)  # a year that is written with an offset may be none in UTC
        except (ValueError, OverflowError) as error:
            raise refusals.altered(f"its leaf can't be read: {error}", f"{self.place}, entry {seq}") from None
        return StoredEntry(seq, head.id, head.type, about(leaf), at_ms, leaf)

    def _blob(self, name: str) -> bytes | None:
        name = f"{BLOBS}/{name}"
        return self._read(name, BLOB_MAX_BYTES) if (self.folder / name).is_file() else None

    def _read(self, name: str, limit: int = FILE_MAX_BYTES) -> bytes:
        path = self.folder / name
        try:
            return bounded.read(path, limit)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            fix = "export to a new folder, and compare"
            raise SteadError(f"it can't be read: {error.strerror}", str(path), fix, code="export.unreadable") from error
