from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.flow import runs
from stead.flow.verify import Measured, as_predicted, good_in_a_row, judge, wanted_level
from stead.model.change import Prediction, Run
from stead.stats.effect import Effect
from tests.flow.kit import NOW, PREDICTION, decision, proposal, stamp


def run_with(prediction: Prediction | None, **more: object) -> Run:
    return runs.start(proposal(prediction=prediction, **more), decision(), stamp())[0]


def seen(after: float | None, least: float = 1.0, most: float = 1.0, good: int | None = None) -> Measured:
    """What is measured where the metric would have been 1, or from `least` to `most`."""
    return Measured(after, good, None if after is None else Effect(after, 1.0, least, most))


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
    verdict = judge(run_with(PREDICTION), met, seen(after), NOW)
    assert verdict.result == result and verdict.reason and verdict.at_ms == NOW.unix_ms
    if result in ("helped", "no_help"):
        assert (verdict.before, verdict.after, verdict.predicted) == (1.0, after, 0.7)


@pytest.mark.parametrize(
    ("after", "result"), [(0.48, "helped"), (0.5, "inconclusive"), (0.69, "inconclusive"), (0.71, "no_help"), (5.0, "no_help")]
)
def test_the_whole_interval_decides(after: float, result: str) -> None:
    """0.3 less than what would have been, which is 0.7 to 1.4: 0.49 helped in any case, above 0.7 it just did not fall."""
    verdict = judge(run_with(PREDICTION), [True], seen(after, 0.7, 1.4), NOW)
    assert verdict.result == result
    assert (verdict.counterfactual, verdict.effect) == (1.0, after - 1.0)
    assert (verdict.low, verdict.high) == (after - 1.4, after - 0.7)
    assert "would have been 1 (0.7 to 1.4 with 95 % confidence)" in verdict.reason
    assert ("too uncertain" in verdict.reason) == (result == "inconclusive")


def test_of_what_should_rise_the_modest_end_is_the_upper_one() -> None:
    up = msgspec.structs.replace(PREDICTION, direction="up")
    found = [judge(run_with(up), [True], seen(after, 0.7, 1.4), NOW).result for after in (1.83, 1.81, 1.31, 1.29)]
    assert found == ["helped", "inconclusive", "inconclusive", "no_help"]


def test_what_did_not_plainly_get_better_did_not_help_however_little_is_known() -> None:
    """The quiet before an onset is in the mean before: what it was right before the change counts as well."""
    diluted = msgspec.structs.replace(PREDICTION, baseline=0.2)
    for after, lately, result in ((0.75, 1.0, "no_help"), (0.6, 1.0, "inconclusive"), (0.6, None, "no_help")):
        verdict = judge(run_with(diluted), [True], Measured(after, 0, None, "too few readings", lately), NOW)
        assert verdict.result == result and ("too few readings" in verdict.reason) == (result == "inconclusive")


def test_what_its_owner_named_stays_untold_where_no_effect_is_known() -> None:
    """Three such failures in a row lower the ceiling: a verdict from two readings must not be one."""
    named = run_with(msgspec.structs.replace(PREDICTION, baseline=0.2), keep_unclear=True)
    verdict = judge(named, [True], Measured(0.75, 0, None, "too few readings", 1.0), NOW)
    assert verdict.result == "inconclusive" and "too few readings" in verdict.reason
    assert judge(named, [True], seen(0.75), NOW).result == "no_help", "an effect that is known counts all the same"


def test_by_a_twin_it_may_be_no_help_though_it_fell() -> None:
    verdict = judge(run_with(PREDICTION), [True], Measured(0.5, 9, Effect(0.5, 0.5, 0.45, 0.6)), NOW)
    assert verdict.result == "no_help" and verdict.effect == 0.0


def test_a_share_of_nothing_is_no_move() -> None:
    verdict = judge(run_with(PREDICTION), [True], seen(0.0, 0.0, 3.0), NOW)
    assert verdict.result == "inconclusive", "without the change it may have been zero as well"


def test_what_is_counted_in_bytes_is_told_in_mebibytes() -> None:
    move: dict[str, Any] = {
        "direction": "up",
        "at_least": float(16 << 20),
        "relative": False,
        "baseline": -54_830_000.0,
        "meaningful": -1e9,
    }
    freed = msgspec.structs.replace(PREDICTION, metric="infra.ksm_net_bytes", **move)
    told = judge(run_with(freed), [True], seen(float(64 << 20)), NOW).reason
    assert told.startswith(
        "infra.ksm_net_bytes went from -52.29 MiB to 64 MiB; predicted at least 16 MiB; without the change it would have been 1 B"
    )


def test_an_effect_that_can_not_be_told_is_inconclusive_and_says_why() -> None:
    verdict = judge(run_with(PREDICTION), [True], Measured(0.1, 9, None, "demand itself fell"), NOW)
    assert verdict.result == "inconclusive" and "demand itself fell" in verdict.reason and verdict.effect is None


def test_a_baseline_that_can_show_nothing_is_inconclusive() -> None:
    small = msgspec.structs.replace(PREDICTION, baseline=0.04)
    assert judge(run_with(small), [True], seen(0.0), NOW).result == "inconclusive"
    unknown = msgspec.structs.replace(PREDICTION, baseline=None)
    assert judge(run_with(unknown), [True], seen(0.0), NOW).result == "inconclusive"


def test_without_a_prediction_it_is_enough_that_it_holds() -> None:
    assert judge(run_with(None), [True], Measured(), NOW).result == "helped"
    assert judge(run_with(None), [None], Measured(), NOW).result == "inconclusive"


def test_enough_good_readings_in_a_row() -> None:
    run = run_with(PREDICTION, good_readings=3)
    assert judge(run, [True], seen(0.5, good=2), NOW).result == "no_help"
    assert judge(run, [True], seen(0.5, good=3), NOW).result == "helped"
    assert good_in_a_row(PREDICTION, [0.1, None, 0.7, 0.2]) == 2
    assert good_in_a_row(PREDICTION, [0.1, 0.8]) == 0
    assert good_in_a_row(msgspec.structs.replace(PREDICTION, baseline=None), [0.1]) == 0


@given(
    st.sampled_from(["up", "down"]),
    st.booleans(),
    st.floats(0.01, 0.9),
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    st.one_of(st.none(), st.floats(-1e6, 1e6)),
)
def test_unknown_is_never_help_and_help_is_a_move_in_the_right_direction(
    direction: str, relative: bool, at_least: float, ends: list[float], after: float | None
) -> None:
    least, expected, most = sorted(ends)
    prediction = Prediction("m", "host", direction, at_least, relative, baseline=1.0, meaningful=-1e9)  # type: ignore[arg-type]
    measured = Measured(after, None, None if after is None else Effect(after, expected, least, most))
    verdict = judge(run_with(prediction), [True], measured, NOW)
    if after is None:
        assert verdict.result == "inconclusive"
        return
    by_each = {as_predicted(prediction, wanted_level(prediction, end), after) for end in (least, expected, most)}
    if verdict.result == "helped":
        assert by_each == {True} and all((end - after if direction == "down" else after - end) >= 0 for end in (least, most))
    if verdict.result == "no_help":
        assert False in by_each
