from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.cosignature import cosign
from stead.tlog.keys import ED25519, MLDSA, VerifierKey, new_signing_key, parse_signing_key, parse_vkey
from stead.tlog.merkle import Unproven
from stead.tlog.note import NOTE_MAX_BYTES, Note, Signature, Verified, format_note, parse_note, sign_note, verified
from stead.tlog.strict import Malformed
from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS
from tests.tlog import logs
from tests.tlog.mutated import any_input
from tests.tlog.published import published

VECTORS = published("signed_note.json")
OPEN = VECTORS["open"]
TEXT = "a text\n\nof two parts\n"
KEY = new_signing_key("signer.example", ED25519, b"1" * 32)
OTHER = new_signing_key("other.example", ED25519, b"2" * 32)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc"), exclude_characters="+"), min_size=1, max_size=20)


def opened(note: bytes, vkeys: list[str]) -> int:
    """How many known keys signed; 0 also for what Go's `Open` refuses."""
    try:
        return len(verified(parse_note(note), [parse_vkey(text) for text in vkeys]))
    except Malformed:
        return 0


def test_every_published_note_is_there() -> None:
    assert [case["ok"] for case in OPEN] == [True, True, False, None, *[False] * 8, True, True]


@pytest.mark.parametrize("case", OPEN, ids=lambda case: case["name"])
def test_published_notes(case: dict[str, object]) -> None:
    """`ok` is None for the note beyond Go's limit of 100 signatures, which is ours too."""
    note = str(case["note"]).encode()
    assert opened(note, list(case["vkeys"])) == (case["verified"] if case["ok"] else 0)  # type: ignore[call-overload]
    if case["ok"]:
        assert format_note(parse_note(note)) == note
    else:
        bad_signatures = ("no known key", "invalid signature", "malformed note #9")
        assert case["name"] in bad_signatures or refused(note)


def refused(note: bytes) -> bool:
    try:
        parse_note(note)
    except Malformed:
        return True
    return False


def test_the_published_note_that_is_not_utf8() -> None:
    """JSON holds its first byte, 0xFF, as a character; Go's test has the bare byte."""
    note = next(case["note"] for case in OPEN if case["name"] == "malformed note #9")
    with pytest.raises(Malformed, match="UTF-8"):
        parse_note(note.encode("utf-8").replace("ÿ".encode(), b"\xff"))


def test_the_published_note_to_sign() -> None:
    want = VECTORS["sign"]
    assert format_note(sign_note(want["text"], [parse_signing_key(want["skey"])])).decode() == want["want"]


def test_the_last_empty_line_separates() -> None:
    note = parse_note(format_note(sign_note(TEXT, [KEY])))
    assert note.text == TEXT
    assert verified(note, [KEY.verifier]) == [Verified(KEY.verifier, None)]


def test_a_line_is_written_as_the_specification_shows_it() -> None:
    assert Signature("example.com/foo", b"\0\0\0\1", b"\2" * 4).line == "— example.com/foo AAAAAQICAgI=\n"


@pytest.mark.parametrize(
    "key", [OTHER.verifier, VerifierKey("signer.example", ED25519, OTHER.public), VerifierKey("x", ED25519, KEY.public)]
)
def test_unknown_keys_are_ignored(key: VerifierKey) -> None:
    assert verified(sign_note(TEXT, [KEY]), [key]) == []


@pytest.mark.parametrize("known", ["name", "id"])
def test_a_key_that_shares_only_name_or_id_is_another_key(known: str) -> None:
    good = sign_note(TEXT, [KEY]).signatures[0]
    line = good._replace(key_id=b"\0\0\0\0") if known == "name" else good._replace(name="stranger")
    assert verified(Note(TEXT, (line, good)), [KEY.verifier]) == [Verified(KEY.verifier, None)]


def test_a_bad_signature_of_a_known_key_spoils_the_note() -> None:
    good = sign_note(TEXT, [KEY, OTHER]).signatures
    bad = good[1]._replace(data=good[0].data)
    for lines in ((good[0], bad), (bad, good[0]), (*good, bad)):
        with pytest.raises(Unproven, match="not good"):
            verified(Note(TEXT, lines), [KEY.verifier, OTHER.verifier])


def test_a_key_counts_once_however_often_it_signed() -> None:
    line = sign_note(TEXT, [KEY]).signatures[0]
    assert len(verified(Note(TEXT, (line, line)), [KEY.verifier, KEY.verifier])) == 1


