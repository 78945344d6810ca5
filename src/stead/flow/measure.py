"""Measure what a proposal predicted: the metric before the change and after it, and what it would have been without the change.

Reads only the series in memory (15 minutes at full rate). What is not known there is None, and never counts as help. Readings
from before an earlier change of the same thing are left out: they were taken in another world.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from stead.flow.verify import Measured, good_in_a_row
from stead.model.change import Prediction, Run
from stead.model.observe import Now
from stead.stats.effect import Control, Effect, against_twin, gone_on, interrupted, mean_of

HISTORY_MS: Final = 300_000  # how far back a comparison looks
ASIDE_MS: Final = 10_000  # a control's or a twin's newest reading stands for this long
LATELY: Final = 3  # readings
JOINT_MS: Final = 10_000
IN_FORCE: Final = frozenset(("acting", "verifying", "held", "kept"))
OTHERS: Final = "others"

Points = Sequence[tuple[float, float]]  # (monotonic ms, value), oldest first


class Memory(Protocol):
    """The short memory of series (`stats.series.Series`)."""

    def mean(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> float | None:
        """The mean over a stretch of time."""

    def points(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> list[tuple[float, float]]:
        """Times and values over a stretch of time."""

    def subjects(self, metric: str) -> list[str]:
        """What has a series of this metric."""


class _Span(NamedTuple):
    """From when readings from before the change count, when it was begun and made, and the stretch that is compared (ms)."""

    since: float
    began: float
    acted: float
    after: float
    now: float


def measured(run: Run, series: Memory, now: Now, others: Sequence[Run] = ()) -> tuple[Run, Measured]:
    """The run with its baseline as it was right before the change, and what came after.

    A proposal may have waited for people for an hour: what it was planned by is no baseline any more, if a newer is known.
    `others`: further runs, live or ended, whose changes may have moved the same metric.
    """
    prediction = run.proposal.prediction
    acted_ms = run.acted_ms
    if prediction is None or acted_ms is None:
        return run, Measured()
    began_ms = min(_began(run), acted_ms)  # many steps take their time
    alike = [one for one in others if one.id != run.id and one.acted_ms is not None and _same(run, one)]
    joint = [one for one in alike if _joint(run, one)]
    moments = sorted(_moments(alike, joint))
    began_ms = min([began_ms, *(_began(one) for one in joint)])
    span = _span(max([acted_ms, *(one.acted_ms or 0 for one in joint)]), began_ms, prediction, moments, now)
    readings = series.points(prediction.metric, prediction.subject, span.since, now.mono_ms)
    within = round(prediction.within_s * 1000)
    before = [value for at, value in readings if span.began - within <= at <= span.began]
    if before:
        prediction = msgspec.structs.replace(prediction, baseline=mean_of(before))
        run = msgspec.structs.replace(run, proposal=msgspec.structs.replace(run.proposal, prediction=prediction))
    after = [value for at, value in readings if at >= span.after]
    came = next((name for at_ms, name in moments if at_ms > acted_ms), "")
    found = f"{came} changed it as well, meanwhile" if came else _effect(prediction, series, readings, span, others)
    effect = None if isinstance(found, str) else found
    since = [value for at, value in readings if at > span.acted]
    expected = prediction.baseline if effect is None else effect.counterfactual
    good = good_in_a_row(msgspec.structs.replace(prediction, baseline=expected), since)
    lately = [value for at, value in readings if at <= span.began][-LATELY:]
    return run, Measured(
        mean_of(after) if after else None,
        good,
        effect,
        found if isinstance(found, str) else "",
        mean_of(lately) if lately else None,
        " and ".join(f"{one.proposal.playbook} of {one.proposal.steps[0].target}" for one in joint if one.proposal.steps),
        (max if prediction.direction == "down" else min)(lately, default=None),
    )


def _span(acted_ms: int, began_ms: int, prediction: Prediction, moments: Sequence[tuple[int, str]], now: Now) -> _Span:
    ago = now.mono_ms - now.unix_ms
    within = round(prediction.within_s * 1000)
    acted, began = acted_ms + ago, began_ms + ago
    earlier = max((at_ms for at_ms, _ in moments if at_ms <= acted_ms), default=0)
    return _Span(
        max(began - max(HISTORY_MS, within), earlier + ago + 1), began, acted, max(acted + 1, now.mono_ms - within), now.mono_ms
    )


def _began(run: Run) -> int:
    """When its first step was written, or about to be (Unix ms)."""
    return min((one.at_ms for one in run.attempts), default=run.acted_ms or 0)


def _same(run: Run, other: Run) -> bool:
    """Do they change the same target, or predict the same metric of the same subject?"""
    own, said = run.proposal.prediction, other.proposal.prediction
    alike = own is not None and said is not None and (own.metric, own.subject) == (said.metric, said.subject)
    return alike or bool({step.target.key for step in run.proposal.steps} & {step.target.key for step in other.proposal.steps})


def _joint(run: Run, other: Run) -> bool:
    """Were both changed at about the same time (contenders of one protected thing)? Then the effect is theirs together."""
    return other.state in IN_FORCE and abs((run.acted_ms or 0) - (other.acted_ms or 0)) <= JOINT_MS


def _moments(alike: Sequence[Run], joint: Sequence[Run]) -> Iterable[tuple[int, str]]:
    """When others, which are no part of it, made or put back a change of the same thing (Unix ms), and by which playbook."""
    for one in alike:
        if one not in joint:
            yield one.acted_ms or 0, one.proposal.playbook
        if one.final and one.state != "kept":  # what is kept was not put back
            yield one.updated_ms, one.proposal.playbook


def _effect(prediction: Prediction, series: Memory, readings: Points, span: _Span, others: Sequence[Run]) -> Effect | str:
    """What the change did, by controls, a twin, or what the series was before."""
    before = [one for one in readings if one[0] <= span.began]
    after = [one for one in readings if one[0] >= span.after]
    newest = [one for one in before if one[0] >= span.began - round(prediction.within_s * 1000)]
    if prediction.twin is not None:
        why = next(filter(None, (gone_on(one) for one in _controls(prediction, series, newest, after, span)[0])), "")
        return why or _by_twin(prediction, series, newest, after, span, others)
    if not prediction.control:
        older = [value for at, value in before[: len(before) - len(newest)]]
        return interrupted([value for _, value in newest], [value for _, value in after], (), older)
    controls, known = _controls(prediction, series, before, after, span)
    return interrupted([value for at, value in before if at in known], [value for at, value in after if at in known], controls)


def _controls(
    prediction: Prediction, series: Memory, before: Points, after: Points, span: _Span
) -> tuple[list[Control], set[float]]:
    """The controls at the times of the readings at which all of them are known, and those times."""
    times = [at for at, _ in (*before, *after)]
    read = [
        _at_times(series.points(one.metric, one.subject, span.since - ASIDE_MS, span.now), times) for one in prediction.control
    ]
    known = {at for at in times if all(at in values for values in read)}
    controls = [
        Control(
            f"{one.metric} of {one.subject}",
            [values[at] for at, _ in before if at in known],
            [values[at] for at, _ in after if at in known],
            one.at_least_share,
        )
        for one, values in zip(prediction.control, read, strict=True)
    ]
    return controls, known


def _by_twin(
    prediction: Prediction, series: Memory, before: Points, after: Points, span: _Span, others: Sequence[Run]
) -> Effect | str:
    assert prediction.twin is not None
    metric, named = prediction.twin.metric, prediction.twin.subject
    touched = {one.proposal.prediction.subject for one in others if one.proposal.prediction and not one.final}
    apart = touched | {prediction.subject}
    subjects = [one for one in series.subjects(metric) if one not in apart] if named == OTHERS else [named]
    times = [at for at, _ in (*before, *after)]
    read = [_at_times(series.points(metric, one, span.since - ASIDE_MS, span.now), times) for one in subjects]
    whole = [values for values in read if len(values) == len(set(times))]
    if not whole:
        return f"{metric} of {named if named != OTHERS else 'nothing that was held back'} is known before and after the change"
    values = {at: mean_of([one[at] for one in whole]) for at in times}
    return against_twin(
        [value for _, value in before],
        [value for _, value in after],
        [values[at] for at, _ in before],
        [values[at] for at, _ in after],
    )


def _at_times(points: Points, times: Sequence[float]) -> dict[float, float]:
    """The newest value at each of these times (in order) that has one no older than `ASIDE_MS`."""
    found: dict[float, float] = {}
    index = -1
    for at in times:
        while index + 1 < len(points) and points[index + 1][0] <= at:
            index += 1
        if index >= 0 and at - points[index][0] <= ASIDE_MS:
            found[at] = points[index][1]
    return found
