"""Observe: run the probes that are due and gather what they saw.

Probes of kernel files run inline. A probe that can hang (mounts, drivers, sockets) runs on a daemon thread of its own,
one outstanding call a probe and eight in all; its reading joins the next tick. A probe that raises, hangs or takes
longer than its timeout reads `stead.probe_up` = 0 with the reason, which the catalogue turns into a finding, and never
stops the others. Missing is never zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from stead.model.config import ProbeConfig
from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample, Top
from stead.protocols import Host, Probe

MAX_OUTSTANDING: Final = 8
UP_METRIC: Final = MetricSpec("stead.probe_up", "bool", "1 when the probe answered in time, 0 when it failed or hangs", "min")
UP_INTERVAL_MS: Final = 10_000


class Observed(msgspec.Struct, frozen=True):
    """Everything that one tick saw."""

    samples: tuple[Sample, ...]
    facts: tuple[Fact, ...]
    top: Top | None


class Call:
    """One outstanding read of a probe that can hang."""

    def __init__(self, began_ms: int) -> None:
        self.began_ms = began_ms
        self.done = threading.Event()
        self.reading: Reading | None = None
        self.error = ""


class Watch:
    """One probe's timing and health between ticks."""

    def __init__(self, probe: Probe, config: ProbeConfig, tick_ms: int) -> None:
        self.probe = probe
        self.early_ms = tick_ms // 2  # a tick that comes a little soon must not leave it to the one after
        self.interval_ms = max(int((config.interval_s or probe.interval_s) * 1000), tick_ms)
        self.timeout_ms = int((config.timeout_s or probe.timeout_s) * 1000)
        self.due_ms = 0
        self.call: Call | None = None
        self.error: str | None = None  # None: has not answered yet
        self.told_ms = -UP_INTERVAL_MS
        self.told: str | None = None

    def up(self, now: Now) -> Sample | None:
        """Its `stead.probe_up` sample: at once when it changed, else every ten seconds."""
        if self.error is None or (self.error == self.told and now.mono_ms - self.told_ms < UP_INTERVAL_MS):
            return None
        self.told, self.told_ms = self.error, now.mono_ms
        return Sample(UP_METRIC.id, f"probe:{self.probe.name}", 0.0 if self.error else 1.0, self.error)


class Observer:
    """Runs probes when they are due. `tick_s` is the shortest interval; configuration may lengthen each."""

    def __init__(
        self,
        probes: Sequence[Probe],
        host: Host,
        config: Mapping[str, ProbeConfig] | None = None,
        tick_s: float = 1.0,
        cpu_clock: Callable[[], float] | None = None,
    ) -> None:
        config = config or {}
        wanted = [(probe, config.get(probe.name, ProbeConfig())) for probe in probes]
        self.host = host
        self.watches = [Watch(probe, own, int(tick_s * 1000)) for probe, own in wanted if own.enabled]
        self.cpu_clock = cpu_clock

    def hasten(self, name: str) -> None:
        """Let a probe be read at the next tick, however soon that comes."""
        for watch in self.watches:
            if watch.probe.name == name:
                watch.due_ms = 0

    def specs(self) -> dict[str, MetricSpec]:
        """Every metric that can come from here, by id."""
        found = {spec.id: spec for watch in self.watches for spec in watch.probe.metrics}
        return {**found, UP_METRIC.id: UP_METRIC}

    def health(self) -> dict[str, str | None]:
        """Probe name → "" when well, the reason when not, None when it has not answered yet."""
        return {watch.probe.name: watch.error for watch in self.watches}

    def observe(self, now: Now) -> Observed:
        """Read what is due. Never raises and never waits for a probe that can hang."""
        samples: list[Sample] = []
        facts: list[Fact] = []
        top: Top | None = None
        for watch in self.watches:
            for reading in self._readings(watch, now):
                samples += reading.samples
                facts += reading.facts
                top = reading.top or top
            told = watch.up(now)
            if told is not None:
                samples.append(told)
        return Observed(tuple(samples), tuple(facts), top)

    def _readings(self, watch: Watch, now: Now) -> list[Reading]:
        if not watch.probe.blocking:
            if now.mono_ms < watch.due_ms - watch.early_ms:
                return []
            self._next(watch, now)
            reading, watch.error = read(watch.probe, self.host, now)
            return [reading]
        gathered = self._gather(watch, now)
        if watch.call is None and now.mono_ms >= watch.due_ms - watch.early_ms and self._outstanding() < MAX_OUTSTANDING:
            self._next(watch, now)
            watch.call = begin(watch.probe, self.host, now)
        return gathered

    def _next(self, watch: Watch, now: Now) -> None:
        late = now.mono_ms - watch.due_ms
        on_grid = -watch.early_ms <= late < watch.interval_ms
        watch.due_ms = (watch.due_ms if on_grid else now.mono_ms) + watch.interval_ms

    def _gather(self, watch: Watch, now: Now) -> list[Reading]:
        call = watch.call
        if call is None:
            return []
        if call.done.is_set():
            watch.call, watch.error = None, call.error
            return [call.reading or unknown(watch.probe, call.error)]
        waited_ms = now.mono_ms - call.began_ms
        if waited_ms > watch.timeout_ms:
            first = not watch.error
            watch.error = f"hangs: no answer within {watch.timeout_ms / 1000:g} s"
            return [unknown(watch.probe, watch.error)] if first else []
        return []

    def _outstanding(self) -> int:
        return sum(watch.call is not None for watch in self.watches)


def read(probe: Probe, host: Host, now: Now) -> tuple[Reading, str]:
    """One reading and "" or, where it failed, unknown values and the reason."""
    try:
        return probe.read(host, now), ""
    except Exception as error:  # a broken probe is a finding, not the end of the tick
        reason = f"{type(error).__name__}: {error}"[:300]
        return unknown(probe, reason), reason


def unknown(probe: Probe, reason: str) -> Reading:
    """All of a probe's host-wide metrics as unknown."""
    return Reading(samples=tuple(Sample(spec.id, "host", None, reason) for spec in probe.metrics))


def begin(probe: Probe, host: Host, now: Now) -> Call:
    """Start a read on a daemon thread: if it never returns, only that thread is lost."""
    call = Call(now.mono_ms)

    def work() -> None:
        call.reading, call.error = read(probe, host, now)
        call.done.set()

    threading.Thread(target=work, name=f"probe-{probe.name}", daemon=True).start()
    return call
