"""`senpai` on synthetic plants: the pressure of a group under a limit on its memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.control import senpai
from stead.control.laws import LAWS
from stead.control.probing import begin, resumed
from stead.model.change import Govern
from tests.control.plants import Plant, cold_memory, drive

MEGA = 1e6
HIGH = Govern(
    "memory_high_bytes",
    "infra.group_memory_stall",
    "cgroup:/a@1",
    level=0.1,
    low=100 * MEGA,
    high=1000 * MEGA,
    law="senpai",
    **LAWS["senpai"].own,
)
HOUR = 600  # intervals of 6 s


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=200), st.one_of(st.none(), st.floats(0, 2e9)))
def test_the_value_never_leaves_its_range_and_loosens_where_it_is_bad_or_unknown(
    readings: list[float | None], used: float | None
) -> None:
    state = begin(HIGH, 500 * MEGA)
    for index, reading in enumerate(readings):
        before = state.value
        state, value = senpai.step(state, reading, index * 6000, used)
        assert HIGH.low <= value <= HIGH.high and value == state.value
        assert value >= before if reading is None or reading > HIGH.level else value <= before


@settings(deadline=None, max_examples=40)
@given(st.floats(200, 900), st.integers(0, 1), st.integers(0, 99))
def test_it_finds_what_is_not_needed(hot: float, delay: int, seed: int) -> None:
    """The third hour: pressure shows seldom, and on average the limit lies near what is needed."""
    plant = Plant(cold_memory(hot * MEGA), delay=delay, smooth=0.3, noise=0.01, seed=seed)
    trace = drive(HIGH, plant, HIGH.high, 3 * HOUR)
    third = trace.values[2 * HOUR :]
    assert trace.bad(HIGH.level, 2 * HOUR) <= 0.05 and trace.turns(2 * HOUR) <= 24
    assert sum(third) / len(third) <= hot * MEGA * 1.35
    assert min(third) >= hot * MEGA * 0.93


def test_what_nobody_needs_at_all_goes_to_the_tightest_and_stays() -> None:
    trace = drive(HIGH, Plant(lambda value: 0.0), HIGH.high, HOUR)
    assert trace.values[-1] == HIGH.low and trace.turns() == 0


def test_what_is_needed_whole_goes_back_to_the_loose_end() -> None:
    trace = drive(HIGH, Plant(lambda value: 5.0), 500 * MEGA, 20)
    assert trace.values[-1] == HIGH.high and trace.turns() == 0


def test_pressure_that_begins_is_relieved_at_once() -> None:
    small, grown = Plant(cold_memory(300 * MEGA)), Plant(cold_memory(800 * MEGA))
    trace = drive(HIGH, lambda index: small if index < HOUR else grown, HIGH.high, HOUR + 5)
    assert trace.values[-1] >= 800 * MEGA


def test_where_less_is_used_than_is_allowed_it_begins_at_what_is_used() -> None:
    value = senpai.step(begin(HIGH, 1000 * MEGA), 0.0, 0, used=400 * MEGA)[1]
    assert value == pytest.approx(400 * MEGA * (1 + senpai.HEADROOM) * (1 - HIGH.tighten))


def test_after_a_restart_what_was_bad_is_not_tried_again_at_once() -> None:
    plant = Plant(cold_memory(600 * MEGA))
    trace = drive(HIGH, plant, HIGH.high, 2 * HOUR)
    last = trace.states[-1]
    assert last.edge is not None and last.hold_ms > 2 * HIGH.hold_off_s * 1000
    fresh, wise = begin(HIGH, last.value), resumed(HIGH, last.value, last.edge, last.hold_ms / 1000, 0)
    bad = []
    for state in (fresh, wise):
        readings = []
        for index in range(round(last.hold_ms / 6000)):
            readings.append(plant.read(state.value) or 0.0)
            state, _ = senpai.step(state, readings[-1], index * 6000)
        bad.append(sum(reading > HIGH.level for reading in readings))
    assert bad[1] == 0 < bad[0]
    assert resumed(HIGH, last.value, None, 900.0, 0) == begin(HIGH, last.value), "what learned nothing begins anew"


def test_it_walks_slower_the_nearer_the_pressure_is_to_its_level() -> None:
    calm, less_so = (senpai.step(begin(HIGH, 500 * MEGA), reading, 0)[1] for reading in (0.0, 0.06))
    assert calm < less_so < 500 * MEGA


def test_unknown_readings_lead_to_the_loose_end_and_nothing_is_tightened_right_after() -> None:
    state = begin(HIGH, HIGH.low)
    for index in range(10):
        state, _ = senpai.step(state, None, index * 6000)
    assert state.value == HIGH.high
    assert senpai.step(state, 0.0, 10 * 6000)[1] == HIGH.high
