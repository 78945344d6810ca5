"""Band findings: a metric that has been in its warning or critical band for as long as its catalogue entry says.

Opens after `for` in the band (hysteresis is in the observation's band, so a dip that stays above the exit level does
not start it again), turns critical after `for` in the critical band, and clears after `clear_s` back inside. Further
bad observations fold into the open finding. An unknown value neither opens nor clears, and its time does not count;
an open finding then carries a `stale` label with the reason. A subject that is no longer reported, while its source is
alive, clears its finding. Durations use the monotonic clock; the finding's times are Unix times.

Memory: one record for each series that is outside good now. The caller hands in what is open, by fingerprint, with
the changes of the call before already in it; after a restart that is how this detector goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from stead.detectors.wording import title
from stead.model.catalog import Catalog, MetricCatalogEntry
from stead.model.find import Finding, Observation
from stead.model.observe import Now
from stead.stats.bands import SEVERITY, threshold_crossed
from stead.stats.track import GONE, NO_DATA

EVIDENCE: Final = 60
REFRESH_MS: Final = 60_000  # an open finding's value, evidence and count are told again this often
EARLY_MS: Final = 250  # a tick that comes this much early counts as on time
Bad = Literal["warning", "critical"]


class Watch:
    """What is remembered of one series that is outside good."""

    __slots__ = (
        "critical_ms",
        "evidence",
        "folded",
        "good_ms",
        "milder_ms",
        "since_unix_ms",
        "told_ms",
        "unknown_ms",
        "warning_ms",
    )

    def __init__(self, now: Now) -> None:
        self.since_unix_ms = now.unix_ms
        self.warning_ms: int | None = None  # in warning or worse since, monotonic
        self.critical_ms: int | None = None
        self.good_ms: int | None = None
        self.milder_ms: int | None = None  # less than critical since
        self.unknown_ms: int | None = None
        self.told_ms = now.mono_ms
        self.folded = 0
        self.evidence: list[tuple[int, float]] = []

    def see(self, observed: Observation, mono_ms: int, covered_ms: int) -> None:
        """Move the timers on a known band. `covered_ms`: how much good time a good observation itself stands for."""
        if self.unknown_ms is not None:
            self._skip(mono_ms - self.unknown_ms)
            self.unknown_ms = None
        if observed.value is not None:
            self.evidence = [*self.evidence[1 - EVIDENCE :], (observed.at_ms, observed.value)]
        level = SEVERITY[observed.band]
        self.warning_ms = _since(self.warning_ms, level >= 1, mono_ms)
        self.critical_ms = _since(self.critical_ms, level >= 2, mono_ms)
        self.milder_ms = _since(self.milder_ms, level < 2, mono_ms - covered_ms)
        self.good_ms = _since(self.good_ms, level < 1, mono_ms - covered_ms)

    def _skip(self, gap_ms: int) -> None:
        """Time that nobody saw does not count."""
        for timer in ("warning_ms", "critical_ms", "milder_ms", "good_ms"):
            began = getattr(self, timer)
            if began is not None:
                setattr(self, timer, began + gap_ms)


class BandDetector:
    """Judges every catalogued metric that has bands."""

    name = "band"

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}

    def find(
        self,
        observations: Sequence[Observation],
        catalog: Catalog,
        open_findings: Mapping[str, Finding],
        now: Now,
        new_id: Callable[[], str],
    ) -> Sequence[Finding]:
        """The findings that opened, grew, went stale or cleared with these observations."""
        changed = []
        for observed in observations:
            entry = catalog.metrics.get(observed.metric)
            if entry is None:
                continue
            key = fingerprint(observed.metric, observed.subject)
            finding = open_findings.get(key)
            if observed.band == "good" and finding is None:
                self._watches.pop(key, None)
            else:
                after = self._judge(key, observed, entry, catalog, finding, now)
                if after is not None:
                    changed.append(after if after.id else msgspec.structs.replace(after, id=new_id()))
        return changed

    def _judge(
        self, key: str, observed: Observation, entry: MetricCatalogEntry, catalog: Catalog, finding: Finding | None, now: Now
    ) -> Finding | None:
        """What one observation changes, if anything."""
        if observed.band == "unknown":
            return self._unknown(key, observed, finding, now)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = Watch(now)
            watch.evidence = list(finding.evidence) if finding else []
        interval_ms, clear_ms = int(entry.recommended_interval_seconds * 1000), int(entry.clear_s * 1000)
        watch.see(observed, now.mono_ms, interval_ms if interval_ms >= clear_ms else 0)
        if finding is None:
            return self._open(key, watch, observed, entry, catalog, now)
        if observed.band == "good" and _lasted(watch.good_ms, now, clear_ms):
            del self._watches[key]
            return _cleared(finding, watch, observed, now)
        return self._grown(watch, observed, entry, catalog, finding, now)

    def _open(
        self, key: str, watch: Watch, observed: Observation, entry: MetricCatalogEntry, catalog: Catalog, now: Now
    ) -> Finding | None:
        band = _sustained(watch, entry, now)
        if band is None:
            return None
        watch.told_ms = now.mono_ms
        threshold = threshold_crossed(observed.value, entry, band)
        return Finding(
            id="",
            fingerprint=key,
            detector=self.name,
            metric=observed.metric,
            subject=observed.subject,
            band=band,
            title=_title(watch, observed, entry, band, threshold, now),
            value=observed.value,
            threshold=threshold,
            unit=entry.unit,
            since_ms=watch.since_unix_ms,
            opened_ms=now.unix_ms,
            updated_ms=now.unix_ms,
            evidence=tuple(watch.evidence),
            playbooks=_answering(catalog, observed.metric, band),
            labels=observed.labels,
        )

    def _grown(
        self, watch: Watch, observed: Observation, entry: MetricCatalogEntry, catalog: Catalog, finding: Finding, now: Now
    ) -> Finding | None:
        """An open finding with one more observation: told when its band or staleness changes, else once a minute."""
        watch.folded += 1 if observed.band != "good" else 0
        band = _moved(watch, observed, entry, finding.band, now)
        stale = "stale" in finding.labels
        if band == finding.band and not stale and now.mono_ms - watch.told_ms < REFRESH_MS:
            return None
        watch.told_ms, folded, watch.folded = now.mono_ms, watch.folded, 0
        threshold = threshold_crossed(observed.value, entry, band) if band != finding.band else finding.threshold
        labels = {name: text for name, text in finding.labels.items() if name != "stale"} | observed.labels
        words = finding.title
        if band != finding.band:
            words = _title(watch, observed, entry, band, threshold, now)
        return msgspec.structs.replace(
            finding,
            band=band,
            title=words,
            value=observed.value,
            threshold=threshold,
            updated_ms=now.unix_ms,
            evidence=tuple(watch.evidence),
            playbooks=_answering(catalog, observed.metric, band),
            labels=labels,
            folded=finding.folded + folded,
        )

    def _unknown(self, key: str, observed: Observation, finding: Finding | None, now: Now) -> Finding | None:
        watch = self._watches.get(key)
        if observed.reason in (GONE, NO_DATA):
            self._watches.pop(key, None)
            if observed.reason == GONE:
                return _cleared(finding, watch, observed, now) if finding else None
        elif watch is None and finding is not None:
            watch = self._watches[key] = Watch(now)
            watch.evidence = list(finding.evidence)
        if watch is not None and watch.unknown_ms is None:
            watch.unknown_ms = now.mono_ms
        if finding is None or "stale" in finding.labels:
            return None
        return msgspec.structs.replace(
            finding, updated_ms=now.unix_ms, labels={**finding.labels, "stale": observed.reason or "unknown"}
        )


def detector() -> BandDetector:
    """The entry point's factory."""
    return BandDetector()


