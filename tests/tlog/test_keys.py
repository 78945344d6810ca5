from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.keys import (
    COSIGNATURE,
    ED25519,
    MLDSA,
    VerifierKey,
    new_signing_key,
    parse_signing_key,
    parse_vkey,
    verify,
)
from stead.tlog.strict import Malformed, encode64
from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS
from tests.tlog.mutated import any_input
from tests.tlog.published import published

VKEYS = published("c2sp_formats.json")["vkey_parse"]
WYCHEPROOF = [
    (bytes.fromhex(group["publicKey"]["pk"]), case)
    for group in published("wycheproof_ed25519_test.json.gz")["data"]["testGroups"]
    for case in group["tests"]
]
# What libsodium, as PyNaCl 1.6 brings it, accepts of CCTV's 914 edge cases. A change here is a change of what counts as signed.
CCTV_ACCEPTED = {
    *(7, 29, 50, 117, 139, 161, 182, 249, 305, 411, 425, 438, 465, 473, 481, 489, 497, 511, 525, 538, 565, 573, 581, 589, 597),
    *(611, 625, 638, 665, 673, 681, 689, 697, 711, 725, 738, 765, 773, 781, 789, 797, 832, 899),
}
KEY = new_signing_key("host.example/ledger", ED25519, bytes(range(32)))


def test_every_published_vkey_is_there() -> None:
    assert [case["ok"] for case in VKEYS] == [True, True, True, False, False, False]


@pytest.mark.parametrize("case", VKEYS, ids=lambda case: case["name"])
def test_published_vkeys(case: dict[str, object]) -> None:
    text = str(case["vkey"])
    if not case["ok"]:
        with pytest.raises(Malformed):
            parse_vkey(text)
        return
    key = parse_vkey(text)
    if key.kind == MLDSA:  # its published id is not the one that tlog-cosignature computes
        assert text.startswith("test+5893dc2c+")
        assert key.text == text.replace("+5893dc2c+", "+31236897+")
        assert len(key.public) == 1312
    else:
        assert key.text == text


def test_gos_private_key_gives_gos_public_key() -> None:
    vectors = published("signed_note.json")
    key = parse_signing_key(vectors["sign"]["skey"])
    assert key.text == vectors["sign"]["skey"]
    assert key.verifier.text == vectors["open"][0]["vkeys"][0]


def test_wycheproof() -> None:
    assert len(WYCHEPROOF) == 151
    wrong = [
        case["tcId"]
        for public, case in WYCHEPROOF
        if verify(VerifierKey("x", ED25519, public), bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        != (case["result"] == "valid")
    ]
    assert not wrong


def test_cctvs_edge_cases_get_the_pinned_verdicts() -> None:
    cases = published("cctv_ed25519.json.gz")["vectors"]
    accepted = {
        case["number"]
        for case in cases
        if verify(VerifierKey("x", ED25519, bytes.fromhex(case["key"])), case["msg"].encode(), bytes.fromhex(case["sig"]))
    }
    assert len(cases) == 914
    assert accepted == CCTV_ACCEPTED


def test_rfc_8032_test_2() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = new_signing_key("x", ED25519, seed)
    assert key.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@given(st.binary(min_size=32, max_size=32), st.sampled_from((ED25519, COSIGNATURE)), st.binary(max_size=100))
def test_a_key_signs_what_it_verifies_and_reads_back(seed: bytes, kind: int, message: bytes) -> None:
    key = new_signing_key("host.example/λ", kind, seed)
    assert parse_signing_key(key.text) == key
    assert parse_vkey(key.verifier.text) == key.verifier
    signature = key.sign(message)
    assert verify(key.verifier, message, signature)
    assert not verify(key.verifier, message + b"x", signature)
    assert not verify(new_signing_key("x", kind, bytes((seed[0] ^ 1, *seed[1:]))).verifier, message, signature)


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_only_64_bytes_are_a_signature(length: int) -> None:
    assert not verify(KEY.verifier, b"text", (KEY.sign(b"text") * 2)[:length])


@pytest.mark.parametrize(
    ("kind", "public"), [(MLDSA, KEY.public), (MLDSA, bytes(1312)), (ED25519, KEY.public + b"x"), (ED25519, b"")]
)
def test_no_other_key_verifies(kind: int, public: bytes) -> None:
    assert not verify(VerifierKey("x", kind, public), b"text", KEY.sign(b"text"))


def test_one_public_key_has_another_id_for_each_name_and_kind() -> None:
    ids = {VerifierKey(name, kind, KEY.public).id for name in ("a", "b") for kind in (ED25519, COSIGNATURE)}
    assert len(ids) == 4
    assert all(len(each) == 4 for each in ids)


def test_a_signing_key_does_not_print_its_seed() -> None:
    secret = encode64(bytes((ED25519,)) + KEY.seed)
    assert secret in KEY.text
    for shown in (repr(KEY), str(KEY), f"{KEY}", repr({"key": KEY})):
        assert secret not in shown
        assert repr(KEY.seed) not in shown
        assert KEY.verifier.text in shown


@pytest.mark.parametrize(
    "damage", [lambda it: it[:-4], lambda it: it.replace("+", " "), lambda it: it[8:], lambda it: it.replace("host", "hose")]
)
def test_a_refusal_does_not_quote_a_private_key(damage: object) -> None:
    damaged = damage(KEY.text)  # type: ignore[operator]
    with pytest.raises(Malformed) as refused:
        parse_signing_key(damaged)
    assert KEY.text[-40:-10] not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u00a0b", "a\u2003b", "a\u3000b", "a\x00", "a\x1f", "a\udc80"]
)
def test_names_that_no_key_may_have(name: str) -> None:
    with pytest.raises(Malformed):
        new_signing_key(name, ED25519, bytes(32))
    with pytest.raises(Malformed):
        parse_vkey(f"{name}+00000000+{encode64(bytes((ED25519,)) + bytes(32))}")


@pytest.mark.parametrize("kind", [0, 2, 3, 5, MLDSA, 0xFF])
def test_only_ed25519_signs(kind: int) -> None:
    with pytest.raises(Malformed):
        new_signing_key("x", kind, bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(Malformed):
        new_signing_key("x", ED25519, bytes(length))


@pytest.mark.parametrize(
    "text",
    [
        KEY.verifier.text.upper(),
        KEY.verifier.text.replace(KEY.verifier.id.hex(), KEY.verifier.id.hex().upper()),
        KEY.verifier.text.replace(KEY.verifier.id.hex(), "00000000"),
        KEY.verifier.text.replace(KEY.verifier.id.hex(), KEY.verifier.id.hex() + "00"),
        KEY.verifier.text + "=",
        KEY.verifier.text + "\n",
        " " + KEY.verifier.text,
        KEY.verifier.text[:-4],
        "x+00000000+",
        f"x+00000000+{encode64(bytes((2,)) + bytes(32))}",
        "x" * 5000 + KEY.verifier.text,
    ],
)
def test_vkeys_that_are_not_exactly_right(text: str) -> None:
    with pytest.raises(Malformed):
        parse_vkey(text)


def test_every_flipped_bit_of_a_vkey_is_seen() -> None:
    text = KEY.verifier.text.encode()
    for bit in range(8 * len(text)):
        damaged = bytearray(text)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            parse_vkey(damaged.decode(errors="surrogateescape"))


@given(any_input(*TARGETS["key"].seeds))
def test_any_bytes_are_a_key_or_refused(data: bytes) -> None:
    feed(TARGETS["key"], data)
