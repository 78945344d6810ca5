from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import signing, tlog

from stead.tlog.cosignature import TIME_MAX_S, cosign, cosigned_at, message
from stead.tlog.keys import COSIGNATURE, ED25519, VerifierKey, new_signing_key
from stead.tlog.note import Note, format_note
from tests.tlog import logs

KEY = logs.WITNESSES[0]
TEXT = logs.checkpoint().text


def test_the_message_is_as_the_specification_shows_it() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert message(text, 1_679_315_147) == b"cosignature/v1\ntime 1679315147\n" + text.encode()


def test_the_time_is_eight_big_endian_bytes_before_the_signature() -> None:
    line = cosign(TEXT, KEY, 0x0102030405060708)
    assert (line.name, line.key_id) == (KEY.name, KEY.verifier.id)
    assert line.data[:8] == bytes(range(1, 9))
    assert line.data[8:] == KEY.sign(message(TEXT, 0x0102030405060708))


@given(st.integers(0, TIME_MAX_S))
def test_a_cosignature_gives_its_time_back(time_s: int) -> None:
    assert cosigned_at(TEXT, KEY.verifier, cosign(TEXT, KEY, time_s).data) == time_s


def test_another_program_verifies_it() -> None:
    note = Note(TEXT, (cosign(TEXT, KEY, logs.TIME_S),))
    head = tlog.Checkpoint.from_text(format_note(note).decode())
    known = signing.VkeySet(signing.Vkey.from_string(KEY.verifier.text))
    assert len(known.verify(head.signatures, head)) == 1


def test_every_flipped_bit_is_seen() -> None:
    data = cosign(TEXT, KEY, logs.TIME_S).data
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert cosigned_at(TEXT, KEY.verifier, bytes(damaged)) is None


def test_a_time_beyond_the_limit_is_not_good_even_when_signed() -> None:
    for time_s, good in ((2**63 - 1, True), (2**63, False)):
        data = time_s.to_bytes(8, "big") + KEY.sign(message(TEXT, time_s))
        assert (cosigned_at(TEXT, KEY.verifier, data) is not None) is good


@pytest.mark.parametrize("length", [0, 8, 64, 71, 73])
def test_only_72_bytes_are_a_cosignature(length: int) -> None:
    assert cosigned_at(TEXT, KEY.verifier, (cosign(TEXT, KEY, 1).data * 2)[:length]) is None


def test_a_plain_key_has_no_cosignatures() -> None:
    assert cosigned_at(TEXT, VerifierKey(KEY.name, ED25519, KEY.public), cosign(TEXT, KEY, 1).data) is None
    with pytest.raises(ValueError, match="cosigner"):
        cosign(TEXT, logs.LOG, 1)


@pytest.mark.parametrize("time_s", [-1, 2**63])
def test_times_that_a_cosignature_can_not_carry(time_s: int) -> None:
    with pytest.raises(ValueError, match="time"):
        cosign(TEXT, KEY, time_s)


def test_a_cosignature_is_for_one_text_and_one_key() -> None:
    data = cosign(TEXT, KEY, 1).data
    assert cosigned_at(TEXT + "x\n", KEY.verifier, data) is None
    assert cosigned_at(TEXT, new_signing_key(KEY.name, COSIGNATURE, b"x" * 32).verifier, data) is None
