from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.checkpoint import Checkpoint
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, ED25519, VerifierKey, new_signing_key
from stead.tlog.merkle import EMPTY_ROOT, Unproven
from stead.tlog.note import Note, Signature, Verified, format_note, parse_note, verified
from stead.tlog.strict import Malformed, encode64
from stead.tlog.witness import (
    REPLY_LINES_MAX,
    REQUEST_MAX_BYTES,
    SIZE_TYPE,
    TEXT_TYPE,
    AddCheckpoint,
    Held,
    WitnessAnswer,
    answer,
    cosignatures,
    format_request,
    held_size,
    parse_request,
)
from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS
from tests.tlog import logs, rfc6962
from tests.tlog.mutated import any_input
from tests.tlog.published import published

CONVERSATION = published("tlog_witness_conversation.json")["steps"]
TALKING_LOG = VerifierKey(
    "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562",
    ED25519,
    bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f"),
)
KEY = new_signing_key("example.com/witness", COSIGNATURE, b"w" * 32)
FORKED = (*logs.LEAVES[:3], b"forked", *logs.LEAVES[4:])
SIZES = st.integers(0, len(logs.LEAVES))


def holding(size: int) -> Callable[[str], Held | None]:
    """A witness that cosigned the first leaves; None before the first time."""
    return lambda origin: Held(size, logs.checkpoint(size).root) if size and origin == logs.ORIGIN else None


def request(old: int, new: int, leaves: tuple[bytes, ...] = logs.LEAVES) -> bytes:
    """What an honest log of these leaves sends."""
    proof = tuple(rfc6962.proof(old, leaves[:new])) if 0 < old <= new else ()
    return format_request(AddCheckpoint(old, proof, format_note(logs.signed(logs.checkpoint(new, leaves)))))


def ask(body: bytes, size: int = 0, keys: Sequence[VerifierKey] = (logs.LOG.verifier,)) -> WitnessAnswer:
    """The answer of a witness that holds `size` leaves."""
    return answer(body, {logs.ORIGIN: keys}, holding(size), KEY, logs.TIME_S)


def signed_request(old: int, head: Checkpoint, proof: tuple[bytes, ...] = ()) -> bytes:
    return format_request(AddCheckpoint(old, proof, format_note(logs.signed(head))))


def test_the_published_conversation() -> None:
    """All nine steps in order. litewitness of 2025 answered 403 to an unknown log where tlog-witness v1.0.0 says 404."""
    held: dict[str, Held] = {}
    assert len(CONVERSATION) == 9
    for number, step in enumerate(CONVERSATION):
        reply = answer(step["body"].encode(), {TALKING_LOG.name: [TALKING_LOG]}, held.get, KEY, logs.TIME_S)
        unknown = "unknown log" in step["assert_"]
        assert reply.status == (404 if unknown else step["status"]), number
        verb, _, quoted = step["assert_"].partition(' "')
        text = reply.body.decode()
        wanted = quoted.removesuffix('"').replace("\\n", "\n")
        assert text == wanted if verb == "body ==" else wanted in text, number
        assert reply.content_type == (SIZE_TYPE if reply.status == 409 else TEXT_TYPE)
        if reply.remember:
            held[reply.remember.origin] = Held(reply.remember.checkpoint.size, reply.remember.checkpoint.root)
    assert held[TALKING_LOG.name].size == 5


@given(SIZES, SIZES)
def test_an_honest_log_is_cosigned(old: int, more: int) -> None:
    new = min(old + more, len(logs.LEAVES))
    reply = ask(request(old, new), old)
    head = logs.checkpoint(new)
    assert reply.status == 200
    assert verified(parse_note(head.text.encode() + b"\n" + reply.body), [KEY.verifier]) == [Verified(KEY.verifier, logs.TIME_S)]
    assert reply.remember is not None
    assert (reply.remember.origin, reply.remember.checkpoint) == (logs.ORIGIN, head)
    assert reply.remember.note == format_note(logs.signed(head))


@given(st.integers(4, 11), st.integers(0, 7))
def test_a_fork_is_never_cosigned(old: int, more: int) -> None:
    """The witness holds the one history; the log goes on with the other, with a proof that is good for that one."""
    new = min(old + more, len(logs.LEAVES))
    reply = ask(request(old, new, FORKED), old)
    assert reply.status == (409 if new == old else 422)
    assert reply.content_type == TEXT_TYPE
    assert reply.remember is None


