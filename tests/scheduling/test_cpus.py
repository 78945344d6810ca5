from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.model.errors import SteadError
from stead.scheduling.cpus import format_cpus, parse_cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-"])
def test_bad_lists_of_cpus(text: str) -> None:
    with pytest.raises(SteadError, match="not a list of CPUs"):
        parse_cpus(text)


@given(st.sets(st.integers(0, 130), min_size=1))
def test_lists_of_cpus_round_trip(cpus: set[int]) -> None:
    assert parse_cpus(format_cpus(sorted(cpus))) == sorted(cpus)
