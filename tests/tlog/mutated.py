"""Valid inputs with a few edits, as a hypothesis strategy: close enough to pass the first checks of a parser."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.mutate import TOKENS

Edit = tuple[float, int, bytes]


def mutated(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """One of the inputs with one to four edits, each replacing a span by a token or by any few bytes."""
    edit = st.tuples(st.floats(0, 1), st.integers(0, 50), st.sampled_from(TOKENS) | st.binary(max_size=4))
    return st.builds(_applied, st.sampled_from(seeds), st.lists(edit, min_size=1, max_size=4))


def any_input(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, arbitrary text, or a mutated valid input."""
    return st.binary(max_size=400) | st.text(max_size=200).map(str.encode) | mutated(*seeds)


def _applied(data: bytes, edits: list[Edit]) -> bytes:
    for place, length, new in edits:
        at = round(place * len(data))
        data = data[:at] + new + data[at + length :]
    return data
