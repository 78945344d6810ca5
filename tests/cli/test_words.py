"""Values in words, and columns that line up whatever is in them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.cli.table import cut, pairs, table, width_of
from stead.cli.words import SPARKS, ago, duration, number, plain, seconds_of, short_ids, size, sparkline
from stead.ledger import words as ledger_words
from stead.model.errors import EXIT_USAGE, SteadError


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "percent", "unknown (hung)"),
        (0.0, "percent", "0 %"),
        (12.345678, "percent", "12.35 %"),
        (1.0, "cores", "1 cores"),
        (3 << 30, "bytes", "3.0 GiB"),
        (1536.0, "bytes_per_second", "1.5 KiB/s"),
        (250.0, "milliseconds", "250 ms"),
        (7.0, "count", "7"),
    ],
)
def test_numbers_carry_their_unit(value: float | None, unit: str, words: str) -> None:
    assert number(value, unit, "hung") == words


def test_times_in_their_two_largest_units() -> None:
    assert [duration(s) for s in (0, 59, 60, 3_661, 90_061)] == ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h"]
    assert ago(1_000, 31_000) == "30 s ago"
    assert size(0) == "0 B"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604800), ("1.5h", 5400), ("2min", 120)]
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "10", "-1h", "1h and more", "1y"])
def test_other_texts_are_no_length_of_time(text: str) -> None:
    with pytest.raises(SteadError) as caught:
        seconds_of(text)
    assert caught.value.problem.exit_code == EXIT_USAGE


@given(st.lists(st.none() | st.floats(-1e9, 1e9), max_size=300))
def test_a_sparkline_has_a_bar_for_what_is_known_and_a_gap_for_what_is_not(values: list[float | None]) -> None:
    line = sparkline(values, 60)
    if not any(value is not None for value in values):
        assert line == ""
        return
    assert len(line) == min(len(values), 60)
    assert set(line) <= {*SPARKS, " "}
    if len(values) <= 60:
        assert [char == " " for char in line] == [value is None for value in values]


def test_a_spike_survives_the_thinning() -> None:
    values: list[float | None] = [0.0] * 600
    values[333] = 9.0
    assert sparkline(values, 60).count(SPARKS[-1]) == 1


@given(st.sets(st.uuids(), min_size=1, max_size=30))
def test_short_ids_tell_apart(ids: set[object]) -> None:
    short = short_ids(map(str, ids))
    assert len(set(short.values())) == len(ids)
    for whole, start in short.items():
        assert [other for other in map(str, ids) if other.startswith(start)] == [whole]


CELL = st.text(max_size=12) | st.tuples(st.text(max_size=12), st.sampled_from(["good", "critical", ""]))


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6))
def test_columns_line_up_and_no_cell_can_move_the_cursor(rows: list[tuple[object, object, object]]) -> None:
    marked = [("|", *row[1:], "|") for row in rows]
    lines = [click.unstyle(line) for line in table(("A", "B", "C", "|"), marked)]  # type: ignore[arg-type]
    assert all(line.isprintable() for line in lines)
    assert len({width_of(line) for line in lines}) == 1


def test_no_rows_are_said_in_words() -> None:
    assert table(("A",), [], none="nothing is wrong") == ["nothing is wrong"]


def test_escape_codes_in_a_name_are_taken_out() -> None:
    shown = "".join(pairs([("name", "evil\x1b[2Jname\n")]))
    assert "\x1b[2J" not in shown and "evil" in shown


@given(st.text(max_size=30), st.integers(1, 20))
def test_cut_fits(text: str, width: int) -> None:
    assert width_of(cut(text, width)) <= max(width, 1)


@pytest.mark.parametrize(
    ("subject", "read"),
    [
        ("process:4711@567890", "process:4711"),
        ("cgroup:/batch.scope@cpu.35787", "cgroup:/batch.scope"),
        ("cgroup:/user.slice/user@1000.service@91", "cgroup:/user.slice/user@1000.service"),
        ("cgroup:/user.slice/user@1000.service", "cgroup:/user.slice/user@1000.service"),
        ("mount:/srv/a@1", "mount:/srv/a@1"),
    ],
)
def test_a_subject_is_read_without_what_tells_it_from_its_successor(subject: str, read: str) -> None:
    assert plain(subject) == ledger_words.plain(subject) == read
