"""The series in memory: latest values, evaluation intervals, five-minute windows, and a short full-rate memory.

On the hot path: a sample costs one look-up and one append. All arithmetic happens when an interval ends, over the
whole interval at once. A catalogued metric is evaluated every `recommended_interval_seconds` by its `aggregation`; one
with an interval of a second or less is evaluated in the tick of its sample. Subjects that vanish are dropped after two
intervals without a sample, and their last observation says so; the number of series is bounded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from stead.model.catalog import Catalog
from stead.model.find import Observation
from stead.model.messages import MetricView
from stead.model.observe import Fact, MetricSpec, MetricsSnapshot, Now, Sample
from stead.stats.track import GONE, LEAST_PATIENCE_MS, NO_DATA, PROCESS, Track, make_track

MAX_SERIES: Final = 4000
KEEP_MS: Final = 900_000  # of full-rate memory
EXPECTED_MS: Final = 10_000
PROCESS_TABLE: Final = ("infra.processes_total", "host")  # while this has a value, processes that are not reported are gone
CONTENTION: Final = ("infra.protected_cpu_wait", "host")  # while this is told, contenders that are not reported are gone
CONTENDERS: Final = frozenset(
    (
        *("infra.cpu_contention", "infra.memory_contention", "infra.io_contention"),
        *("infra.contender_demand", "infra.contender_cores", "infra.contender_io"),
        *("infra.memory_time_to_full", "infra.memory_idle"),
    )
)
_LABELS: Final = {"called": "name", "holds_up": "protected", "by_intent": "pattern"}  # fact → label
_HUGE: Final = sys.float_info.max


class Series:
    """All series of one host. `dropped` counts samples refused because there are too many series."""

    def __init__(
        self,
        metrics: Mapping[str, MetricSpec],
        catalog: Catalog,
        *,
        snapshot_s: float = 300.0,
        capacity: int = MAX_SERIES,
        remember: Iterable[str] = (),
    ) -> None:
        """`remember`: further metrics whose values are kept at full rate, beside those that playbooks measure by."""
        self.metrics = metrics
        self.catalog = catalog
        self.dropped = 0
        self._snapshot_ms = max(int(snapshot_s * 1000), 1)
        self._capacity = capacity
        self._tracks: dict[tuple[str, str], Track] = {}
        self._predicted = {name for one in catalog.playbooks.values() for name in one.measured}
        self._predicted |= set(remember)
        self._labels: dict[str, tuple[dict[str, str], dict[str, str]]] = {}  # subject → what its facts said, and the labels
        self._fresh: dict[str, int] = {}  # metric → when any of its subjects last had a value
        self._closing: list[MetricsSnapshot] = []  # of subjects that vanished in this window
        self._heard_ms = 0  # the newest tick's monotonic time
        self._window_ms: int | None = None  # when the present window began, Unix

    def add(self, samples: Iterable[Sample], now: Now) -> None:
        """Take in one tick's samples. A value that is not a finite number becomes unknown."""
        tracks, mono_ms, unix_ms = self._tracks, now.mono_ms, now.unix_ms
        self._heard_ms = mono_ms
        if self._window_ms is None:
            self._window_ms = unix_ms
        for sample in samples:
            track = tracks.get((sample.metric, sample.subject)) or self._open(sample, now)
            if track is None:
                self.dropped += 1
                continue
            value = sample.value
            if value is not None and not -_HUGE <= value <= _HUGE:
                sample, value = Sample(sample.metric, sample.subject, None, "not a finite number"), None
            track.last = sample
            track.at_ms = unix_ms
            if mono_ms > track.seen_ms:
                gap_ms = mono_ms - track.seen_ms
                if gap_ms > track.spacing_ms or track.subject.startswith(PROCESS):  # others may speak only when something changed
                    track.spacing_ms = gap_ms
                track.seen_ms = mono_ms
            if value is None:
                track.unknown += 1
            elif track.kept:
                track.values.append(value)
                if track.ring is not None:
                    track.ring.add(mono_ms, value)

    def add_facts(self, facts: Iterable[Fact]) -> None:
        """Remember what subjects are called, which labels their observations.

        A fact `process` says "name: command line"; `called`, `holds_up` and `by_intent` say what a contender is called, whom it
        holds up, and by which pattern it may be slowed.
        """
        for fact in facts:
            if not isinstance(fact.value, str):
                continue
            said, labels = self._labels.get(fact.subject, ({}, {}))
            if said.get(fact.name) == fact.value:
                continue
            if fact.name == "process" and fact.subject.startswith(PROCESS):
                name, _, command = fact.value.partition(": ")
                told = {"process": name, "pid": fact.subject[len(PROCESS) :].partition("@")[0], "command": command}
            elif fact.name in _LABELS:
                told = {_LABELS[fact.name]: fact.value}
            else:
                continue
            labels = {key: text for key, text in {**labels, **told}.items() if text}
            self._labels[fact.subject] = ({**said, fact.name: fact.value}, labels)
        if len(self._labels) > len(self._tracks) + 64:
            live = {subject for _, subject in self._tracks}
            self._labels = {subject: known for subject, known in self._labels.items() if subject in live}

    def latest(self, metric: str, subject: str) -> Sample | None:
        """The newest sample, None when there has been none (or its subject has vanished)."""
        track = self._tracks.get((metric, subject))
        return track.last if track else None

    def value(self, metric: str, subject: str) -> float | None:
        """The newest value, None when unknown. Fits `protocols.Latest`."""
        track = self._tracks.get((metric, subject))
        return track.last.value if track else None

    def views(self, keep: Callable[[str, str], bool] = lambda metric, subject: True) -> list[MetricView]:
        """Every series as it is now, or those (metric, subject) that `keep` chooses. Subjects that are silent are left out."""
        heard_ms = self._heard_ms
        return [track.view() for key, track in self._tracks.items() if keep(*key) and not track.silent(heard_ms)]

    def mean(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> float | None:
        """The mean of the known values from one time to another (both included), of the last 15 minutes at most.

        None when no value is known there, or no playbook predicts this metric.
        """
        track = self._tracks.get((metric, subject))
        return track.ring.mean(from_mono_ms, to_mono_ms) if track and track.ring else None

    def readings(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> list[float]:
        """The known values from one time to another (both included), oldest first: what `mean` is the mean of."""
        track = self._tracks.get((metric, subject))
        return track.ring.between(from_mono_ms, to_mono_ms) if track and track.ring else []

    def points(self, metric: str, subject: str, from_mono_ms: float, to_mono_ms: float) -> list[tuple[float, float]]:
        """The same with their times: (monotonic ms, value)."""
        track = self._tracks.get((metric, subject))
        return track.ring.points(from_mono_ms, to_mono_ms) if track and track.ring else []

    def subjects(self, metric: str) -> list[str]:
        """What has a series of this metric now."""
        return [subject for name, subject in self._tracks if name == metric]

    def expect(self, metric: str, subject: str, now: Now) -> None:
        """A finding from before a restart is about this: if its source lives and does not report it, it is observed as gone."""
        if (metric, subject) not in self._tracks:
            track = self._open(Sample(metric, subject, None, "not seen yet since the start"), now)
            if track is not None:
                track.spacing_ms = EXPECTED_MS

    def observations(self, now: Now) -> list[Observation]:
        """What the intervals that just ended came to. Call once a tick, after `add`."""
        found: list[Observation] = []
        vanished: list[tuple[str, str]] = []
        for key, track in self._tracks.items():
            if now.mono_ms < track.due_ms:
                continue
            if track.stale(now.mono_ms):
                vanished.append(key)
                continue
            if track.values or track.unknown:
                if track.last.value is not None:
                    self._fresh[track.metric] = now.mono_ms
                observed = track.evaluate(now)
                if observed is not None:
                    found.append(self._labelled(observed))
            track.schedule(now.mono_ms)
        found += [self._drop(key, now) for key in vanished if key in self._tracks]
        return [one for one in found if self.catalog.metrics.get(one.metric)]

    def close_window(self, now: Now) -> list[MetricsSnapshot]:
        """The snapshots of the window that ended, [] while it runs. Windows end at wall-clock multiples of `snapshot_s`."""
        begun = self._window_ms
        if begun is None or now.unix_ms // self._snapshot_ms == begun // self._snapshot_ms:
            return []
        end_ms = (begun // self._snapshot_ms + 1) * self._snapshot_ms
        if now.unix_ms < begun:
            end_ms = begun + 1  # the wall clock was set back: what there is belongs before the step
        snapshots = self._closing
        self._closing = []
        for track in self._tracks.values():
            snapshot = track.close(begun, end_ms, now.mono_ms)
            if snapshot is not None:
                snapshots.append(snapshot)
        self._window_ms = (
            max(end_ms, now.unix_ms // self._snapshot_ms * self._snapshot_ms) if now.unix_ms >= begun else now.unix_ms
        )
        return snapshots

    def __len__(self) -> int:
        """How many series there are."""
        return len(self._tracks)

    def _open(self, sample: Sample, now: Now) -> Track | None:
        if len(self._tracks) >= self._capacity:
            return None
        entry, spec = self.catalog.metrics.get(sample.metric), self.metrics.get(sample.metric)
        track = make_track(sample, entry, spec, now)
        if sample.metric in self._predicted:
            track.remember(KEEP_MS)
        self._tracks[sample.metric, sample.subject] = track
        return track

    def _drop(self, key: tuple[str, str], now: Now) -> Observation:
        """Forget a subject. Where others of its metric still report, it is gone; else its source fell silent."""
        track = self._tracks.pop(key)
        alive = now.mono_ms - self._fresh.get(track.metric, -sys.maxsize) <= track.patience_ms or self._is_told(track, now)
        observed = self._labelled(track.ended(now, GONE if alive else NO_DATA))
        snapshot = track.close(self._window_ms or now.unix_ms, now.unix_ms, now.mono_ms)
        if snapshot is not None and len(self._closing) < self._capacity:
            self._closing.append(snapshot)
        return observed

    def _is_told(self, track: Track, now: Now) -> bool:
        """Would its source tell of it if it were there? A process's is the process table's, a contender's that of contention."""
        process = track.subject.startswith(PROCESS)
        source = self._tracks.get(PROCESS_TABLE if process else CONTENTION)
        reads = source is not None and now.mono_ms - source.seen_ms <= LEAST_PATIENCE_MS
        if process:
            return reads and source is not None and source.last.value is not None
        return reads and track.metric in CONTENDERS

    def _labelled(self, observed: Observation) -> Observation:
        known = self._labels.get(observed.subject)
        return observed if known is None else msgspec.structs.replace(observed, labels=known[1])
