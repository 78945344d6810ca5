from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.model.intent import Objective
from stead.probes.blame import Loss, Use, cpu_part, io_parts, memory_parts, waiting, worst

SHARES = st.floats(0, 64, allow_nan=False)


@pytest.mark.parametrize(
    ("ran", "waited", "percent"),
    [(0.5, 0.5, 50.0), (0.0, 0.1, 100.0), (1.0, 0.004, 0.0), (None, 0.1, None), (0.1, None, None), (0.0, 0.0, 0.0)],
)
def test_waiting_is_a_share_of_the_time_that_it_wanted_to_run(
    ran: float | None, waited: float | None, percent: float | None
) -> None:
    assert waiting(ran, waited) == percent


@pytest.mark.parametrize(
    ("use", "everybody", "protected", "part"),
    [
        (Use(1.9), 2.0, Use(0.1, 0.1), 0.95),  # nearly all that runs is this one
        (Use(0.1), 2.0, Use(0.1, 0.1), 0.05),  # others run: what is lost is not its doing
        (Use(0.02), 0.03, Use(0.01, 0.2), pytest.approx(0.1)),  # it can't have made anybody wait for longer than it ran
        (Use(1.9, idle=True), 2.0, Use(0.1, 0.1), 0.0),
        (Use(0.0), 0.0, Use(0.0, 0.0), 0.0),
        (Use(), 2.0, Use(0.1, 0.1), None),
        (Use(1.0), 2.0, Use(), None),
    ],
)
def test_the_part_of_one_contender(use: Use, everybody: float, protected: Use, part: float | None) -> None:
    assert cpu_part(use, everybody, protected) == part


@given(SHARES, SHARES, SHARES, SHARES)
def test_a_part_is_a_share_whatever_was_read(ran: float, others: float, p_ran: float, p_waited: float) -> None:
    found = cpu_part(Use(ran), ran + others + p_ran, Use(p_ran, p_waited))
    assert found is not None and 0.0 <= found <= 1.0


def test_parts_of_memory_are_by_size_and_by_growth() -> None:
    still = {"a": Use(memory_bytes=300), "b": Use(memory_bytes=100)}
    assert memory_parts(still) == {"a": 0.75, "b": 0.25}
    growing = {"a": Use(memory_bytes=300), "b": Use(memory_bytes=100, grown_bytes=50)}
    assert memory_parts(growing) == {"a": 0.375, "b": 0.625}
    assert memory_parts({"a": Use()}) == {"a": 0.0}
    assert memory_parts({}) == {}


def test_parts_of_io_are_by_bytes_and_what_is_not_seen_is_not_blamed() -> None:
    assert io_parts({"a": Use(io=3.0), "b": Use(io=1.0), "c": Use()}) == {"a": 0.75, "b": 0.25, "c": None}
    assert io_parts({"a": Use(io=0.0)}) == {"a": 0.0}


def test_the_worst_of_what_is_known() -> None:
    assert worst([(10.0, 0.5, "protect:a"), (40.0, 0.25, "protect:b"), (None, 1.0, "protect:c")]) == (10.0, "protect:b")
    assert worst([(None, 0.5, "protect:a"), (10.0, None, "protect:b")]) == (None, "")
    assert worst([]) == (None, "")


def test_demand_is_what_it_would_take_if_nobody_else_did() -> None:
    assert Use(0.5, 1.0, held_back=0.25).demand == 1.75
    assert Use(0.5).demand == 0.5
    assert Use().demand is None


def test_what_an_owner_tolerates_weighs_what_is_lost() -> None:
    strict, lax = Objective(1.0, pressure="cpu"), Objective(20.0, pressure="cpu")
    assert Loss(cpu=4.0).of("cpu") == 4.0
    assert Loss(cpu=4.0, objective=strict).of("cpu") == 20.0
    assert Loss(cpu=4.0, objective=lax).of("cpu") == 1.0
    assert Loss(io=4.0, objective=strict).of("io") == 4.0
    assert Loss(objective=strict).of("cpu") is None


def test_while_an_objectives_metric_is_well_nothing_counts_and_unknown_is_not_well() -> None:
    latency = Objective(300.0, "api.latency_p95")
    assert Loss(cpu=40.0, miss=0.8, objective=latency).of("cpu") == 0.0
    assert Loss(cpu=40.0, miss=1.2, objective=latency).of("cpu") == 40.0
    assert Loss(cpu=40.0, miss=None, objective=latency).of("cpu") is None
