"""A growing RFC 6962 tree as C2SP tlog-tiles: rows of 256 hashes, complete ones stored elsewhere, the right edge in memory.

Tile n at level l holds the roots of 256 subtrees of 256^l leaves each, from leaf n·256^(l+1) on. A complete tile never
changes, so the tree keeps only the incomplete tile of each level (with the nodes inside it, so that an append costs one hash
a leaf and a root about twenty) and asks `read` for the rest, which only proofs need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final, Literal, NamedTuple

from stead.tlog.merkle import EMPTY_ROOT, HASH_BYTES, joined, node_hash, parents
from stead.tlog.strict import Malformed

WIDTH: Final = 256
HEIGHT: Final = 8
TILE_BYTES: Final = WIDTH * HASH_BYTES
LEVEL_MAX: Final = 63
ENTRY_MAX_BYTES: Final = 65_535
_LENGTH: Final = Struct(">H")

Read = Callable[[int, int], bytes]
"""(level, index) of a complete tile to its 8,192 bytes."""


class Tile(NamedTuple):
    """Consecutive hashes of one level, joined: 256 of them when complete."""

    level: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    hashes: bytes

    @property
    def width(self) -> int:
        """How many hashes there are."""
        return len(self.hashes) // HASH_BYTES

    @property
    def path(self) -> str:
        """Where tlog-tiles serves it."""
        return tile_path(self.level, self.index, self.width)


def no_tiles(level: int, index: int) -> bytes:
    """The `read` of a tree that only a root is wanted of."""
    raise LookupError(f"this tree keeps no tiles, so not {tile_path(level, index)} either")


class TileTree:
    """The right edge of a tree: append to it, ask its root. About 16 KB a level, whatever its size."""

    def __init__(self, read: Read = no_tiles) -> None:
        self._read = read
        self._size = 0
        self._edge: list[Rows] = []

    @classmethod
    def restore(cls, read: Read, size: int, tail: Sequence[bytes]) -> TileTree:
        """The tree of `size` leaves whose complete tiles `read` gives; `tail` is the hashes of the last size % 256 leaves.

        Reads at most 255 tiles a level. Raises Malformed when a tile is not 8,192 bytes, ValueError when the tail does not fit.
        """
        if size < 0 or len(tail) != size % WIDTH:
            raise ValueError(f"{len(tail)} hashes are not the tail of a tree of {size}")
        tree = cls(read)
        tree._size = size
        tree._rows(0).grow(joined(tail))
        level = 1
        while size >> (HEIGHT * level):
            end = size >> (HEIGHT * level)
            below = range(end - end % WIDTH, end)
            tree._rows(level).grow(b"".join([Rows.of(tree.tile(level - 1, index)).nodes[HEIGHT] for index in below]))
            level += 1
        return tree

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._size

    def copy(self) -> TileTree:
        """A tree that grows on its own from here, over the same tiles: cheap, so that a transaction can be given up."""
        other = TileTree(self._read)
        other._size = self._size
        other._edge = [Rows(list(rows.nodes)) for rows in self._edge]
        return other

    def append(self, leaf_hashes: Sequence[bytes]) -> list[Tile]:
        """Add leaves by their hashes. Returns the tiles this completes, lower levels first. ValueError: not 32 bytes each."""
        fresh, level, done = joined(leaf_hashes), 0, []
        first = self._size
        self._size += len(leaf_hashes)
        while fresh:
            rows, roots = self._rows(level), []
            index = first >> (HEIGHT * (level + 1))
            at = 0
            while at < len(fresh):
                room = TILE_BYTES - len(rows.nodes[0])
                rows.grow(fresh[at : at + room])
                at += room
                if rows.nodes[HEIGHT]:
                    done.append(Tile(level, index, rows.nodes[0]))
                    roots.append(rows.nodes[HEIGHT])
                    index += 1
                    rows = self._edge[level] = Rows.of(b"")
            fresh, level = b"".join(roots), level + 1
        return done

    def root(self) -> bytes:
        """The root of the tree as it stands, from the edge alone."""
        root = b""
        for rows in self._edge:
            for row in rows.nodes[:HEIGHT]:
                if len(row) % (2 * HASH_BYTES):
                    root = node_hash(row[-HASH_BYTES:], root) if root else row[-HASH_BYTES:]
        return root or EMPTY_ROOT

    def partial(self) -> list[Tile]:
        """The incomplete tiles, one a level where it has any hash: what an export writes beside the complete ones."""
        return [
            Tile(level, self._size >> (HEIGHT * (level + 1)), rows.nodes[0])
            for level, rows in enumerate(self._edge)
            if rows.nodes[0]
        ]

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a complete tile. Raises Malformed when what is kept is not 8,192 bytes, and what `read` raises."""
        hashes = self._read(level, index)
        if len(hashes) != TILE_BYTES:
            raise Malformed(f"{tile_path(level, index)}: {len(hashes)} bytes where {TILE_BYTES} belong")
        return hashes

    def rows(self, level: int, index: int) -> Rows:
        """A tile's hashes and the nodes above them, the edge's from memory."""
        if level < len(self._edge) and index == self._size >> (HEIGHT * (level + 1)):
            return self._edge[level]
        return Rows.of(self.tile(level, index))

    def _rows(self, level: int) -> Rows:
        while len(self._edge) <= level:
            self._edge.append(Rows.of(b""))
        return self._edge[level]


