"""Verify: did the change hold, and did the metric move as was said before it was made? Missing data never means yes."""

from __future__ import annotations

from collections.abc import Sequence

from stead.model.change import Prediction, Run, Verdict
from stead.model.observe import Now


def judge(run: Run, met: Sequence[bool | None], after: float | None, good: int | None, now: Now) -> Verdict:
    """Judge a run from what was read and measured.

    `met`: does each step still hold (None: not known). `after`: the mean of the predicted metric since the change, in its
    unit; what it was before is the prediction's baseline. `good`: how many of the newest readings in a row were as good as
    predicted, by `good_in_a_row` (None: not counted).
    """
    at_ms = now.unix_ms
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
    level = None if before is None else wanted_level(prediction, before)
    if reason or before is None or after is None or level is None:
        return Verdict("inconclusive", reason, before, after, level, at_ms)
    moved = f"{prediction.metric} went from {_short(before)} to {_short(after)}; predicted {_bound(prediction, level)}"
    if not as_predicted(prediction, level, after):
        return Verdict("no_help", moved, before, after, level, at_ms)
    needed = run.proposal.good_readings
    if good is not None and good < needed:
        return Verdict("no_help", f"{moved}, but only {good} of {needed} readings in a row were", before, after, level, at_ms)
    return Verdict("helped", moved, before, after, level, at_ms)


def _unknowable(prediction: Prediction, met: Sequence[bool | None], before: float | None, after: float | None) -> str:
    if any(one is None for one in met):
        return "a setting could not be read back"
    if before is None:
        return f"{prediction.metric} was not known before the change"
    if after is None:
        return f"{prediction.metric} is not known after the change"
    if before < prediction.meaningful:
        return (
            f"{prediction.metric} was {_short(before)} before, and below {_short(prediction.meaningful)} it can't show any effect"
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