def fingerprint(metric: str, subject: str) -> str:
    """What duplicates fold on."""
    return f"band/{metric}/{subject}"


def _since(began: int | None, holds: bool, at_ms: int) -> int | None:
    if not holds:
        return None
    return at_ms if began is None else began


def _lasted(began_ms: int | None, now: Now, least_ms: float) -> bool:
    return began_ms is not None and now.mono_ms - began_ms >= least_ms - EARLY_MS


def _sustained(watch: Watch, entry: MetricCatalogEntry, now: Now) -> Bad | None:
    """The worst band that has held for as long as the entry asks."""
    if _lasted(watch.critical_ms, now, entry.for_s * 1000):
        return "critical"
    return "warning" if _lasted(watch.warning_ms, now, entry.for_s * 1000) else None


def _moved(watch: Watch, observed: Observation, entry: MetricCatalogEntry, band: Bad, now: Now) -> Bad:
    """The band of an open finding now: up after `for` in critical, down after `clear_s` below it."""
    if band == "warning":
        return "critical" if _lasted(watch.critical_ms, now, entry.for_s * 1000) else band
    eased = observed.band == "warning" and _lasted(watch.milder_ms, now, entry.clear_s * 1000)
    return "warning" if eased else band


def _cleared(finding: Finding, watch: Watch | None, observed: Observation, now: Now) -> Finding:
    labels = {name: text for name, text in finding.labels.items() if name != "stale"}
    if observed.reason == GONE:
        labels["cleared"] = "no longer among those reported"
    return msgspec.structs.replace(
        finding,
        value=finding.value if observed.value is None else observed.value,
        updated_ms=now.unix_ms,
        cleared_ms=now.unix_ms,
        evidence=tuple(watch.evidence) if watch else finding.evidence,
        labels=labels,
        folded=finding.folded + (watch.folded if watch else 0),
    )


def _title(watch: Watch, observed: Observation, entry: MetricCatalogEntry, band: Bad, threshold: float | None, now: Now) -> str:
    lasted_s = (now.mono_ms - (watch.warning_ms or now.mono_ms)) / 1000
    return title(entry, observed.subject, band, observed.value, threshold, lasted_s, observed.labels, observed.reason)


def _answering(catalog: Catalog, metric: str, band: Bad) -> tuple[str, ...]:
    """Playbooks for this band: those of the warning band answer a critical finding too."""
    return tuple(one.playbook_id for one in catalog.answering(metric) if SEVERITY[one.band] <= SEVERITY[band])
