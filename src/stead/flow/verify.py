"""Verify: did the change hold, and did it do what was said before it was made? Missing data never means yes.

What it did is told against what would have been without it, and that is known only within an interval. It helped if even the
most modest end of that interval shows the smallest move that counts; it did not if not even the other end does; in between it
can't be told. The move is a share of what would have been where the prediction is relative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from stead.model.change import Prediction, Run, Verdict
from stead.model.observe import Now
from stead.stats.effect import Effect


class Measured(NamedTuple):
    """What came after a change: the predicted metric's mean, its newest good readings in a row, and the change's effect.

    `unclear` says why there is no effect to tell.
    """

    after: float | None = None
    good: int | None = None
    effect: Effect | None = None
    unclear: str = ""


def judge(run: Run, met: Sequence[bool | None], seen: Measured, now: Now) -> Verdict:
    """Judge a run from what was read and measured.

    `met`: does each step still hold (None: not known). What the metric was before is the prediction's baseline; that the newest
    readings must be as good as predicted keeps out what was better only at first.
    """
    at_ms, after = now.unix_ms, seen.after
    prediction = run.proposal.prediction
    before = prediction.baseline if prediction else None
    if any(one is False for one in met):
        held = sum(one is True for one in met)
        return Verdict("not_held", f"{held} of {len(met)} settings still read as they were set", before, after, None, at_ms)
    if prediction is None:
        if any(one is None for one in met):
            return Verdict("inconclusive", "a setting could not be read back", at_ms=at_ms)
        return Verdict("helped", "it reads as it was set; nothing else was predicted", at_ms=at_ms)
    reason = _unknowable(prediction, met, before, seen)
    if reason or before is None or after is None or seen.effect is None:
        level = None if before is None else wanted_level(prediction, before)
        return Verdict("inconclusive", reason, before, after, level, at_ms)
    return _weighed(run, prediction, before, seen.effect, seen.good, at_ms)


def _weighed(run: Run, prediction: Prediction, before: float, effect: Effect, good: int | None, at_ms: int) -> Verdict:
    """The verdict by the interval of what would have been, and by the newest readings."""
    level = wanted_level(prediction, effect.counterfactual)
    ends = (effect.least, effect.most) if prediction.direction == "down" else (effect.most, effect.least)
    modest, generous = (as_predicted(prediction, wanted_level(prediction, end), effect.after) for end in ends)
    moved = (
        f"{prediction.metric} went from {_short(before)} to {_short(effect.after)}; predicted {_bound(prediction, level)}; "
        f"without the change it would have been {_short(effect.counterfactual)}"
        f" ({_short(effect.least)} to {_short(effect.most)} with 95 % confidence)"
    )
    needed = run.proposal.good_readings
    result: Literal["helped", "no_help", "inconclusive"] = "inconclusive"
    if modest and good is not None and good < needed:
        result, moved = "no_help", f"{moved}, but only {good} of {needed} readings in a row were as predicted"
    elif modest:
        result = "helped"
    elif not generous:
        result = "no_help"
    else:
        moved += ": too uncertain to tell"
    told = (effect.effect, effect.low, effect.high, effect.counterfactual)
    return Verdict(result, moved, before, effect.after, level, at_ms, *told)


def _unknowable(prediction: Prediction, met: Sequence[bool | None], before: float | None, seen: Measured) -> str:
    if any(one is None for one in met):
        return "a setting could not be read back"
    if before is None:
        return f"{prediction.metric} was not known before the change"
    if seen.after is None:
        return f"{prediction.metric} is not known after the change"
    if before < prediction.meaningful:
        return (
            f"{prediction.metric} was {_short(before)} before, and below {_short(prediction.meaningful)} it can't show any effect"
        )
    if seen.effect is None:
        return (
            f"{prediction.metric} went from {_short(before)} to {_short(seen.after)}, but what the change did can't be told: "
            + (seen.unclear)
        )
    return ""


def wanted_level(prediction: Prediction, before: float) -> float:
    """The level that the metric must reach, in its unit."""
    step = prediction.at_least * abs(before) if prediction.relative else prediction.at_least
    return before - step if prediction.direction == "down" else before + step


def as_predicted(prediction: Prediction, level: float, value: float) -> bool:
    """Is one value as good as predicted?"""
    return value <= level if prediction.direction == "down" else value >= level


def good_in_a_row(prediction: Prediction, readings: Sequence[float | None]) -> int:
    """How many of the newest readings (last is newest), without a gap, are as good as predicted."""
    if prediction.baseline is None:
        return 0
    level = wanted_level(prediction, prediction.baseline)
    count = 0
    for value in reversed(readings):
        if value is None or not as_predicted(prediction, level, value):
            break
        count += 1
    return count


def _bound(prediction: Prediction, level: float) -> str:
    return f"{'at most' if prediction.direction == 'down' else 'at least'} {_short(level)}"


def _short(value: float) -> str:
    return f"{value:.4g}"