def test_a_cosigner_counts_once_with_its_first_time() -> None:
    witness = logs.WITNESSES[0]
    lines = tuple(cosign(TEXT, witness, time_s) for time_s in (7, 9))
    assert verified(Note(TEXT, lines), [witness.verifier]) == [Verified(witness.verifier, 7)]


def test_mldsa_lines_count_for_nothing_and_harm_nothing() -> None:
    key = VerifierKey("pq.example", MLDSA, bytes(1312))
    note = sign_note(TEXT, [KEY])
    note = Note(TEXT, (Signature(key.name, key.id, bytes(2428)), *note.signatures))
    assert verified(note, [key, KEY.verifier]) == [Verified(KEY.verifier, None)]
    assert verified(note, [key]) == []


def test_a_cosignature_does_not_pass_for_a_plain_signature() -> None:
    plain = new_signing_key(KEY.name, 0x04, KEY.seed)
    line = cosign(TEXT, plain, 1)
    with pytest.raises(Unproven):
        verified(Note(TEXT, (Signature(KEY.name, KEY.verifier.id, line.data),)), [KEY.verifier])
    with pytest.raises(Unproven):
        verified(Note(TEXT, (line._replace(data=sign_note(TEXT, [KEY]).signatures[0].data),)), [plain.verifier])


def test_known_keys_that_can_not_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VerifierKey, "id", property(lambda self: b"same"))
    with pytest.raises(Malformed, match="two different known keys"):
        verified(Note(TEXT, ()), [KEY.verifier, VerifierKey(KEY.name, ED25519, OTHER.public)])


def test_what_can_not_be_signed() -> None:
    with pytest.raises(ValueError, match="newline"):
        sign_note("no end", [KEY])
    with pytest.raises(ValueError, match="0x01"):
        sign_note(TEXT, [logs.WITNESSES[0]])


def test_limits() -> None:
    line = sign_note(TEXT, [KEY]).signatures[0]
    assert len(parse_note(format_note(Note(TEXT, (line,) * 100))).signatures) == 100
    with pytest.raises(Malformed, match="100"):
        parse_note(format_note(Note(TEXT, (line,) * 101)))
    fits = NOTE_MAX_BYTES - len(format_note(Note("\n", (line,))))
    assert parse_note(format_note(Note("x" * fits + "\n", (line,))))
    with pytest.raises(Malformed, match="bytes"):
        parse_note(format_note(Note("x" * fits + "x\n", (line,))))


GOOD = format_note(sign_note(TEXT, [KEY]))


@pytest.mark.parametrize(
    "damaged",
    [
        GOOD.replace(b" signer", b"  signer"),
        GOOD.replace("— ".encode(), b"- "),
        GOOD.replace("— ".encode(), "—\u00a0".encode()),
        GOOD.replace(b"signer.example ", b""),
        GOOD.replace(b"signer.example", b"sig+ner"),
        GOOD.replace(b"signer.example", "sig\u2028ner".encode()),
        GOOD[:-1] + b" \n",
        GOOD[:-1] + b"\r\n",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD + b"x\n",
        GOOD.replace(b"a text", b"a\ttext"),
        GOOD.replace(b"a text", b"a\0text"),
        GOOD.replace(b"a text", b"a\x1btext"),
        GOOD.replace(b"a text", b"a\x80text"),
        "a text\n\n— signer.example AAAAAA==\n".encode(),
        "— signer.example AAAAAAA=\n".encode(),
        b"",
    ],
)
def test_what_is_no_note(damaged: bytes) -> None:
    with pytest.raises(Malformed):
        parse_note(damaged)


def test_every_flipped_bit_is_refused_or_unsigned() -> None:
    """Also the padding bits of base64, which Python's decoder does not look at."""
    for bit in range(8 * len(GOOD)):
        damaged = bytearray(GOOD)
        damaged[bit // 8] ^= 1 << bit % 8
        assert opened(bytes(damaged), [KEY.verifier.text]) == 0, bit


@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20), min_size=1, max_size=5),
    st.lists(st.tuples(NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)), min_size=1, max_size=5),
)
def test_a_note_reads_back(lines: list[str], signatures: list[tuple[str, bytes, bytes]]) -> None:
    note = Note("\n".join(lines) + "\n", tuple(Signature(*each) for each in signatures))
    assert parse_note(format_note(note)) == note


@given(any_input(*TARGETS["note"].seeds))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    feed(TARGETS["note"], data)
