"""What a leaf may look like: only what every encoder writes in one way."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from stead.ledger.leaf import canonical
from stead.ledger.strict_leaf import about, heads_of, unfit
from tests.ledger.listed import leaf

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(max_codepoint=0x7E), max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | TEXT,  # also with one digit changed below 2^53
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_a_full_canonicaliser_writes_is_fit(value: dict[str, Any]) -> None:
    data = rfc8785.dumps(value)
    assert unfit(data) == ""
    assert canonical(value) == data or any("\\" in name for name in _names(value))


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for item in value.values() for name in _names(item))]
    return [name for item in value for name in _names(item)] if isinstance(value, list) else []


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5), st.integers(0, 10_000), st.integers(0, 7))
def test_one_flipped_bit_makes_another_value_or_is_unfit(value: dict[str, Any], place: int, bit: int) -> None:
    data = bytearray(rfc8785.dumps(value))
    data[place % len(data)] ^= 1 << bit
    flipped = bytes(data)
    if unfit(flipped) == "":
        assert json.loads(flipped) != value
        assert rfc8785.dumps(json.loads(flipped)) == flipped


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1.5}', "1.5"),
        (b'{"a":1e3}', "1e3"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-0}', "canonical"),
        (b'{"a":9007199254740993}', "2^53"),
        (b'{"a":[[-9007199254740993]]}', "2^53"),
        (b'{"a":18446744073709551616}', "2^53"),
        (b'{"b":1,"a":2}', "canonical"),
        (b'{"a": 1}', "canonical"),
        (b'{"a":1}\n', "canonical"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":{"b":1,"b":2}}', "twice"),
        ('{"é":1}'.encode(), "ASCII"),
        (b'{"a":"\\u0041"}', "canonical"),
        (b'{"a":"\\u001F"}', "canonical"),
        (b'{"a":"\\/"}', "canonical"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b"[1]", "object"),
        (b"null", "object"),
        (b"", "Expecting"),
        (b"{", "Expecting"),
        (b"\xff", "utf-8"),
        (b"\xef\xbb\xbf{}", "canonical"),
        (b'{"a":' + b"[" * 100_000, "deep|recursion"),
    ],
)
def test_what_has_a_second_spelling_is_unfit(data: bytes, why: str) -> None:
    said = unfit(data)
    assert said and any(word in said for word in why.split("|"))


@pytest.mark.parametrize(
    "data",
    [b"{}", b'{"a":9007199254740992}', '{"a":"é 😀"}'.encode(), b'{"a":"\\n\\u001f\\"\\\\"}', b'{"a":"1234567890123456789"}'],
)
def test_what_is_fit(data: bytes) -> None:
    assert unfit(data) == ""


@given(st.binary(max_size=60))
def test_any_bytes_are_judged_without_an_error(data: bytes) -> None:
    assert isinstance(unfit(data), str) and isinstance(about(data), str)
    try:
        heads_of((data,))
    except ValueError:
        return
    raise AssertionError("sixty bytes are no leaf")


@pytest.mark.parametrize(
    "data", [b'{"body":{"about":"\xf3"}}', b'{"body":' + b'{"about":' * 7000 + b"1" + b"}" * 7001, b'{"a":' + b"[" * 60_000]
)
def test_neither_bad_utf8_nor_depth_is_an_error_of_another_kind(data: bytes) -> None:
    assert unfit(data) and about(data) == ""
    with pytest.raises(ValueError):
        heads_of((data,))


def test_a_leafs_own_words() -> None:
    (head,) = heads_of((leaf(7, blob="sha256:x"),))
    assert (head.id, head.type, head.blob) == ("e0007", "test.noted", "sha256:x")
    assert about(leaf(7)) == "subject 7"
    assert about(leaf(7, body={})) == about(b"{}") == about(b"rubbish") == ""
