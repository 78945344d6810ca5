from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.flow import runs
from stead.flow.verify import good_in_a_row, judge, wanted_level
from stead.model.change import Prediction, Run
from tests.flow.kit import NOW, PREDICTION, decision, proposal, stamp


def run_with(prediction: Prediction | None, **more: object) -> Run:
    return runs.start(proposal(prediction=prediction, **more), decision(), stamp())[0]


@pytest.mark.parametrize(
    ("met", "after", "result"),
    [
        ([True], 0.7, "helped"),
        ([True], 0.71, "no_help"),
        ([True, False], 0.1, "not_held"),
        ([None], 0.1, "inconclusive"),
        ([True], None, "inconclusive"),
    ],
)
def test_the_verdict(met: list[bool | None], after: float | None, result: str) -> None:
    verdict = judge(run_with(PREDICTION), met, after, None, NOW)
    assert verdict.result == result and verdict.reason and verdict.at_ms == NOW.unix_ms
    if result in ("helped", "no_help"):
        assert (verdict.before, verdict.after, verdict.predicted) == (1.0, after, 0.7)


def test_a_baseline_that_can_show_nothing_is_inconclusive() -> None:
    small = msgspec.structs.replace(PREDICTION, baseline=0.04)
    assert judge(run_with(small), [True], 0.0, None, NOW).result == "inconclusive"
    unknown = msgspec.structs.replace(PREDICTION, baseline=None)
    assert judge(run_with(unknown), [True], 0.0, None, NOW).result == "inconclusive"


def test_without_a_prediction_it_is_enough_that_it_holds() -> None:
    assert judge(run_with(None), [True], None, None, NOW).result == "helped"
    assert judge(run_with(None), [None], None, None, NOW).result == "inconclusive"


def test_enough_good_readings_in_a_row() -> None:
    run = run_with(PREDICTION, good_readings=3)
    assert judge(run, [True], 0.5, 2, NOW).result == "no_help"
    assert judge(run, [True], 0.5, 3, NOW).result == "helped"
    assert good_in_a_row(PREDICTION, [0.1, None, 0.7, 0.2]) == 2
    assert good_in_a_row(PREDICTION, [0.1, 0.8]) == 0
    assert good_in_a_row(msgspec.structs.replace(PREDICTION, baseline=None), [0.1]) == 0


@given(
    st.sampled_from(["up", "down"]),
    st.booleans(),
    st.floats(0.01, 0.9),
    st.floats(-1e6, 1e6),
    st.one_of(st.none(), st.floats(-1e6, 1e6)),
)
def test_unknown_is_never_help_and_help_is_a_move_in_the_right_direction(
    direction: str, relative: bool, at_least: float, before: float, after: float | None
) -> None:
    prediction = Prediction("m", "host", direction, at_least, relative, baseline=before, meaningful=-1e9)  # type: ignore[arg-type]
    verdict = judge(run_with(prediction), [True], after, None, NOW)
    if after is None:
        assert verdict.result == "inconclusive"
        return
    moved = before - after if direction == "down" else after - before
    level = wanted_level(prediction, before)
    assert verdict.result == ("helped" if (after <= level if direction == "down" else after >= level) else "no_help")
    if verdict.result == "helped":
        assert moved >= 0