class Rows(NamedTuple):
    """One tile with the nodes inside it: `nodes[h]` joins the complete subtrees of height h, so nodes[0] is the tile."""

    nodes: list[bytes]

    @classmethod
    def of(cls, hashes: bytes) -> Rows:
        """The rows above a tile's hashes, complete or not."""
        rows = cls([b""] * (HEIGHT + 1))
        rows.grow(hashes)
        return rows

    def grow(self, hashes: bytes) -> None:
        """Add hashes, and the nodes they complete."""
        nodes = self.nodes
        for height in range(HEIGHT):
            nodes[height] = row = nodes[height] + hashes
            covered = 2 * len(nodes[height + 1])
            paired = len(row) - len(row) % (2 * HASH_BYTES)
            if covered == paired:
                return
            hashes = parents(row[covered:paired])
        nodes[HEIGHT] += hashes


class _Prover:
    """The nodes one proof needs: each tile is read, and hashed up, once."""

    def __init__(self, tree: TileTree) -> None:
        self._tree = tree
        self._rows: dict[tuple[int, int], Rows] = {}

    def node(self, height: int, index: int) -> bytes:
        """The root of the complete subtree over leaves index·2^height to (index + 1)·2^height."""
        level, row = divmod(height, HEIGHT)
        tile, place = divmod(index, WIDTH >> row)
        rows = self._rows.get((level, tile))
        if rows is None:
            rows = self._rows[level, tile] = self._tree.rows(level, tile)
        return rows.nodes[row][place * HASH_BYTES : (place + 1) * HASH_BYTES]

    def span(self, start: int, end: int) -> bytes:
        """The RFC 6962 root over leaves start to end, where start is a multiple of the largest complete subtree in it."""
        peaks = []
        while start < end:
            height = (end - start).bit_length() - 1
            peaks.append(self.node(height, start >> height))
            start += 1 << height
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root


def root_at(tree: TileTree, size: int) -> bytes:
    """The root when the tree had `size` leaves. Raises ValueError when it never had so many."""
    _within(tree, size)
    return _Prover(tree).span(0, size) if size else EMPTY_ROOT


def inclusion_proof(tree: TileTree, index: int, size: int | None = None) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1: the hashes from leaf `index` (from 0) up to the root at `size` (default: all leaves).

    Reads at most one complete tile a level for the present size. Raises ValueError when there is no such leaf or size.
    """
    size = _within(tree, tree.size if size is None else size)
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    prover, proof = _Prover(tree), []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(prover.span(middle, end))
            end = middle
        else:
            proof.append(prover.span(start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(tree: TileTree, old: int, new: int | None = None) -> list[bytes]:
    """PROOF of RFC 6962 §2.1.2: what shows the tree of `old` leaves to begin that of `new` (default: all leaves).

    Empty when old is 0 or both are equal. Raises ValueError unless 0 ≤ old ≤ new ≤ the tree's size.
    """
    new = _within(tree, tree.size if new is None else new)
    if not 0 <= old <= new:
        raise ValueError(f"no proof leads from {old} leaves to {new}")
    prover, proof = _Prover(tree), []
    start, end = 0, new
    while 0 < old < end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(prover.span(middle, end))
            end = middle
        else:
            proof.append(prover.span(start, middle))
            start = middle
    if start:
        proof.append(prover.span(start, end))
    return proof[::-1]


def _split(size: int) -> int:
    """The largest power of two below a size of at least 2: where RFC 6962 divides a tree."""
    return 1 << (size - 1).bit_length() - 1


def _within(tree: TileTree, size: int) -> int:
    if not 0 <= size <= tree.size:
        raise ValueError(f"a tree of {tree.size} leaves never had {size}")
    return size


def tile_path(level: int | Literal["entries"], index: int, width: int = WIDTH) -> str:
    """Where tlog-tiles serves a tile or an entry bundle, e.g. "tile/0/x001/x234/067.p/8". ValueError: there is no such tile."""
    if not (level == "entries" or 0 <= level <= LEVEL_MAX) or index < 0 or not 0 < width <= WIDTH:
        raise ValueError(f"there is no tile of level {level}, index {index}, width {width}")
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03d}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def bundle(leaves: Iterable[bytes]) -> bytes:
    """An entry bundle of tlog-tiles: each leaf behind its length as a big-endian uint16. Malformed: not 1 to 256, or too long."""
    parts: list[bytes] = []
    for leaf in leaves:
        if len(leaf) > ENTRY_MAX_BYTES:
            raise Malformed(f"entry bundle: an entry of {len(leaf)} bytes where at most {ENTRY_MAX_BYTES} fit")
        parts += (_LENGTH.pack(len(leaf)), leaf)
    _filled(len(parts) // 2)
    return b"".join(parts)


def unbundle(data: bytes) -> list[bytes]:
    """The leaves of an entry bundle, 1 to 256. Raises Malformed when it ends too soon or goes on too long."""
    leaves: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        if len(leaves) == WIDTH:
            _filled(WIDTH + 1)
        start = at + _LENGTH.size
        if start > end:
            raise Malformed(f"entry bundle: entry {len(leaves)} ends within its length")
        at = start + (data[at] << 8 | data[at + 1])
        if at > end:
            raise Malformed(f"entry bundle: entry {len(leaves)} has {at - end} bytes too few")
        leaves.append(data[start:at])
    _filled(len(leaves))
    return leaves


def _filled(entries: int) -> None:
    if not 0 < entries <= WIDTH:
        raise Malformed(f"entry bundle: {entries} entries where 1 to {WIDTH} belong")
