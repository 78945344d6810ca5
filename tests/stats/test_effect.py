"""The effect of a change: exact cases, and simulated series of which it is known whether anything was changed.

What counts: where nothing was changed, "helped" is said of at most one series in twenty, also of autocorrelated ones, of lulls,
and of peaks that were answered because they were peaks; where something was, it is found in most.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.stats.effect import Control, Effect, Noise, against_twin, interrupted, moved_by_itself, noise_of, quantile_of_t
from tests.stats.plants import Told, autoregressive, bursting, cycling, failing, hogged, judged, noisy, peaking

MADE = 1000


def effect(found: Effect | str) -> Effect:
    assert isinstance(found, Effect), found
    return found


def share(
    make: Callable[[random.Random], Told], within: int, after: int, controlled: bool = False, made: int = MADE
) -> Counter[str]:
    """How often each thing is said of as many series."""
    rng = random.Random(20)
    return Counter(judged(make(rng), within, after, controlled=controlled) for _ in range(made))


# -- exact ------------------------------------------------------------------------------------------------------------


def test_without_noise_the_effect_is_the_difference() -> None:
    found = effect(interrupted([4.0] * 5, [1.0] * 3))
    assert (found.effect, found.low, found.high, found.counterfactual) == (-3.0, -3.0, -3.0, 4.0)


def test_the_noise_of_white_noise_and_of_a_line() -> None:
    rng = random.Random(1)
    white = noise_of([rng.gauss(0, 2) for _ in range(4000)])
    assert white.variance == pytest.approx(4, rel=0.1) and white.rho < 0.1 and white.freedom > 3900
    assert noise_of([5.0, 5.0, 5.0]) == Noise(0.0, 0.0, 2.0)
    slow = noise_of(autoregressive(4000, 0.9, rng))
    assert slow.rho == pytest.approx(0.9, abs=0.03)
    assert slow.of_mean(100) == pytest.approx(slow.variance * 0.19 * 0.95, rel=0.3), "of an AR(1), about (1+r)/(1-r)/n"


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e6, 1.960)])
def test_students_quantile(freedom: float, quantile: float) -> None:
    assert quantile_of_t(freedom) == pytest.approx(quantile, rel=0.01)


def test_a_control_that_fell_gives_no_credit() -> None:
    control = Control("demand", [2.0] * 9, [1.0] * 5, 0.7)
    assert interrupted([40.0] * 9, [0.0] * 5, (control,)) == "demand itself fell from 2 to 1: what followed may be for that alone"
    assert isinstance(interrupted([40.0] * 9, [0.0] * 5, (control._replace(at_least_share=0.4),)), str), (
        "never seen at such demand"
    )


def test_only_readings_at_which_the_control_was_alike_count() -> None:
    """The quiet before an onset is no baseline, nor does one outlier of the control hide that it began."""
    control = Control("demand", [0.1] * 60 + [2.0, 2.1, 0.3, 2.0, 1.9], [2.0] * 5, 0.7)
    found = effect(interrupted([1.0] * 60 + [40.0] * 5, [4.0] * 5, (control,)))
    assert found.counterfactual == pytest.approx(40) and found.effect == pytest.approx(-36)


def test_where_the_control_was_never_so_nothing_can_be_told() -> None:
    control = Control("demand", [0.1] * 58 + [2.0, 2.0], [2.0] * 5, 0.7)
    found = interrupted([1.0] * 58 + [40.0, 40.0], [4.0] * 5, (control,))
    assert isinstance(found, str) and "at only 2 readings" in found
    quiet = interrupted([1.0] * 60, [40.0] * 5, (control._replace(before=[0.1] * 60),))
    assert isinstance(quiet, str) and "at only 0 readings" in quiet, "what quiet times were like says nothing of busy ones"


def test_of_a_control_that_grew_it_is_known_only_what_would_have_been_at_least() -> None:
    control = Control("demand", [2.0] * 9, [3.0] * 5, 0.7)
    found = effect(interrupted([40.0] * 9, [4.0] * 5, (control,)))
    assert (found.least, found.counterfactual, found.most) == (40.0, 40.0, 60.0)
    assert isinstance(interrupted([40.0] * 9, [4.0] * 5, (control._replace(after=[4.1] * 5),)), str)


def test_several_controls_must_all_have_gone_on() -> None:
    steady, fell = Control("demand", [2.0] * 9, [2.0] * 5, 0.7), Control("requests", [90.0] * 9, [3.0] * 5, 0.7)
    assert isinstance(interrupted([40.0] * 9, [0.0] * 5, (steady,)), Effect)
    assert "requests itself fell" in str(interrupted([40.0] * 9, [0.0] * 5, (steady, fell)))


@pytest.mark.parametrize(("before", "after", "words"), [(2, 5, "only "), (5, 2, "only "), (0, 0, "no reading is known ")])
def test_few_readings_are_no_effect(before: int, after: int, words: str) -> None:
    found = interrupted([1.0] * before, [1.0] * after)
    assert isinstance(found, str) and found.startswith(words)


def test_what_was_falling_already_would_have_gone_on_falling() -> None:
    falling = [60.0 - second for second in range(30)]
    found = effect(interrupted(falling, [25.0 - second for second in range(10)]))
    assert found.least < 30 < found.most and found.high > 0, "nothing but the fall that was on its way"
    risen = effect(interrupted([float(second) for second in range(30)], [5.0] * 10))
    assert risen.most > 30, "and what was rising, on rising"


def test_a_twin_tells_how_it_would_have_moved() -> None:
    rising = effect(against_twin([10.0] * 6, [10.0] * 4, [5.0] * 6, [10.0] * 4))
    assert rising.counterfactual == 20 and rising.effect == -10, "it would have doubled, as the twin did"
    lull = effect(against_twin([10.0] * 6, [1.0] * 4, [5.0] * 6, [0.5] * 4))
    assert lull.effect == pytest.approx(0), "the twin became as quiet"
    signed = effect(against_twin([-1.0] * 6, [-1.0] * 4, [2.0] * 6, [5.0] * 4))
    assert signed.counterfactual == 2, "by the amount where a share makes no sense"
    assert isinstance(against_twin([1.0] * 6, [1.0] * 4, [1.0] * 2, [1.0] * 4), str)


def test_how_far_it_moves_by_itself() -> None:
    assert moved_by_itself([10.0] * 60, 10, 5) == (1.0, 1.0)
    halved = ([10.0] * 10 + [5.0] * 10) * 6
    least, most = moved_by_itself(halved, 10, 10)
    assert least == 0.5 and 1.7 < most < 2.0, "one in twenty rose further"
    assert moved_by_itself([1.0, 2.0], 2, 5) == (1.0, 1.0), "too short to tell"


values = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=0, max_size=12)


@given(values, values)
def test_any_finite_readings_give_a_finite_interval_around_the_estimate_or_a_reason(
    before: list[float], after: list[float]
) -> None:
    found = interrupted(before, after, (), before * 3)
    if isinstance(found, str):
        assert found
        return
    assert all(map(math.isfinite, (*found, found.effect)))
    assert found.least <= found.counterfactual <= found.most and found.low <= found.effect <= found.high


# -- where nothing was changed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize(("within", "after"), [(6, 30), (30, 30)])
def test_the_interval_holds_what_would_have_been(rho: float, within: int, after: int) -> None:
    """Of a nominal 95 %, at least 92 % of the intervals hold no effect where there was none."""
    rng = random.Random(7)
    missed = 0
    for _ in range(MADE):
        series = [one + 1000 for one in autoregressive(within + after, rho, rng)]
        found = effect(interrupted(series[:within], series[within:]))
        missed += not found.low <= 0 <= found.high
    assert missed <= 0.08 * MADE, missed


@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize(("within", "after"), [(4, 10), (30, 30)])
def test_noise_is_no_help(rho: float, spread: float, within: int, after: int) -> None:
    found = share(lambda rng: noisy(rng, rho, spread, within, after), within, after)
    assert found["helped"] <= 0.05 * MADE, found


@pytest.mark.parametrize("controlled", [False, True])
def test_a_cycle_is_no_help(controlled: bool) -> None:
    for period_s in (60, 120, 240):
        found = share(lambda rng, period_s=period_s: cycling(rng, period_s), 30, 30, controlled, 300)  # type: ignore[misc]
        assert found["helped"] <= 15, (period_s, found)


@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("within", [5, 30])
@pytest.mark.parametrize(("often", "lasts_s"), [(0.05, 1.0), (0.02, 10.0), (0.2, 3.0)])
def test_a_burst_that_passes_is_no_help(often: float, lasts_s: float, within: int, controlled: bool) -> None:
    """Errors come and go: that none came for a while is nothing that a change did."""
    found = share(lambda rng: bursting(rng, often, lasts_s), within, 10 if within == 5 else 30, controlled, 400)
    assert found["helped"] <= 20, found


@pytest.mark.long  # 1,000 series of each kind, with five minutes of history: the false rate to a percent
@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("rho", [0.7, 0.9, 0.98])
def test_a_peak_that_was_answered_because_it_was_one_is_no_help(rho: float, controlled: bool) -> None:
    found = share(lambda rng: peaking(rng, rho, 4), 10, 30, controlled)
    assert found["helped"] <= 0.05 * MADE, found


@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("ends_after_s", [10.0, 40.0])
def test_a_lull_is_no_help(ends_after_s: float, controlled: bool) -> None:
    """The hog ends by itself: during the window, mostly. It is told by its demand, or can't be told."""
    found = share(lambda rng: hogged(rng, 6, 0.0, ends_after_s), 10, 30, controlled, 300)
    assert found["helped"] <= 15, found
    assert not controlled or sum(count for said, count in found.items() if "itself fell" in said) > 60, found


