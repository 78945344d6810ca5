from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.merkle import (
    EMPTY_ROOT,
    Unproven,
    check_consistency,
    check_inclusion,
    leaf_hash,
    leaf_hashes,
    root_of,
)
from stead.tlog.strict import Malformed
from stead.tlog.tiles import (
    TILE_BYTES,
    Tile,
    TileTree,
    bundle,
    consistency_proof,
    inclusion_proof,
    root_at,
    tile_path,
    unbundle,
)
from tests.tlog import rfc6962

LEAVES = [b"leaf %d" % index for index in range(70_000)]
HASHES = leaf_hashes(LEAVES)
SMALL = 600
EDGES = [0, 1, 2, 3, 7, 8, 9, 100, 255, 256, 257, 300, 511, 512, 513, SMALL]
CORNERS = [65_535, 65_536, 65_537, 65_792, 66_000, 69_999]


class Kept(dict[tuple[int, int], bytes]):
    """Complete tiles as a store keeps them, counting the reads."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []

    def keep(self, tiles: Iterable[Tile]) -> None:
        for tile in tiles:
            assert (tile.level, tile.index) not in self
            self[tile.level, tile.index] = tile.hashes

    def read(self, level: int, index: int) -> bytes:
        self.reads.append((level, index))
        return self[level, index]


def grown(batches: Iterable[Sequence[bytes]]) -> tuple[TileTree, Kept]:
    kept = Kept()
    tree = TileTree(kept.read)
    for batch in batches:
        kept.keep(tree.append(batch))
    return tree, kept


@cache
def large() -> tuple[TileTree, Kept]:
    return grown([HASHES])


@cache
def small_root(size: int) -> bytes:
    return root_of(HASHES[:size])


def cut(sizes: Iterable[int], total: int) -> list[list[bytes]]:
    """The first `total` hashes in batches of these sizes, the rest in one."""
    batches, at = [], 0
    for size in sizes:
        batches.append(HASHES[at : min(at + size, total)])
        at = min(at + size, total)
    return [*batches, HASHES[at:total]]


@given(st.integers(0, 1500), st.lists(st.integers(0, 400), max_size=12))
def test_batches_do_not_matter(size: int, sizes: list[int]) -> None:
    batched, its_tiles = grown(cut(sizes, size))
    single, tiles = grown([each] for each in HASHES[:size])
    assert batched.size == single.size == size
    assert batched.root() == single.root() == root_of(HASHES[:size])
    assert its_tiles == tiles
    assert batched.partial() == single.partial()


@pytest.mark.parametrize("size", EDGES)
def test_the_root_is_the_one_of_the_rfc(size: int) -> None:
    assert grown(cut([1, 5], size))[0].root() == rfc6962.mth(LEAVES[:size])


def test_the_empty_tree() -> None:
    tree, kept = grown([[], []])
    assert (tree.size, tree.root(), tree.partial(), kept) == (0, EMPTY_ROOT, [], {})
    assert root_at(tree, 0) == EMPTY_ROOT
    assert consistency_proof(tree, 0) == []


def test_tiles_are_those_of_the_specification() -> None:
    """Its example: 70,000 leaves are 273 full tiles and one of 112, one full tile and one of 17, and one of 1."""
    tree, kept = large()
    assert sorted(kept) == [*((0, index) for index in range(273)), (1, 0)]
    assert [(tile.path, tile.width) for tile in tree.partial()] == [
        ("tile/0/273.p/112", 112),
        ("tile/1/001.p/17", 17),
        ("tile/2/000.p/1", 1),
    ]
    everything = [*(Tile(level, index, hashes) for (level, index), hashes in kept.items()), *tree.partial()]
    for level, index, hashes in everything:
        for place in {0, 1, 111, 255} & set(range(len(hashes) // 32)):
            start = (index * 256 + place) * 256**level
            assert hashes[place * 32 : place * 32 + 32] == root_of(HASHES[start : start + 256**level])


def test_a_level_that_is_exactly_full_leaves_one_hash_above() -> None:
    assert [tile.path for tile in grown([HASHES[:256]])[0].partial()] == ["tile/1/000.p/1"]
    tree, kept = grown([HASHES[:65_536]])
    assert [tile.path for tile in tree.partial()] == ["tile/2/000.p/1"]
    assert tree.partial()[0].hashes == tree.root() == root_of(HASHES[:65_536])
    assert len(kept) == 257


def test_completed_tiles_come_lower_levels_first() -> None:
    tree = TileTree()
    tree.append(HASHES[:65_530])
    assert [tile.path for tile in tree.append(HASHES[65_530:66_000])] == ["tile/0/255", "tile/0/256", "tile/1/000"]


def test_a_root_needs_no_tiles() -> None:
    tree = TileTree()
    for at in range(0, len(HASHES), 1000):
        tree.append(HASHES[at : at + 1000])
    assert tree.root() == root_of(HASHES)
    with pytest.raises(LookupError, match="keeps no tiles"):
        inclusion_proof(tree, 0)


def test_hashes_have_32_bytes_or_nothing_happens() -> None:
    tree, _ = grown([HASHES[:300]])
    before = tree.root()
    with pytest.raises(ValueError, match="32 bytes"):
        tree.append([bytes(31), bytes(33)])
    assert (tree.size, tree.root()) == (300, before)


def test_memory_is_the_right_edge() -> None:
    tree = TileTree()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(0, 65_535, 255):
            tree.append(HASHES[at : at + 255])
        grown_by = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert [tile.width for tile in tree.partial()] == [255, 255]
    assert grown_by < 64 * 1024


@given(st.integers(0, 700), st.integers(0, 700))
def test_a_copy_grows_on_its_own(size: int, more: int) -> None:
    tree, _ = grown([HASHES[:size]])
    before = (tree.size, tree.root(), tree.partial())
    other = tree.copy()
    other.append(HASHES[size : size + more])
    assert (tree.size, tree.root(), tree.partial()) == before
    assert other.root() == root_of(HASHES[: size + more])
    tree.append(HASHES[: more // 2])
    assert other.root() == root_of(HASHES[: size + more])


@pytest.mark.parametrize("size", [*EDGES, *CORNERS, 70_000])
def test_a_restored_tree_goes_on_as_before(size: int) -> None:
    tree, kept = grown([HASHES[:size]])
    kept.reads.clear()
    restored = TileTree.restore(kept.read, size, HASHES[size - size % 256 : size])
    assert len(kept.reads) == len(set(kept.reads)) <= 2 * 255
    assert (restored.size, restored.root(), restored.partial()) == (size, tree.root(), tree.partial())
    assert restored.append(HASHES[:1000]) == tree.append(HASHES[:1000])
    assert restored.root() == tree.root()


def test_a_tail_that_does_not_fit_is_refused() -> None:
    _, kept = grown([HASHES[:300]])
    for size, tail in [(300, HASHES[256:299]), (300, HASHES[:300]), (256, HASHES[:256]), (-1, HASHES[:255])]:
        with pytest.raises(ValueError, match="tail"):
            TileTree.restore(kept.read, size, tail)


def test_a_damaged_tile_gives_another_root_and_a_cut_one_an_error() -> None:
    tree, kept = grown([HASHES[:300]])
    whole = kept[0, 0]
    kept[0, 0] = whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:]
    assert TileTree.restore(kept.read, 300, HASHES[256:300]).root() != tree.root()
    for wrong in (b"", whole[:-32], whole + whole[:32]):
        kept[0, 0] = wrong
        with pytest.raises(Malformed, match=f"tile/0/000: {len(wrong)} bytes where {TILE_BYTES} belong"):
            TileTree.restore(kept.read, 300, HASHES[256:300])
        with pytest.raises(Malformed):
            inclusion_proof(tree, 3)


def proofs_hold(tree: TileTree, size: int, indices: Iterable[int]) -> None:
    """Every inclusion proof of these leaves, and every consistency proof from these sizes, at `size`; none after a change."""
    root = small_root(size)
    for index in indices:
        proof = inclusion_proof(tree, index, size)
        check_inclusion(HASHES[index], index, size, proof, root)
        old, earlier = small_root(index + 1), consistency_proof(tree, index + 1, size)
        check_consistency(index + 1, size, earlier, old, root)
        with pytest.raises(Unproven):
            check_inclusion(HASHES[index + 1], index, size, proof, root)
        if proof:
            with pytest.raises(Unproven):
                check_inclusion(HASHES[index], index, size, [*proof[:-1], bytes(32)], root)
        if earlier:
            with pytest.raises(Unproven):
                check_consistency(index + 1, size, [*earlier[:-1], bytes(32)], old, root)


@pytest.mark.parametrize("size", EDGES[1:])
def test_every_proof_of_some_sizes(size: int) -> None:
    tree, _ = grown([HASHES[:SMALL]])
    proofs_hold(tree, size, range(size))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_proof_of_every_size() -> None:
    """180,300 proofs of each kind: no pair of index and size in the first two tiles and a bit is special."""
    tree, _ = grown([HASHES[:SMALL]])
    for size in range(1, SMALL + 1):
        assert root_at(tree, size) == small_root(size)
        proofs_hold(tree, size, range(size))


@given(st.integers(1, 1000), st.data())
def test_proofs_are_those_of_the_rfc(size: int, draw: st.DataObject) -> None:
    tree, _ = grown([HASHES[: draw.draw(st.integers(size, 1000))]])
    index, earlier = draw.draw(st.integers(0, size - 1)), draw.draw(st.integers(1, size))
    leaves = LEAVES[:size]
    assert inclusion_proof(tree, index, size) == rfc6962.path(index, leaves)
    assert consistency_proof(tree, earlier, size) == rfc6962.proof(earlier, leaves)
    assert root_at(tree, earlier) == rfc6962.mth(LEAVES[:earlier])


@given(st.integers(1, 70_000), st.data())
def test_proofs_across_levels(size: int, draw: st.DataObject) -> None:
    tree, kept = large()
    places = st.one_of(st.integers(0, size - 1), st.sampled_from([each for each in CORNERS if each < size] or [0]))
    index, earlier = draw.draw(places), draw.draw(places) + 1
    root = root_of(HASHES[:size])
    assert root_at(tree, size) == root
    kept.reads.clear()
    proof = inclusion_proof(tree, index, size)
    assert len(kept.reads) == len(set(kept.reads))
    check_inclusion(HASHES[index], index, size, proof, root)
    check_consistency(earlier, size, consistency_proof(tree, earlier, size), root_at(tree, earlier), root)


@given(st.integers(0, 69_999))
def test_a_proof_at_the_present_size_reads_a_tile_a_level(index: int) -> None:
    tree, kept = large()
    kept.reads.clear()
    check_inclusion(HASHES[index], index, tree.size, inclusion_proof(tree, index), tree.root())
    assert sorted({level for level, _ in kept.reads}) == sorted(level for level, _ in kept.reads)
    assert len(kept.reads) <= 2


def test_what_never_was_has_no_proof() -> None:
    tree, _ = grown([HASHES[:300]])
    for index, size in [(300, None), (-1, None), (0, 0), (5, 5), (0, 301), (0, -1)]:
        with pytest.raises(ValueError, match="tree of"):
            inclusion_proof(tree, index, size)
    for old, new in [(301, None), (-1, None), (5, 4), (5, 301), (0, -1)]:
        with pytest.raises(ValueError, match="leaves"):
            consistency_proof(tree, old, new)
    for size in (-1, 301):
        with pytest.raises(ValueError, match="never had"):
            root_at(tree, size)
    assert consistency_proof(tree, 0, 300) == consistency_proof(tree, 300, 300) == []


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("tile/0/000", (0, 0)),
        ("tile/0/999", (0, 999)),
        ("tile/0/x001/000", (0, 1000)),
        ("tile/0/x001/067", (0, 1067)),
        ("tile/0/x001/x234/067", (0, 1_234_067)),
        ("tile/63/x001/x000/x000/000.p/1", (63, 10**9, 1)),
        ("tile/entries/x001/x234/067.p/255", ("entries", 1_234_067, 255)),
        ("tile/entries/000", ("entries", 0, 256)),
    ],
)
def test_paths(path: str, arguments: tuple[int, int, int]) -> None:
    assert tile_path(*arguments) == path


@given(st.integers(0, 2**55), st.integers(1, 256))
def test_a_path_says_its_index_and_width(index: int, width: int) -> None:
    path, _, partial = tile_path(3, index, width).removeprefix("tile/3/").partition(".p/")
    groups = path.split("/")
    assert all(len(each) == 4 and each[0] == "x" for each in groups[:-1])
    assert int("".join(each[-3:] for each in groups)) == index
    assert len(groups) == 1 or groups[0] != "x000"
    assert partial == ("" if width == 256 else str(width))


@pytest.mark.parametrize("arguments", [(-1, 0), (64, 0), (0, -1), (0, 0, 0), (0, 0, 257)])
def test_there_is_no_such_tile(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no tile"):
        tile_path(*arguments)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundles_round_trip(leaves: list[bytes]) -> None:
    data = bundle(leaves)
    assert unbundle(data) == leaves
    assert len(data) == sum(len(leaf) + 2 for leaf in leaves)


def test_bundles_up_to_their_limits() -> None:
    longest = [b"", bytes(65_535), *[b"x"] * 254]
    assert unbundle(bundle(longest)) == longest
    assert bundle([b"ab", b"c"]) == b"\0\2ab\0\1c"
    with pytest.raises(Malformed, match="65536 bytes"):
        bundle([bytes(65_536)])
    for leaves in ([], [b""] * 257):
        with pytest.raises(Malformed, match="1 to 256 belong"):
            bundle(leaves)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 entries"),
        (b"\0", "entry 0 ends within its length"),
        (b"\0\1", "entry 0 has 1 bytes too few"),
        (b"\0\1a\0", "entry 1 ends within its length"),
        (b"\0\1a\xff\xffa", "entry 1 has 65534 bytes too few"),
        (b"\0\0" * 1000, "257 entries"),
    ],
)
def test_bundles_that_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        unbundle(data)


@given(st.binary(max_size=600))
def test_bytes_are_refused_or_are_the_bundle(data: bytes) -> None:
    try:
        leaves = unbundle(data)
    except Malformed:
        return
    assert bundle(leaves) == data


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20), st.data())
def test_a_changed_bundle_is_refused_or_has_another_root(leaves: list[bytes], draw: st.DataObject) -> None:
    data = bytearray(bundle(leaves))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        changed = unbundle(bytes(data))
    except Malformed:
        return
    assert root_of([leaf_hash(leaf) for leaf in changed]) != root_of(leaf_hashes(leaves))
