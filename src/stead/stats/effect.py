"""What a change did, against what would have been without it: an estimate with a 95 % interval, or why there can be none.

What was read before the change is a stretch of a noisy, autocorrelated series, and what would have been after it is a
prediction from that: as uncertain as the mean before, and as the mean that the same noise would have had after. The noise is
taken for a first-order autoregression; its lag-one correlation is corrected for its bias in short series (Marriott and Pope,
Biometrika 41, 1954), and a few readings are drawn towards `PRIOR_RHO`. The quantile is Student's, at the effective number of
readings. Two things make a better prediction than "as it was right before":

- controls, which must have gone on (the demand of what was limited). Then only those readings before the change count at which
  every control was about as it was afterwards, so that neither the quiet before an onset nor a peak is taken for normal.
- a twin, which was held back: it says how the series would have moved (difference in differences).

What was on its way before the change would have gone on without it (`_trend`). No clock, no memory: series are lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import exp, fsum, sqrt
from typing import Final, NamedTuple

LEAST_BEFORE: Final = 3  # readings; fewer can't show how much they differ by chance
LEAST_AFTER: Final = 3
MOST: Final = 1e100  # the square of more than that is not a float
SIMILAR: Final = 0.25  # a control is as it was if it differs by no more than this share
LATELY: Final = 3  # readings of a control, whose median says what it was when the change was made
GROWN: Final = 2.0  # a control that grew by more than this since then has never been seen so
TREND_LEAST: Final = 8
PRIOR_RHO: Final = 0.5
PRIOR_WEIGHT: Final = 6.0
MOST_RHO: Final = 0.99
LEAST_FREEDOM: Final = 2.0
NEVER_NEAR_ZERO: Final = 0.05  # of the mean
MOST_TIMES: Final = 14.0  # an interval of ratios ends at a million times, as a logarithm
Z: Final = 1.959964  # the normal distribution's 97.5 % quantile
STANDS_OUT: Final = 2.0  # a trend of so many standard errors


class Effect(NamedTuple):
    """What would have been, from `least` to `most`, and what the change did: after - counterfactual, in the series' unit."""

    after: float
    counterfactual: float
    least: float
    most: float

    @property
    def effect(self) -> float:
        """The estimate."""
        return self.after - self.counterfactual

    @property
    def low(self) -> float:
        """The lower end of the effect's interval."""
        return self.after - self.most

    @property
    def high(self) -> float:
        """The upper end."""
        return self.after - self.least


class Control(NamedTuple):
    """What must have gone on: its readings at the times of the series', and the share of its level that it may not fall below."""

    name: str
    before: Sequence[float]
    after: Sequence[float]
    at_least_share: float


class Noise(NamedTuple):
    """How a stretch of a series differs by chance: variance of one reading, lag-one correlation, degrees of freedom."""

    variance: float
    rho: float
    freedom: float

    def of_mean(self, count: int) -> float:
        """The variance of the mean of so many readings in a row: that of a first-order autoregression."""
        rho = self.rho
        inflated = (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**count) / (count * (1 - rho) ** 2)
        return self.variance * inflated / count


def noise_of(values: Sequence[float]) -> Noise:
    """The noise of a stretch of at least two readings."""
    count, mean = len(values), mean_of(values)
    off = [value - mean for value in values]
    squares = fsum(one * one for one in off)
    if squares == 0:
        return Noise(0.0, 0.0, max(count - 1.0, LEAST_FREEDOM))
    rho = fsum(one * following for one, following in pairwise(off)) / squares
    rho = (count * rho + 1) / (count - 4) if count > 5 else PRIOR_RHO
    rho = (count * min(max(rho, 0.0), MOST_RHO) + PRIOR_WEIGHT * PRIOR_RHO) / (count + PRIOR_WEIGHT)
    missed = Noise(1.0, rho, 1.0).of_mean(count)  # the share of the variance that the mean itself took along
    freedom = count * (1 - rho**2) / (1 + rho**2) - 1
    return Noise(squares / count / max(1 - missed, 0.02), rho, max(freedom, LEAST_FREEDOM))