@pytest.mark.long  # the same of 1,000 each, from a quick end to one that mostly comes after the window
@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("ends_after_s", [10.0, 20.0, 40.0, 80.0, 0.0])
@pytest.mark.parametrize("for_s", [4, 10])
def test_a_thousand_lulls(ends_after_s: float, for_s: int, controlled: bool) -> None:
    found = share(lambda rng: hogged(rng, for_s, 0.0, ends_after_s), 30, 30, controlled)
    assert found["helped"] <= 0.05 * MADE, found


@pytest.mark.parametrize(("share_of_all", "per_s", "within"), [(1 / 3, 45, 5), (0.1, 45, 5), (0.02, 10, 30), (0.05, 10, 30)])
def test_a_share_that_goes_on_failing_is_no_help(share_of_all: float, per_s: int, within: int) -> None:
    for lasted_s in (3, 5 + within, 60):
        found = share(lambda rng, lasted_s=lasted_s: failing(rng, share_of_all, per_s, lasted_s, within, False), within, within)  # type: ignore[misc]
        assert found["helped"] <= 0.05 * MADE, (lasted_s, found)


# -- where something was ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "drop", "found_in"), [(0.0, 0.6, 0.9), (0.5, 0.6, 0.75), (0.5, 0.9, 0.95), (0.8, 0.9, 0.85)])
def test_a_real_effect_is_found(rho: float, drop: float, found_in: float) -> None:
    found = share(lambda rng: noisy(rng, rho, 0.3, 30, 30, drop), 30, 30)
    assert found["helped"] >= found_in * MADE and found["no_help"] == 0, found


