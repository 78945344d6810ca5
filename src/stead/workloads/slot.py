"""A worker's place in a workload: its durable part, the process in it, and what is known of its health.

The index of a place outlives its workers: worker 2 is always the one on the third port.
"""

from __future__ import annotations

import uuid
from typing import Literal

from stead.model.observe import Now
from stead.model.workload import Health, WorkloadSpec
from stead.workloads.children import Child
from stead.workloads.records import SlotRecord

STABLE_MS = 10_000  # a worker that ran this long (or ten times its first delay) has come out of its crash loop
HURRY_S = 0.2
WorkerState = Literal["starting", "healthy", "unhealthy", "stopping", "backing_off", "gone"]


class Slot:
    """A worker's place: its durable part, the process in it, and what its health checks said."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.spawn = ""
        self.generation = 0
        self.child: Child | None = None
        self.started_ms = 0
        self.started_mono_ms = 0
        self.stopping_mono_ms: int | None = None
        self.killed = False
        self.streak = 0
        self.not_before_mono_ms = 0
        self.well: bool | None = None  # None: not asked yet
        self.failures = 0
        self.asked_mono_ms = 0
        self.asking = False
        self.reason = ""

    def record(self, boot_id: str) -> SlotRecord:
        """The durable part, by identity."""
        return SlotRecord(
            index=self.index,
            spawn=self.spawn,
            generation=self.generation,
            pid=self.child.pid if self.child else None,
            start_ticks=self.child.start_ticks if self.child else None,
            boot_id=boot_id,
            started_ms=self.started_ms,
            started_mono_ms=self.started_mono_ms,
            stopping=self.stopping_mono_ms is not None,
            streak=self.streak,
            not_before_mono_ms=self.not_before_mono_ms,
        )

    def begin(self, generation: int, now: Now) -> None:
        """A new worker is about to sit here: a fresh mark, nothing known of it yet."""
        if self.generation != generation:
            self.streak, self.reason = 0, ""
        self.spawn, self.generation = uuid.uuid4().hex, generation
        self.started_ms, self.started_mono_ms = now.unix_ms, now.mono_ms
        self.well, self.failures, self.killed, self.asked_mono_ms = None, 0, False, 0

    def crashed(self, spec: WorkloadSpec, reason: str, now: Now) -> None:
        """Its worker ended unasked: wait before the next, twice as long each time in a row."""
        self.streak += 1
        delay_s = min(spec.backoff_s * 2 ** min(self.streak - 1, 30), spec.backoff_max_s)
        self.not_before_mono_ms = now.mono_ms + int(delay_s * 1000)
        self.reason = f"{reason} ({self.streak} in a row; tried again after {delay_s:g} s)"

    def steady(self, spec: WorkloadSpec, now: Now) -> None:
        """It has run long enough to have come out of its crash loop, if it has."""
        if self.streak and now.mono_ms - self.started_mono_ms > max(STABLE_MS, int(spec.backoff_s * 10_000)):
            self.streak, self.reason = 0, ""

    def check_due(self, health: Health, now: Now) -> bool:
        """Is a health check due? More often until it is well, so that a rolling restart does not wait."""
        if self.child is None or self.asking or self.stopping_mono_ms is not None:
            return False
        interval_s = health.interval_s if self.well else min(health.interval_s, HURRY_S)
        return now.mono_ms - self.asked_mono_ms >= interval_s * 1000

    def answered(self, health: Health, spawn: str, problem: str) -> None:
        """A health check came back. It counts only for the worker that was asked."""
        self.asking = False
        if self.spawn != spawn or self.child is None:
            return
        self.failures = self.failures + 1 if problem else 0
        if not problem:
            self.well = True
            self.reason = self.reason if self.streak else ""
        elif self.failures >= health.failures:
            self.well, self.reason = False, problem

    def state(self, spec: WorkloadSpec, now: Now) -> WorkerState:
        """What a person would call it."""
        if self.child is None:
            return "backing_off" if self.not_before_mono_ms > now.mono_ms else "gone"
        if self.stopping_mono_ms is not None:
            return "stopping"
        young = now.mono_ms - self.started_mono_ms < spec.start_grace_s * 1000
        if spec.health is None:
            return "starting" if young else "healthy"
        if self.well is None or (not self.well and young):
            return "starting" if young else "unhealthy"
        return "healthy" if self.well else "unhealthy"
