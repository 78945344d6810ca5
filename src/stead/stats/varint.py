"""Variable-length integers (LEB128, zigzag for signed): the small change of the compact encodings in this package."""

from __future__ import annotations

from collections.abc import Iterable


def put(out: bytearray, number: int) -> None:
    """Append a non-negative integer, seven bits a byte, lowest first."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def put_all(out: bytearray, numbers: Iterable[int]) -> None:
    """Append many non-negative integers."""
    for number in numbers:
        put(out, number)


def put_signed(out: bytearray, number: int) -> None:
    """Append an integer of either sign: 0, -1, 1, -2, … become 0, 1, 2, 3, …"""
    put(out, number << 1 if number >= 0 else (-number << 1) - 1)


def take(data: bytes, at: int) -> tuple[int, int]:
    """The integer at an offset, and the offset after it. Raises ValueError where the data ends early."""
    number = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("the data ends within a number")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def take_signed(data: bytes, at: int) -> tuple[int, int]:
    """The integer of either sign at an offset, and the offset after it."""
    number, at = take(data, at)
    return (number >> 1) ^ -(number & 1), at


def take_all(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """`count` integers from an offset, and the offset after them."""
    numbers = []
    for _ in range(count):
        number, at = take(data, at)
        numbers.append(number)
    return numbers, at