@given(SIZES, SIZES, SIZES)
def test_another_old_size_is_answered_with_the_one_that_is_held(held: int, old: int, new: int) -> None:
    reply = ask(request(old, new), held)
    if old > new:
        assert reply.status == 400
    elif old != held:
        assert (reply.status, reply.content_type, held_size(reply.body)) == (409, SIZE_TYPE, held)
    else:
        assert reply.status == 200


def test_a_log_that_rolled_back_is_not_cosigned() -> None:
    assert ask(request(5, 5), 8) == WitnessAnswer(409, SIZE_TYPE, b"8\n")
    assert ask(request(8, 5), 8).status == 400


def test_two_roots_for_one_size_are_called_by_their_name() -> None:
    reply = ask(request(8, 8, FORKED), 8)
    assert (reply.status, reply.content_type) == (409, TEXT_TYPE)
    assert b"two roots" in reply.body


def test_the_same_checkpoint_is_cosigned_again_but_not_with_a_proof() -> None:
    assert ask(request(8, 8), 8).status == 200
    assert ask(signed_request(8, logs.checkpoint(8), (bytes(32),)), 8).status == 422


def test_an_empty_log_has_one_root() -> None:
    assert ask(signed_request(0, Checkpoint(logs.ORIGIN, 0, EMPTY_ROOT))).status == 200
    assert ask(signed_request(0, Checkpoint(logs.ORIGIN, 0, bytes(32)))).status == 409


def test_there_is_no_proof_from_nothing() -> None:
    reply = ask(signed_request(0, logs.checkpoint(3), (bytes(32),)))
    assert reply.status == 422
    assert reply.remember is None


def test_an_unknown_log_comes_before_its_signature() -> None:
    assert ask(signed_request(0, logs.checkpoint()._replace(origin="other.example"))).status == 404


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ([], logs.signed(logs.checkpoint()).signatures),
        ([KEY.verifier], logs.signed(logs.checkpoint()).signatures),
        ([logs.LOG.verifier], logs.signed(logs.checkpoint(3)).signatures),
        ([logs.LOG.verifier], (Signature("stranger", b"1234", bytes(64)),)),
        ([logs.LOG.verifier], (*logs.signed(logs.checkpoint()).signatures, *logs.signed(logs.checkpoint(3)).signatures)),
    ],
    ids=["no key", "another key", "of another text", "of a stranger", "a good and a bad one"],
)
def test_without_a_good_signature_of_the_log(keys: list[VerifierKey], lines: tuple[Signature, ...]) -> None:
    body = format_request(AddCheckpoint(0, (), format_note(Note(logs.checkpoint().text, lines))))
    reply = ask(body, 0, keys)
    assert reply.status == 403
    assert reply.remember is None


def test_a_signature_line_that_can_not_be_read_is_no_signature() -> None:
    assert ask(request(0, 3)).status == 200
    assert ask(request(0, 3)[:-2] + b"\n").status == 403  # its padding is missing
    assert ask(request(0, 3)[:-2] + b"!\n").status == 403
    assert ask(request(0, 3) + Signature("stranger", b"1234", b"x").line.encode() * 100).status == 403  # 101 lines


def test_strangers_lines_are_neither_checked_nor_remembered() -> None:
    note = logs.signed(logs.checkpoint(3), logs.WITNESSES)
    body = format_request(AddCheckpoint(0, (), format_note(Note(note.text, (*note.signatures, note.signatures[0])))))
    reply = ask(body)
    assert reply.status == 200
    assert reply.remember is not None
    assert reply.remember.note == format_note(logs.signed(logs.checkpoint(3)))


def test_a_log_with_two_keys_is_remembered_with_both() -> None:
    new = new_signing_key(logs.ORIGIN, ED25519, b"new-" * 8)
    head = logs.checkpoint(3)
    lines = logs.signed(head, log=new).signatures + logs.signed(head).signatures
    body = format_request(AddCheckpoint(0, (), format_note(Note(head.text, lines))))
    for keys in ([new.verifier], [logs.LOG.verifier], [logs.LOG.verifier, new.verifier]):
        reply = ask(body, 0, keys)
        assert reply.remember is not None
        assert [line.key_id for line in parse_note(reply.remember.note).signatures] == [
            line.key_id for line in lines if line.key_id in {key.id for key in keys}
        ]


def test_only_a_cosigners_key_answers() -> None:
    with pytest.raises(ValueError, match="cosigner"):
        answer(request(0, 3), {logs.ORIGIN: [logs.LOG.verifier]}, holding(0), logs.LOG, logs.TIME_S)


GOOD = request(6, 11)


