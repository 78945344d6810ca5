"""Measure what a proposal predicted: the metric's mean before the change, its mean after, and the newest readings.

Reads only the series in memory (15 minutes at full rate). What is not known there is None, and never counts as help.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from stead.flow.verify import good_in_a_row
from stead.model.change import Run
from stead.model.observe import Now


class Memory(Protocol):
    """The short memory of series (`stats.series.Series`)."""

    def mean(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> float | None:
        """The mean over a stretch of time."""

    def readings(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> list[float]:
        """The values over a stretch of time."""


def measured(run: Run, series: Memory, now: Now) -> tuple[Run, float | None, int | None]:
    """The run with its baseline as it was right before the change, the mean after, and the newest good readings in a row.

    A proposal may have waited for people for an hour: what it was planned by is no baseline any more, if a newer is known.
    """
    prediction = run.proposal.prediction
    if prediction is None or run.acted_ms is None:
        return run, None, None
    acted = now.mono_ms - (now.unix_ms - run.acted_ms)
    within = round(prediction.within_s * 1000)
    metric, subject = prediction.metric, prediction.subject
    before = series.mean(metric, subject, acted - within, acted)
    if before is not None:
        prediction = msgspec.structs.replace(prediction, baseline=before)
        run = msgspec.structs.replace(run, proposal=msgspec.structs.replace(run.proposal, prediction=prediction))
    after = series.mean(metric, subject, max(acted + 1, now.mono_ms - within), now.mono_ms)
    return run, after, good_in_a_row(prediction, series.readings(metric, subject, acted + 1, now.mono_ms))