def quantile_of_t(freedom: float) -> float:
    """Student's 97.5 % quantile for 2 degrees of freedom or more, within 1 % (Abramowitz and Stegun 26.7.5)."""
    return (
        Z
        + (Z**3 + Z) / (4 * freedom)
        + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
        + (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * freedom**3)
        + (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / (92160 * freedom**4)
    )


def mean_of(values: Sequence[float]) -> float:
    """The mean of one reading or more."""
    return fsum(values) / len(values)


def interrupted(
    before: Sequence[float], after: Sequence[float], controls: Sequence[Control] = (), history: Sequence[float] = ()
) -> Effect | str:
    """The effect on a series that a change interrupted, or why it can't be told.

    All readings before the change say what would have been; with controls those, however old, at which every control was about
    as it was afterwards. A control's readings are taken at the same times as the series', one for one. `history`: older readings
    than those before, to see how far the series moves by itself.
    """
    why = enough(before, after) or next(filter(None, map(gone_on, controls)), "")
    if why:
        return why
    if controls:
        return _as_controlled(before, after, controls)
    found = _predicted(before, after, before)
    return _widened(found, moved_by_itself((*history, *before), len(before), len(after))) if history else found


def against_twin(
    before: Sequence[float], after: Sequence[float], twin_before: Sequence[float], twin_after: Sequence[float]
) -> Effect | str:
    """The effect by what was held back and is read at the same times: it would have moved by the same share, or the same amount.

    By the share where both are above zero and of one order of magnitude, else by the amount.
    """
    why = enough(before, after) or enough(twin_before, twin_after)
    if why:
        return why
    level, of_twin, twin_now = mean_of(before), mean_of(twin_before), mean_of(twin_after)
    positive = min(min(before), min(twin_before), min(twin_after)) >= 0
    times = level / of_twin if positive and of_twin > 0 and 0.1 <= level / of_twin <= 10 else 1.0
    moved = times * (twin_now - of_twin)
    return _predicted([one - times * other for one, other in zip(before, twin_before, strict=True)], after, before, moved)


def _as_controlled(before: Sequence[float], after: Sequence[float], controls: Sequence[Control]) -> Effect | str:
    """By the readings at which the controls were as after the change; else as when it was made, if they grew a little since."""
    alike, grown = _alike(controls, [mean_of(control.after) for control in controls]), 1.0
    if len(alike) < LEAST_BEFORE:
        times = [_times(mean_of(control.after), _lately(control)) for control in controls]
        if 1 < max(times) <= GROWN:
            alike, grown = _alike(controls, [min(mean_of(one.after), _lately(one)) for one in controls]), max(times)
    if len(alike) < LEAST_BEFORE:
        names = " and ".join(control.name for control in controls)
        return f"{names} was as it is now at only {len(alike)} readings before the change"
    chosen = [before[index] for index in sorted(alike)]
    return _widened(_predicted(chosen, after, chosen), (1.0, grown))


def _alike(controls: Sequence[Control], levels: Sequence[float]) -> set[int]:
    """At which readings before the change every control was about at its level.

    A median of three takes single outliers for what they are, without blurring an onset.
    """
    found = set(range(len(controls[0].before)))
    for control, level in zip(controls, levels, strict=True):
        values = [control.before[0], *control.before, control.before[-1]]
        found &= {index for index in found if abs(median(values[index : index + 3]) - level) <= SIMILAR * abs(level)}
    return found


def median(values: Sequence[float]) -> float:
    """The middle one of one value or more."""
    return sorted(values)[len(values) // 2]


def _lately(control: Control) -> float:
    return median(control.before[-LATELY:])


def _times(now: float, was: float) -> float:
    return now / was if was > 0 else GROWN + 1


def gone_on(control: Control) -> str:
    """Why a control did not go on as it was when the change was made; empty when it did."""
    if len(control.before) < LEAST_BEFORE or len(control.after) < LEAST_AFTER:
        return f"{control.name} is not known well enough before and after the change"
    was, now = _lately(control), mean_of(control.after)
    if now < control.at_least_share * was:
        return f"{control.name} itself fell from {was:.4g} to {now:.4g}: what followed may be for that alone"
    return ""


def enough(before: Sequence[float], after: Sequence[float]) -> str:
    """Why there are too few readings; empty when there are enough."""
    if max(map(abs, (*before, *after)), default=0.0) > MOST:
        return "its values are too large to reckon with"
    if len(before) < LEAST_BEFORE:
        return f"{_few(len(before))} known from before the change"
    return f"{_few(len(after))} known from after the change" if len(after) < LEAST_AFTER else ""


def _few(count: int) -> str:
    return "no reading is" if not count else "only 1 reading is" if count == 1 else f"only {count} readings are"


def _predicted(noisy: Sequence[float], after: Sequence[float], before: Sequence[float], moved: float = 0.0) -> Effect:
    """The effect by the mean before, which would have `moved` by so much; the noise is that of `noisy`.

    Where no reading before it comes near zero the interval is one of ratios: a level may be ten times what was thought, or a
    tenth. Else it is one of differences; then what comes and goes in bursts may as well have stayed away.
    """
    level = mean_of(before)
    spread = _spread(noise_of(noisy), len(before), len(after))
    following = _spread(noise_of(after), len(before), len(after)) if len(after) > LEAST_AFTER else 0.0
    half = max(spread, following)
    expected, now = level + moved, mean_of(after)
    drift = _trend(before, len(after)) if not moved else 0.0
    ends = expected - half, expected + half
    if level > 0 and min(before) >= NEVER_NEAR_ZERO * level and min(after) >= 0:
        expected = max(expected, 0.0)
        factor = exp(min(half / level, MOST_TIMES))
        ends = expected / factor, expected * factor
    drifted = expected + drift
    if min(*before, *after) >= 0:
        ends, drifted = (max(ends[0], 0.0), ends[1]), max(drifted, 0.0)
    least, most = min(ends[0], drifted), max(ends[1], drifted)
    return Effect(now, expected, least, most)


def _widened(one: Effect, by_itself: tuple[float, float]) -> Effect:
    """An interval that also holds what the series did by itself, as factors."""
    least, most = (one.counterfactual * times for times in by_itself)
    return one._replace(least=min(one.least, least), most=max(one.most, most))


def moved_by_itself(history: Sequence[float], count_before: int, count_after: int) -> tuple[float, float]:
    """How far earlier stretches moved without a change: the factors that 5 % of them fell below, and 5 % exceeded.

    A stretch is as long as what is compared now; only those count whose level was at least half of the present one.
    """
    totals = [0.0, *accumulate(history)]
    level = (totals[-1] - totals[-1 - count_before]) / count_before
    factors = []
    for end in range(count_before, len(history) - count_after + 1):
        was = (totals[end] - totals[end - count_before]) / count_before
        if was > 0 and was >= level / 2:
            factors.append((totals[end + count_after] - totals[end]) / count_after / was)
    factors.sort()
    skipped = len(factors) // 20
    return (factors[skipped], factors[-1 - skipped]) if factors else (1.0, 1.0)


def _spread(noise: Noise, count_before: int, count_after: int) -> float:
    """Half the interval of what would have been: the mean before is uncertain, and so is what the noise would have done after."""
    variance = noise.of_mean(count_before) + noise.of_mean(count_after)
    return quantile_of_t(noise.freedom) * sqrt(variance)


def _trend(before: Sequence[float], count_after: int) -> float:
    """By how much a straight line through the readings goes on until the middle of those after; 0 where none stands out."""
    count = len(before)
    if count < TREND_LEAST:
        return 0.0
    middle, mean = (count - 1) / 2, mean_of(before)
    squares = fsum((index - middle) ** 2 for index in range(count))
    slope = fsum((index - middle) * (value - mean) for index, value in enumerate(before)) / squares
    noise = noise_of([value - mean - slope * (index - middle) for index, value in enumerate(before)])
    error = sqrt(noise.variance * (1 + noise.rho) / (1 - noise.rho) / squares)
    return slope * (count + (count_after - 1) / 2 - middle) if abs(slope) > STANDS_OUT * error else 0.0
