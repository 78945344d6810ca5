"""Variable-length integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.stats import varint


@given(st.lists(st.integers(0, 2**70)))
def test_numbers_come_back(numbers: list[int]) -> None:
    out = bytearray()
    varint.put_all(out, numbers)
    assert varint.take_all(bytes(out), 0, len(numbers)) == (numbers, len(out))


@given(st.integers(-(2**70), 2**70))
def test_signed_numbers_come_back(number: int) -> None:
    out = bytearray(b"x")
    varint.put_signed(out, number)
    assert varint.take_signed(bytes(out), 1) == (number, len(out))


@pytest.mark.parametrize(("number", "size"), [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3)])
def test_small_numbers_are_short(number: int, size: int) -> None:
    out = bytearray()
    varint.put(out, number)
    assert len(out) == size


def test_an_early_end_is_noticed() -> None:
    with pytest.raises(ValueError, match="ends within a number"):
        varint.take(b"\x80\x80", 0)
