"""Mutations of valid inputs, the same ones for the same seed, for runs without a coverage-guided fuzzer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

TOKENS = (
    *(
        b"\n",
        b"\n\n",
        b" ",
        b"\t",
        b"+",
        b"=",
        b"==",
        b"-1",
        b"0",
        b"00",
        b"1",
        b"\0",
        b"\r\n",
        b"\x7f",
        b"\xff",
        b"\xe2\x80\x94 ",
    ),
    *("\u2028".encode(), "\u00a0".encode(), "\u0661".encode(), b"\xed\xa0\x80", b"9223372036854775807", b"9223372036854775808"),
    *(
        b"all",
        b"any",
        b"none",
        b"#",
        b"group g 1 w1\n",
        b"quorum none\n",
        b"extra AA==\n",
        b"index ",
        b"old ",
        b"A" * 44,
        b'"',
        b"{}",
    ),
    *(b"[" * 2000, b"1e999", b"\\ud800", b"NaN", b"9" * 5000),
)
EDITS_MAX = 4


def mutations(seeds: Sequence[bytes], count: int, number: int) -> Iterator[bytes]:
    """`count` inputs that grow out of the valid ones; `number` chooses which."""
    random = Random(number)
    for _ in range(count):
        data = random.choice(seeds)
        for _ in range(random.randint(1, EDITS_MAX)):
            data = edited(data, random, seeds)
        yield data


def edited(data: bytes, random: Random, seeds: Sequence[bytes]) -> bytes:
    """One edit: a bit, a byte, a span, a token, a line, or a piece of another input."""
    at = random.randint(0, len(data))
    end = min(len(data), at + random.choice((1, 2, 4, 44, 200)))
    kind = random.randrange(8)
    if kind == 0 and at < len(data):
        return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:end] + data[at:end] * random.choice((1, 2, 70)) + data[end:]
    if kind == 3:
        return data[:at] + random.randbytes(random.randint(1, 8)) + data[end:]
    if kind == 4:
        other = random.choice(seeds)
        return data[:at] + other[random.randint(0, len(other)) :]
    if kind == 5:
        lines = data.split(b"\n")
        random.shuffle(lines)
        return b"\n".join(lines)
    if kind == 6:
        return data[:at]
    return data[:at] + random.choice(TOKENS) + data[random.choice((at, end)) :]