def test_a_limit_that_works_is_found_within_seconds_of_the_onset_by_the_demand_that_went_on() -> None:
    """Without the control it can't be: the quiet before and the noise of an onset look the same."""
    for for_s, after in ((6, 30), (10, 30), (30, 30), (10, 6)):
        found = share(lambda rng, for_s=for_s: hogged(rng, for_s, 0.9), 30, after, True, 300)  # type: ignore[misc]
        assert found["helped"] >= 0.75 * 300 and found["no_help"] == 0, (for_s, after, found)


def test_a_change_that_does_nothing_is_told_apart_where_the_noise_allows() -> None:
    found = share(lambda rng: noisy(rng, 0.2, 0.2, 30, 30), 30, 30)
    assert found["no_help"] >= 0.9 * MADE, found


def test_a_share_that_falls_to_nothing_is_found_once_its_window_holds_nothing_but_the_fault() -> None:
    """While the window fills, its rise is noise as large as its level: what acts then can't be told from luck."""
    for lasted_s in (10, 20):
        found = share(lambda rng, lasted_s=lasted_s: failing(rng, 1 / 3, 45, lasted_s, 5, True), 5, 5, made=300)  # type: ignore[misc]
        assert found["helped"] >= 0.99 * 300, (lasted_s, found)
    found = share(lambda rng: failing(rng, 1 / 3, 45, 4, 5, True), 5, 5, made=300)
    assert found["helped"] == 0 == found["no_help"], found
