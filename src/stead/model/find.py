"""What is wrong, as a value."""

from __future__ import annotations

from typing import Literal

import msgspec

from stead.model.observe import Band


class Finding(msgspec.Struct, frozen=True):
    """Something outside what it should be, from when it opened until it cleared.

    `fingerprint` (detector, metric, subject) is what duplicates fold on; `id` is one occurrence of it.
    `title` names the culprit in words ("sh (pid 4711) has used 1.0 cores for 30 s").
    """

    id: str
    fingerprint: str
    detector: str
    metric: str
    subject: str
    band: Literal["warning", "critical"]
    title: str
    value: float | None
    threshold: float | None
    unit: str
    since_ms: int  # when the value first crossed
    opened_ms: int
    updated_ms: int
    cleared_ms: int | None = None
    evidence: tuple[tuple[int, float], ...] = ()  # (unix_ms, value), newest last, at most 60
    playbooks: tuple[str, ...] = ()  # that answer it, by catalogue id
    labels: dict[str, str] = {}  # e.g. {"process": "sh", "pid": "4711", "command": "sh -c while :; do :; done"}
    folded: int = 0  # duplicates since it opened

    @property
    def open(self) -> bool:
        """Still so."""
        return self.cleared_ms is None


class Observation(msgspec.Struct, frozen=True):
    """The aggregated value of one metric of one subject over one evaluation interval: what detectors judge."""

    metric: str
    subject: str
    value: float | None
    band: Band
    at_ms: int
    reason: str = ""
    labels: dict[str, str] = {}  # e.g. {"process": "sh", "pid": "4711"}
