from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stead.tlog.strict import Malformed, decimal, decode64, encode64

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@given(st.binary(max_size=200))
def test_base64_round_trips_and_is_the_standard_one(data: bytes) -> None:
    assert encode64(data) == base64.b64encode(data).decode()
    assert decode64(encode64(data), len(data)) == data


@given(st.one_of(st.text(max_size=60), st.text(ALPHABET + "=-_ \n", max_size=60)))
@example("=")
@example("AA=A")
def test_text_is_refused_or_is_the_one_spelling(text: str) -> None:
    try:
        data = decode64(text)
    except Malformed:
        return
    assert encode64(data) == text


@given(st.binary(min_size=1, max_size=100), st.data())
def test_every_other_character_changes_the_bytes_or_is_refused(data: bytes, draw: st.DataObject) -> None:
    text = encode64(data)
    place = draw.draw(st.integers(0, len(text) - 1))
    other = draw.draw(st.sampled_from([each for each in ALPHABET + "=-_ \n\0é" if each != text[place]]))
    with suppress(Malformed):
        assert decode64(text[:place] + other + text[place + 1 :]) != data


@pytest.mark.parametrize(
    "text",
    [
        "Zh==",  # padding bits that are not zero: "Zg==" is b"f"
        "Zm9=",
        "Zg",
        "Zg=",
        "Zg===",
        "Zg==Zg==",
        "Zg==\n",
        " Zg==",
        "Z g==",
        "Z-_=",
        "Z\0==",
        "Zé==",
        "====",
    ],
)
def test_other_spellings_are_malformed(text: str) -> None:
    with pytest.raises(Malformed, match=r"^the key: "):
        decode64(text, what="the key")


def test_a_wrong_length_is_malformed() -> None:
    assert decode64("", 0) == b""
    with pytest.raises(Malformed, match="31 bytes where 32 belong"):
        decode64(encode64(bytes(31)), 32)


@given(st.integers(0, 2**63 - 1))
@example(0)
@example(2**63 - 1)
def test_decimals_round_trip(value: int) -> None:
    assert decimal(str(value)) == value


@given(st.one_of(st.text(max_size=30), st.text("0123456789+-_ .", max_size=30)))
def test_a_decimal_is_refused_or_reads_back(text: str) -> None:
    try:
        value = decimal(text)
    except Malformed:
        return
    assert str(value) == text
    assert 0 <= value < 2**63


@pytest.mark.parametrize(
    "text",
    ["", "00", "01", "+1", "-0", "-1", " 1", "1 ", "1\n", "1_0", "1.0", "1e3", "0x1", "١", "²", str(2**63), "9" * 20, "9" * 5000],
)
def test_other_decimals_are_malformed(text: str) -> None:
    with pytest.raises(Malformed, match=r"^size: "):
        decimal(text, "size")


def test_a_message_cuts_and_escapes_what_it_shows() -> None:
    with pytest.raises(Malformed) as refused:
        decimal("\x1b[2J" + "9" * 1_000_000)
    assert len(str(refused.value)) < 120
    assert "\x1b" not in str(refused.value)