@pytest.mark.parametrize(
    "body",
    [
        GOOD.replace(b"old 6", b"old 06"),
        GOOD.replace(b"old 6", b"old +6"),
        GOOD.replace(b"old 6", b"old -6"),
        GOOD.replace(b"old 6", b"old  6"),
        GOOD.replace(b"old 6", b"old 6 "),
        GOOD.replace(b"old 6", b"Old 6"),
        GOOD.replace(b"old 6", b"old"),
        GOOD.replace(b"old 6", b"old 9223372036854775808"),
        GOOD.replace(b"old 6\n", b"old 6\r\n"),
        GOOD.replace(b"old 6\n", b"old 6\nold 6\n"),
        GOOD.replace(b"old 6\n", b"old 6\n" + encode64(bytes(31)).encode() + b"\n"),
        GOOD.replace(b"old 6\n", b"old 6\n" + (encode64(bytes(32)) + "\n").encode() * 64),
        GOOD.replace(b"old 6\n", "old 6\n—\n".encode()),
        GOOD.partition(b"\n\n")[0] + b"\n\n",
        GOOD.partition(b"\n\n")[2],
        GOOD.replace(b"\n11\n", b"\n011\n"),
        GOOD.replace(b"\n\n", b"\n"),
        GOOD[:-1],
        b"",
        GOOD + b"x" * REQUEST_MAX_BYTES,
    ],
)
def test_what_is_no_request(body: bytes) -> None:
    reply = ask(body, 6)
    assert reply.status == 400
    assert reply.remember is None
    assert reply.body.endswith(b"\n")


def test_the_biggest_request() -> None:
    note = parse_request(GOOD).checkpoint
    line = Signature("stranger", b"1234", bytes(480)).line.encode()
    body = format_request(AddCheckpoint(6, parse_request(GOOD).proof, note + line * 97))
    assert ask(body, 6).status == 200
    assert len(body + 3 * line) > REQUEST_MAX_BYTES
    assert ask(body + 3 * line, 6).status == 400


def test_no_flipped_bit_is_cosigned() -> None:
    for bit in range(8 * len(GOOD)):
        damaged = bytearray(GOOD)
        damaged[bit // 8] ^= 1 << bit % 8
        reply = ask(bytes(damaged), 6)
        assert reply.status in (400, 403, 404, 409, 422), bit
        assert reply.remember is None


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(min_size=1, max_size=300),
)
def test_a_request_reads_back(old: int, proof: list[bytes], checkpoint: bytes) -> None:
    sent = AddCheckpoint(old, tuple(proof), checkpoint)
    assert parse_request(format_request(sent)) == sent


@given(any_input(*TARGETS["request"].seeds))
def test_any_bytes_are_answered(data: bytes) -> None:
    feed(TARGETS["request"], data)


def test_a_log_takes_the_good_lines_of_a_reply() -> None:
    text = logs.checkpoint().text
    known, stranger = (cosign(text, key, 9) for key in logs.WITNESSES[:2])
    body = (stranger.line + known.line).encode()
    assert cosignatures(text, body, [logs.WITNESSES[0].verifier]) == (known,)
    assert cosignatures(text, body, []) == ()


def test_of_two_lines_of_one_witness_the_first_is_taken() -> None:
    text, key = logs.checkpoint().text, logs.WITNESSES[0]
    first, again = (cosign(text, key, time_s) for time_s in (9, 11))
    assert cosignatures(text, (first.line + again.line).encode(), [key.verifier]) == (first,)


def test_a_bad_line_of_a_known_witness_spoils_a_reply() -> None:
    body = cosign("another text\n", KEY, 9).line.encode()
    with pytest.raises(Unproven):
        cosignatures(logs.checkpoint().text, body, [KEY.verifier])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\n", b"ok\n", b"\xff\n", b"x" * 70_000, KEY.name.encode()),
        *(ask(request(0, 3)).body[:-1], ask(request(0, 3)).body + b"\n"),
        cosign("x\n", KEY, 1).line.encode() * (REPLY_LINES_MAX + 1),
    ],
    ids=range(9),
)
def test_what_is_no_reply(body: bytes) -> None:
    with pytest.raises(Malformed):
        cosignatures("x\n", body, [KEY.verifier])


@pytest.mark.parametrize("body", [b"", b"3", b"03\n", b"3\n\n", b" 3\n", b"-3\n", b"3\r\n", b"9" * 80_000 + b"\n", b"\xff\n"])
def test_what_is_no_size(body: bytes) -> None:
    with pytest.raises(Malformed):
        held_size(body)


@given(any_input(*TARGETS["reply"].seeds))
def test_any_bytes_are_a_reply_or_refused(data: bytes) -> None:
    feed(TARGETS["reply"], data)
