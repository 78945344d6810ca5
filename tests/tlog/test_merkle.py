from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    node_hash,
    parents,
    root_of,
)
from stead.tlog.strict import Malformed
from tests.tlog import rfc6962

VECTORS = Path(__file__).parent.parent / "vectors"
LEAVES = [b"leaf %d" % index for index in range(64)]


def vectors(kind: str) -> Any:
    return json.loads((VECTORS / f"rfc6962_{kind}.json").read_text())


def decoded(values: list[str] | None) -> list[bytes]:
    return [b64decode(value) for value in values or []]


INCLUSION = vectors("inclusion")["cases"]
CONSISTENCY = vectors("consistency")["cases"]


def test_published_hashes() -> None:
    published = vectors("hash")
    assert EMPTY_ROOT.hex() == published["empty"]
    assert len(published["leaf"]) == 2
    for data, expected in published["leaf"].items():
        assert leaf_hash(bytes.fromhex(data)).hex() == expected
        assert leaf_hashes([bytes.fromhex(data)])[0].hex() == expected
    for left, right, expected in published["node"]:
        assert node_hash(bytes.fromhex(left), bytes.fromhex(right)).hex() == expected


def test_all_published_proofs_are_here() -> None:
    assert len(INCLUSION) == len(CONSISTENCY) == 98
    assert {case["wantErr"] for case in INCLUSION} == {case["wantErr"] for case in CONSISTENCY} == {True, False}


@pytest.mark.parametrize("case", INCLUSION, ids=lambda case: case["file"])
def test_published_inclusion(case: dict[str, Any]) -> None:
    leaf, root, proof = b64decode(case["leafHash"] or ""), b64decode(case["root"] or ""), decoded(case["proof"])
    try:
        check_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
    except Unproven:
        assert case["wantErr"]
    else:
        assert not case["wantErr"]


@pytest.mark.parametrize("case", CONSISTENCY, ids=lambda case: case["file"])
def test_published_consistency(case: dict[str, Any]) -> None:
    old, new, proof = b64decode(case["root1"] or ""), b64decode(case["root2"] or ""), decoded(case["proof"])
    try:
        check_consistency(case["size1"], case["size2"], proof, old, new)
    except Unproven:
        assert case["wantErr"]
    else:
        assert not case["wantErr"]


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_the_root_is_the_one_of_the_rfc(leaves: list[bytes]) -> None:
    assert root_of(leaf_hashes(leaves)) == rfc6962.mth(leaves)


def test_a_row_of_nodes() -> None:
    row = leaf_hashes(LEAVES[:4])
    assert parents(b"".join(row)) == node_hash(row[0], row[1]) + node_hash(row[2], row[3])
    assert parents(b"") == b""


def test_a_root_is_of_whole_hashes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        root_of([bytes(31), bytes(33)])


def altered(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Each hash with a bit changed, cut, left out, doubled; and one more at either end."""
    for place, each in enumerate(proof):
        before, after = proof[:place], proof[place + 1 :]
        yield [*before, bytes([each[0] ^ 1]) + each[1:], *after]
        yield [*before, each[:31] + bytes([each[31] ^ 128]), *after]
        yield [*before, each[:-1], *after]
        yield [*before, *after]
        yield [*before, each, each, *after]
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64])
def test_no_inclusion_proof_survives_a_change(size: int) -> None:
    root = rfc6962.mth(LEAVES[:size])
    for index in range(size):
        leaf, proof = leaf_hash(LEAVES[index]), rfc6962.path(index, LEAVES[:size])
        check_inclusion(leaf, index, size, proof, root)
        wrong: list[tuple[bytes, int, int, list[bytes], bytes]] = [
            *((leaf, index, size, other, root) for other in altered(proof)),
            *((leaf, other, size, proof, root) for other in range(-1, size + 2) if other != index),
            (node_hash(leaf, leaf), index, size, proof, root),
            (leaf, index, size, proof, node_hash(root, root)),
            (leaf[:-1], index, size, proof, root),
            (leaf, index, size, proof, root + b"\0"),
        ]
        for arguments in wrong:
            with pytest.raises(Unproven):
                check_inclusion(*arguments)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64])
def test_no_consistency_proof_survives_a_change(size: int) -> None:
    new = rfc6962.mth(LEAVES[:size])
    for earlier in range(1, size + 1):
        old, proof = rfc6962.mth(LEAVES[:earlier]), rfc6962.proof(earlier, LEAVES[:size])
        check_consistency(earlier, size, proof, old, new)
        wrong: list[tuple[int, int, list[bytes], bytes, bytes]] = [
            *((earlier, size, other, old, new) for other in altered(proof)),
            (earlier, size, proof, node_hash(old, old), new),
            (earlier, size, proof, old, node_hash(new, new)),
            (0, size, proof, old, new),
            (-1, size, proof, old, new),
            (size + 1, size, proof, old, new),
        ]
        for arguments in wrong:
            with pytest.raises(Unproven):
                check_consistency(*arguments)


def test_a_proof_does_not_go_on_past_the_root() -> None:
    """A root made to fit the longer proof proves nothing about a tree of this size."""
    more, old, new = bytes(32), rfc6962.mth(LEAVES[:5]), rfc6962.mth(LEAVES[:9])
    longer = [*rfc6962.path(3, LEAVES[:9]), more]
    with pytest.raises(Unproven, match="too many"):
        check_inclusion(leaf_hash(LEAVES[3]), 3, 9, longer, node_hash(more, new))
    with pytest.raises(Unproven, match="too many"):
        check_consistency(5, 9, [*rfc6962.proof(5, LEAVES[:9]), more], node_hash(more, old), node_hash(more, new))


def test_hashes_of_other_lengths_are_refused_even_where_they_lead_to_the_root() -> None:
    whole, short = bytes(32), bytes(31)
    check_inclusion(whole, 0, 2, [whole], node_hash(whole, whole))
    check_consistency(1, 2, [whole], whole, node_hash(whole, whole))
    with pytest.raises(Unproven, match="the leaf's hash has 31 bytes"):
        check_inclusion(short, 0, 2, [whole], node_hash(short, whole))
    with pytest.raises(Unproven, match="a hash of the proof has 31 bytes"):
        check_inclusion(whole, 0, 2, [short], node_hash(whole, short))
    with pytest.raises(Unproven, match="a hash of the proof has 31 bytes"):
        check_consistency(1, 2, [short], whole, node_hash(whole, short))
    with pytest.raises(Unproven, match="the root has 31 bytes"):
        check_inclusion(whole, 0, 1, [], short)


def test_two_trees_of_one_size_are_named_so() -> None:
    with pytest.raises(Unproven, match="two trees of 5 leaves differ"):
        check_consistency(5, 5, [], bytes(32), bytes([1]) * 32)


def test_a_failed_proof_is_one_of_the_declared_errors() -> None:
    assert issubclass(Unproven, Malformed)
    assert issubclass(Malformed, ValueError)


@given(
    st.integers(-2, 2**64),
    st.integers(-2, 2**64),
    st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_made_up_proofs_are_refused(first: int, second: int, proof: list[bytes], one: bytes, other: bytes) -> None:
    if one == other:
        return
    with pytest.raises(Unproven):
        check_inclusion(one, first, second, proof, other)
    with pytest.raises(Unproven):
        check_consistency(first, second, proof, one, other)
