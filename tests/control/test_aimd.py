"""`aimd` on synthetic plants: what others lose beside a contender, under a cap on it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.control import aimd
from stead.control.probing import begin
from stead.model.change import Govern
from tests.control.plants import Plant, drive, shared_cpu

CAP = Govern("cpu_max_percent", "infra.protected_cpu_wait", "host", level=5.0, low=5.0, high=200.0)
HOUR = 720  # intervals of 5 s
READINGS = st.one_of(st.none(), st.floats(0, 1000, allow_nan=False))


@given(st.lists(READINGS, max_size=200), st.floats(0, 400), st.one_of(st.none(), st.floats(0, 400)))
def test_the_value_never_leaves_its_range_and_what_is_unknown_never_tightens(
    readings: list[float | None], start: float, used: float | None
) -> None:
    state = begin(CAP, start)
    for index, reading in enumerate(readings):
        before = state.value
        state, value = aimd.step(state, reading, index * 5000, used)
        assert CAP.low <= value <= CAP.high and value == state.value
        assert value <= before if reading is not None and reading > CAP.level else value >= before


def test_unknown_readings_lead_to_the_loose_end_within_a_few_intervals() -> None:
    trace = drive(CAP, Plant(lambda value: 0.0, silent=1.0), CAP.low, 20)
    assert trace.values[-1] == CAP.high and trace.values == sorted(trace.values)


@settings(deadline=None, max_examples=60)
@given(st.floats(20, 150), st.integers(0, 2), st.floats(0, 0.5), st.floats(0, 1.0), st.integers(0, 99))
def test_it_finds_the_room_there_is_and_rests_there(room: float, delay: int, smooth: float, noise: float, seed: int) -> None:
    """The second of two hours: others suffer seldom, little is moved, and most of the room is used."""
    plant = Plant(shared_cpu(room, 200), delay=delay, smooth=smooth, noise=noise, seed=seed)
    trace = drive(CAP, plant, CAP.high, 2 * HOUR)
    second = trace.values[HOUR:]
    assert trace.bad(CAP.level, HOUR) <= 0.08
    assert trace.turns(HOUR) <= 64
    assert sum(second) / len(second) >= 0.75 * room
    assert max(second) <= 1.35 * room + 5


def test_without_noise_it_moves_ever_less() -> None:
    trace = drive(CAP, Plant(shared_cpu(60, 200), delay=1, smooth=0.3), CAP.high, 8 * HOUR)
    turns = [trace.turns(hour * HOUR) for hour in (0, 1, 7)]
    assert turns[0] - turns[1] > turns[2], "the first hour moves more than the eighth"
    assert turns[2] <= 12


def test_a_plant_that_stays_bad_once_it_is_does_not_swing() -> None:
    """Bad from 100 upwards, and good again only below 50: each return to the edge costs twice the wait."""

    class Sticky:
        bad = False

        def __call__(self, value: float) -> float:
            self.bad = value > 100 or (self.bad and value >= 50)
            return 20.0 if self.bad else 1.0

    trace = drive(CAP, Plant(Sticky(), delay=1), CAP.high, 4 * HOUR)
    assert trace.turns(2 * HOUR) <= 36 and trace.bad(CAP.level, 2 * HOUR) <= 0.05
    assert trace.states[-1].hold_ms == CAP.hold_off_max_s * 1000


def test_where_even_the_tightest_does_not_help_it_stays_there() -> None:
    trace = drive(CAP, Plant(lambda value: 50.0), CAP.high, HOUR)
    assert trace.values[-1] == CAP.low and trace.turns() == 0


def test_where_nobody_suffers_it_goes_to_the_loose_end() -> None:
    trace = drive(CAP, Plant(shared_cpu(60, 30)), 20.0, 60)
    assert trace.values[-1] == CAP.high and trace.turns() == 0


def test_when_the_contender_goes_quiet_the_limit_is_given_back_within_the_longest_wait() -> None:
    loud, quiet = Plant(shared_cpu(60, 200), delay=1), Plant(shared_cpu(60, 10))
    trace = drive(CAP, lambda index: loud if index < HOUR else quiet, CAP.high, 2 * HOUR)
    given_back = trace.values.index(CAP.high, HOUR) - HOUR
    assert given_back * CAP.interval_s <= CAP.hold_off_max_s + 120


def test_when_the_room_gets_less_it_is_noticed_at_once() -> None:
    wide, narrow = Plant(shared_cpu(120, 200)), Plant(shared_cpu(40, 200))
    trace = drive(CAP, lambda index: wide if index < HOUR else narrow, CAP.high, HOUR + 30)
    assert trace.values[-1] <= 44


def test_it_tightens_from_what_is_used_and_not_from_a_limit_that_nobody_feels() -> None:
    _state, value = aimd.step(begin(CAP, 200.0), 50.0, 0, used=80.0)
    assert value == pytest.approx(80 * (1 - CAP.tighten))
    assert aimd.step(begin(CAP, 60.0), 50.0, 0, used=80.0)[1] == pytest.approx(60 * (1 - CAP.tighten))


def test_it_tightens_by_little_where_it_is_hardly_bad_and_never_by_more_than_is_allowed() -> None:
    little = aimd.step(begin(CAP, 100.0), 5.1, 0)[1]
    much = aimd.step(begin(CAP, 100.0), 500.0, 0)[1]
    assert 100 > little > much == pytest.approx(100 * (1 - CAP.tighten))


def test_within_the_dead_band_nothing_moves() -> None:
    trace = drive(CAP, Plant(lambda value: 4.0), 50.0, HOUR)
    assert set(trace.values) == {50.0}


def test_a_missing_reading_now_and_then_makes_it_no_worse_than_looser() -> None:
    trace = drive(CAP, Plant(shared_cpu(60, 200), silent=0.02), CAP.high, 2 * HOUR)
    assert all(b >= a for (a, b), r in zip(pairwise(trace.values), trace.readings, strict=True) if r is None)
    assert trace.bad(CAP.level, HOUR) <= 0.15
