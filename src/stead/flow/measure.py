"""Measure what a proposal predicted: the metric's mean before the change, its mean after, and the newest readings.

Reads only the series in memory (15 minutes at full rate). What is not known there is None, and never counts as help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from stead.flow.verify import as_predicted, wanted_level
from stead.model.change import Prediction, Proposal, Run
from stead.model.observe import Now


class Memory(Protocol):
    """The short memory of series (`stats.series.Series`)."""

    def watch(self, metric: str, subject: str) -> None:
        """Keep this series at full rate."""

    def value(self, metric: str, subject: str) -> float | None:
        """The newest value."""

    def mean(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> float | None:
        """The mean over a stretch of time."""

    def readings(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> list[float]:
        """The values over a stretch of time."""


def with_baseline(proposal: Proposal, series: Memory, now: Now) -> Proposal:
    """The proposal with its prediction's baseline: the mean over the span that is predicted for, else the newest value."""
    prediction = proposal.prediction
    if prediction is None:
        return proposal
    series.watch(prediction.metric, prediction.subject)
    from_ms = now.mono_ms - round(prediction.within_s * 1000)
    mean = series.mean(prediction.metric, prediction.subject, from_ms, now.mono_ms)
    if mean is None:
        mean = series.value(prediction.metric, prediction.subject)
    return msgspec.structs.replace(proposal, prediction=msgspec.structs.replace(prediction, baseline=mean))


def measured(run: Run, series: Memory, now: Now) -> tuple[float | None, float | None, int | None]:
    """The predicted metric's mean before and after the change, and how many newest readings in a row are as predicted."""
    prediction = run.proposal.prediction
    if prediction is None or run.acted_ms is None:
        return None, None, None
    acted = now.mono_ms - (now.unix_ms - run.acted_ms)
    within = round(prediction.within_s * 1000)
    metric, subject = prediction.metric, prediction.subject
    before = series.mean(metric, subject, acted - within, acted)
    after = series.mean(metric, subject, max(acted + 1, now.mono_ms - within), now.mono_ms)
    readings = series.readings(metric, subject, acted + 1, now.mono_ms)
    return before, after, in_a_row(prediction, prediction.baseline if before is None else before, readings)


def in_a_row(prediction: Prediction, before: float | None, readings: Sequence[float]) -> int | None:
    """How many of the newest readings in a row are as predicted; None when there are none to judge by."""
    if before is None or not readings:
        return None
    level = wanted_level(prediction, before)
    count = 0
    for value in reversed(readings):
        if not as_predicted(prediction, level, value):
            break
        count += 1
    return count
