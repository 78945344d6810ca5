"""Verify: did the change hold, and did it do what was said before it was made? Missing data never means yes.

What it did is told against what would have been without it, and that is known only within an interval. It helped if even the
most modest end of that interval shows the smallest move that counts (a share of what would have been, where the prediction is
relative). It did not if the other end does not show it either, or if the metric did not plainly get that much better than it was
right before: credit needs a proof, its absence does not. In between it can't be told. Nor can it where no effect is known and its
owner named what it holds back for that (`keep_unclear`): the few readings of a noisy host would else count as a failure. But
where what it answers is still open, and next to nothing got better, it did not help: the next of its chain is to have its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from stead.model.change import Prediction, Run, Verdict
from stead.model.observe import Now
from stead.stats.effect import Effect

SIGN: Final = 0.25  # of the predicted move: the least that may be a sign of help


class Measured(NamedTuple):
    """What came after a change: the predicted metric's mean, its newest good readings in a row, and the change's effect.

    `unclear` says why there is no effect to tell; `lately` is the mean of the last readings before the change, `peak` the worst
    of them; `jointly` names what else was changed with it, at about the same time. `open`: is what it answers so still?
    """

    after: float | None = None
    good: int | None = None
    effect: Effect | None = None
    unclear: str = ""
    lately: float | None = None
    jointly: str = ""
    peak: float | None = None
    open: bool = False


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
    reason = _unknowable(prediction, met, before, after)
    if reason or before is None or after is None:
        level = None if before is None else wanted_level(prediction, before)
        return Verdict("inconclusive", reason, before, after, level, at_ms)
    return _weighed(run, prediction, before, after, seen, at_ms)


def _weighed(run: Run, prediction: Prediction, before: float, after: float, seen: Measured, at_ms: int) -> Verdict:
    """The verdict by the interval of what would have been, by what it was right before, and by the newest readings."""
    effect, needed = seen.effect, run.proposal.good_readings
    expected = before if effect is None else effect.counterfactual
    level = wanted_level(prediction, expected)
    modest, generous = _by_ends(prediction, effect)
    worst = (max if prediction.direction == "down" else min)(before, expected, before if seen.lately is None else seen.lately)
    result: Literal["helped", "no_help", "inconclusive"] = "inconclusive"
    why = seen.unclear if effect is None else "too uncertain to tell"
    unknown = effect is None and run.proposal.keep_unclear and not (seen.open and _no_better(prediction, after, seen.peak))
    if not generous or not (unknown or as_predicted(prediction, wanted_level(prediction, worst), after)):
        result, why = "no_help", ""
    elif modest and seen.good is not None and seen.good < needed:
        result, why = "no_help", f"only {seen.good} of {needed} readings in a row were as predicted"
    elif modest:
        result, why = "helped", ""
    metric, was, now = prediction.metric, _said(prediction, before), _said(prediction, after)
    reason = f"{metric} went from {was} to {now}; predicted {_bound(prediction, level)}"
    if effect is None:
        return Verdict(result, f"{reason}; {why}" if why else reason, before, after, level, at_ms)
    reason += f"; without the change it would have been {_said(prediction, expected)}"
    reason += f" ({_said(prediction, effect.least)} to {_said(prediction, effect.most)} with 95 % confidence)"
    reason += f", together with {seen.jointly}" if seen.jointly else ""
    told = (effect.effect, effect.low, effect.high, expected)
    return Verdict(result, f"{reason}: {why}" if why else reason, before, after, level, at_ms, *told)


def _no_better(prediction: Prediction, after: float, peak: float | None) -> bool:
    """Is it about as bad as it was at its worst, right before the change?"""
    if peak is None:
        return False
    least = peak + SIGN * (wanted_level(prediction, peak) - peak)
    return not as_predicted(prediction, least, after)


def _by_ends(prediction: Prediction, effect: Effect | None) -> tuple[bool, bool]:
    """Is it as predicted by the most modest end of what would have been, and by the most generous one?"""
    if effect is None:
        return False, True
    ends = (effect.least, effect.most) if prediction.direction == "down" else (effect.most, effect.least)
    modest, generous = (as_predicted(prediction, wanted_level(prediction, end), effect.after) for end in ends)
    return modest and ends[0] != effect.after, generous  # a share of nothing is no move


def _unknowable(prediction: Prediction, met: Sequence[bool | None], before: float | None, after: float | None) -> str:
    if any(one is None for one in met):
        return "a setting could not be read back"
    if before is None:
        return f"{prediction.metric} was not known before the change"
    if after is None:
        return f"{prediction.metric} is not known after the change"
    if before < prediction.meaningful:
        was, least = _said(prediction, before), _said(prediction, prediction.meaningful)
        return f"{prediction.metric} was {was} before, and below {least} it can't show any effect"
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
    return f"{'at most' if prediction.direction == 'down' else 'at least'} {_said(prediction, level)}"


def _said(prediction: Prediction, value: float) -> str:
    if not prediction.metric.endswith("_bytes"):
        return f"{value:.4g}"
    return f"{value / (1 << 20):.4g} MiB" if abs(value) >= 1 << 16 else f"{value:.4g} B"
