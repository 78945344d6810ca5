from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.merkle import Unproven
from stead.tlog.note import Note, format_note
from stead.tlog.proof import EXTRA_MAX_BYTES, HASHES_MAX, HEADER, PROOF_MAX_BYTES, TlogProof, format_proof, parse_proof, prove
from stead.tlog.strict import Malformed, encode64
from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS
from tests.tlog import logs, rfc6962
from tests.tlog.mutated import any_input
from tests.tlog.published import published

VECTORS = published("c2sp_formats.json")["tlog_proof_parse"]
POLICY = logs.policy()
GOOD = format_proof(logs.proven())
HASH = encode64(bytes(32))


def test_every_published_proof_is_there() -> None:
    assert [case["ok"] for case in VECTORS] == [True] * 3 + [False] * 7


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case.get("name", "valid"))
def test_published_proofs(case: dict[str, object]) -> None:
    text = str(case["text"]).encode()
    if not case["ok"]:
        with pytest.raises(Malformed):
            parse_proof(text)
        return
    proof = parse_proof(text)
    assert (proof.index, len(proof.hashes), proof.extra.decode()) == (case["index"], case["hashes"], case.get("extra", ""))
    assert format_proof(proof) == text


@pytest.mark.parametrize("index", range(len(logs.LEAVES)))
def test_every_leaf_is_proven(index: int) -> None:
    found = prove(logs.LEAVES[index], parse_proof(format_proof(logs.proven(index))), POLICY)
    assert (found.origin, found.index, found.size, found.root) == (logs.ORIGIN, index, 11, rfc6962.mth(logs.LEAVES))
    assert found.logs == (logs.LOG.verifier,)
    assert found.witnesses == (("w1", logs.TIME_S), ("w2", logs.TIME_S))


def test_another_leaf_or_place_is_not_proven() -> None:
    proof = logs.proven(6)
    for leaf, index in ((logs.LEAVES[5], 6), (logs.LEAVES[6], 5), (logs.LEAVES[6] + b" ", 6), (b"", 6), (logs.LEAVES[6], 11)):
        with pytest.raises(Unproven):
            prove(leaf, msgspec.structs.replace(proof, index=index), POLICY)


def test_a_checkpoint_without_quorum_proves_nothing() -> None:
    with pytest.raises(Unproven, match="quorum"):
        prove(logs.LEAVES[6], logs.proven(6, logs.WITNESSES[:1]), POLICY)


def test_a_log_that_is_not_trusted_proves_nothing() -> None:
    with pytest.raises(Unproven, match="no log"):
        prove(logs.LEAVES[6], logs.proven(6), POLICY._replace(logs=()))


def test_extra_data_changes_nothing() -> None:
    proof = msgspec.structs.replace(logs.proven(6), extra=b"unsigned")
    assert prove(logs.LEAVES[6], parse_proof(format_proof(proof)), POLICY) == prove(logs.LEAVES[6], logs.proven(6), POLICY)


def flips(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def test_no_flipped_bit_of_proof_checkpoint_or_leaf_is_proven() -> None:
    """Every bit of the proof file (its checkpoint is in it) and of the leaf."""
    leaf = logs.LEAVES[6]
    assert prove(leaf, parse_proof(GOOD), POLICY)
    for damaged in flips(GOOD):
        with pytest.raises(Malformed):
            prove(leaf, parse_proof(damaged), POLICY)
    for damaged in flips(leaf):
        with pytest.raises(Unproven):
            prove(damaged, parse_proof(GOOD), POLICY)


def test_swapped_signatures_are_not_proven() -> None:
    note = logs.signed(logs.checkpoint(), logs.WITNESSES[:2])
    log, first, second = note.signatures
    for lines in ((log, first, first), (log, first, second._replace(data=first.data)), (first, second), (log,)):
        proof = msgspec.structs.replace(logs.proven(6), checkpoint=format_note(Note(note.text, lines)))
        with pytest.raises(Unproven):
            prove(logs.LEAVES[6], proof, POLICY)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(HEADER.encode(), b"c2sp.org/tlog-proof@v2"),
        GOOD.replace(HEADER.encode(), HEADER.encode() + b"\r"),
        GOOD.replace(b"index 6", b"index 06"),
        GOOD.replace(b"index 6", b"index +6"),
        GOOD.replace(b"index 6", b"index  6"),
        GOOD.replace(b"index 6", b"index 6 "),
        GOOD.replace(b"index 6", b"Index 6"),
        GOOD.replace(b"index 6", b"index 6\nindex 6"),
        GOOD.replace(b"index 6", b"index 9223372036854775808"),
        GOOD.replace(b"index 6", b"extra \nindex 6"),
        GOOD.replace(b"index 6", b"extra\nindex 6"),
        GOOD.replace(b"index 6", b"extra QUI\nindex 6"),
        GOOD.replace(b"index 6", b"extra QUJ=\nindex 6"),
        GOOD.replace(b"index 6", b"extra QUI=\nextra QUI=\nindex 6"),
        GOOD.replace(b"index 6", "index ٦".encode()),
        GOOD.partition(b"\n\n")[0] + b"\n\n",
        GOOD.partition(b"\n\n")[0] + b"\n",
        f"{HEADER}\nindex 0\n{HASH} \n\ncheckpoint\n".encode(),
        f"{HEADER}\nindex 0\n {HASH}\n\ncheckpoint\n".encode(),
        f"{HEADER}\nindex 0\n{HASH[:-4]}\n\ncheckpoint\n".encode(),
        f"{HEADER}\n\nindex 0\n\ncheckpoint\n".encode(),
        b"",
    ],
)
def test_what_is_no_proof(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_proof(text)


def test_limits() -> None:
    most = TlogProof(0, (bytes(32),) * HASHES_MAX, b"checkpoint\n", bytes(EXTRA_MAX_BYTES))
    assert parse_proof(format_proof(most)) == most
    with pytest.raises(Malformed, match="63"):
        parse_proof(format_proof(TlogProof(0, (bytes(32),) * (HASHES_MAX + 1), b"checkpoint\n")))
    with pytest.raises(Malformed, match="extra"):
        parse_proof(format_proof(msgspec.structs.replace(most, extra=bytes(EXTRA_MAX_BYTES + 1))))
    head = len(format_proof(TlogProof(0, (), b"")))
    assert parse_proof(format_proof(TlogProof(0, (), b"x" * (PROOF_MAX_BYTES - head))))
    with pytest.raises(Malformed, match="bytes"):
        parse_proof(format_proof(TlogProof(0, (), b"x" * (PROOF_MAX_BYTES - head + 1))))


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=HASHES_MAX),
    st.binary(min_size=1, max_size=200),
    st.binary(max_size=100),
)
def test_a_proof_reads_back(index: int, hashes: list[bytes], checkpoint: bytes, extra: bytes) -> None:
    proof = TlogProof(index, tuple(hashes), checkpoint, extra)
    assert parse_proof(format_proof(proof)) == proof


@given(any_input(*TARGETS["proof"].seeds))
def test_any_bytes_are_a_proof_or_refused(data: bytes) -> None:
    feed(TARGETS["proof"], data)
