"""The raw block codec: bit for bit lossless, selective, and compact on what hosts look like."""

from __future__ import annotations

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.stats.blocks import Block, Column, decode, encode

any_bits = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
ODD = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308]
PAYLOAD = struct.unpack("<d", bytes.fromhex("0102030405fcf4ff"))[0]


@st.composite
def generated(draw: st.DrawFn) -> Block:
    """Rows at any times (clocks step), columns that miss any of them, values of any bits."""
    rows = draw(st.integers(0, 40))
    block = Block([draw(st.integers(0, 2**42)) for _ in range(rows)])
    for series_id in draw(st.sets(st.integers(1, 100_000), max_size=6)):
        sampled = sorted(draw(st.sets(st.integers(0, rows - 1)))) if rows else []
        block.columns[series_id] = Column(sampled, [draw(st.one_of(any_bits, st.sampled_from([*ODD, PAYLOAD]))) for _ in sampled])
    return block


def same(left: Block, right: Block) -> bool:
    columns = left.columns.keys() == right.columns.keys() and all(
        bytes(left.columns[key].values) == bytes(right.columns[key].values) and left.columns[key].rows == right.columns[key].rows
        for key in left.columns
    )
    return left.at_ms == right.at_ms and columns


@given(generated())
def test_round_trip_is_bit_for_bit(block: Block) -> None:
    assert same(decode(encode(block)), block)


@given(generated(), generated())
def test_extend_then_encode(first: Block, second: Block) -> None:
    whole = Block()
    whole.extend(first)
    whole.extend(second)
    again = decode(encode(whole))
    assert list(again.at_ms) == [*first.at_ms, *second.at_ms]
    for key in first.columns.keys() | second.columns.keys():
        assert list(map(repr, again.series(key))) == list(map(repr, [*first.series(key), *second.series(key)]))


def test_one_column_can_be_taken_alone() -> None:
    block = Block(range(0, 3000, 1000), {4: Column(range(3), [1.0, 2.0, math.nan]), 9: Column([1], [7.5])})
    data = encode(block)
    alone = decode(data, [9])
    assert list(alone.columns) == [9]
    assert alone.series(9) == [(1000, 7.5)]
    assert alone.series(4) == []
    assert repr(decode(data, [4]).series(4)) == "[(0, 1.0), (1000, 2.0), (2000, nan)]"


def host_like() -> Block:
    """Five minutes: shares with three decimals, counters' rates, constants, a probe every 30 s."""
    dice = random.Random(5)
    block = Block(range(0, 300_000, 1000))
    for number in range(30):
        block.columns[3 * number + 1] = Column(range(300), [round(dice.gauss(30, 8), 1) for _ in range(300)])
        block.columns[3 * number + 2] = Column(range(300), [8_000_000_000.0 + number] * 300)
        block.columns[3 * number + 3] = Column(range(0, 300, 30), [dice.random() for _ in range(10)])
    return block


def test_host_like_values_take_under_three_bytes() -> None:
    block = host_like()
    samples = sum(len(column.values) for column in block.columns.values())
    assert len(encode(block)) / samples < 3


def test_damage_is_noticed() -> None:
    data = encode(host_like())
    for broken in (b"", b"\x02" + data[1:], data[:20], data[: len(data) // 2], data[:-1]):
        with pytest.raises(ValueError, match=r"version|damaged|ends"):
            decode(broken)


def test_a_column_without_a_value_for_each_row_is_refused() -> None:
    with pytest.raises(ValueError, match="one value a row"):
        encode(Block([0, 1], {1: Column([0, 1], [1.0])}))
