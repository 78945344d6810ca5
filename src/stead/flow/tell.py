"""Tell: copies of what is not recorded, to the bus; and lines to the log. Nothing here steers anything.

Topics from here: `finding.changed`, `metrics.<metric_id>` (one an interval), `snapshots.taken`, `autonomy.changed`, and
`samples` (all of one tick, for live charts). What is recorded is told by `keep`, once it is durable: `finding.opened` and
`finding.cleared`, `run.<state>`, `receipt.issued`, `metrics.action_recommended`, `governance.policy.check`, `infrastructure.*`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stead.model.catalog import Catalog
from stead.model.change import Run
from stead.model.find import Finding, Observation
from stead.model.messages import Event
from stead.model.observe import MetricEvent, MetricSpec, MetricsSnapshot, Now, Sample, Top
from stead.protocols import Bus


class Teller:
    """Makes an event only where somebody listens, and a log line where an administrator would look for one."""

    def __init__(self, bus: Bus, log: Any, catalog: Catalog, specs: Mapping[str, MetricSpec], log_metrics: bool = False) -> None:
        self.bus, self.log, self.catalog, self.specs = bus, log, catalog, specs
        self.log_metrics = log_metrics

    def event(self, topic: str, subject: str, now: Now, **what: Any) -> None:
        """A copy to whoever listens to this topic."""
        if self.bus.wants(topic):
            self.bus.publish(Event(topic, subject, now.unix_ms, 0, **what))

    def finding(self, finding: Finding, recorded: bool, now: Now) -> None:
        """A finding that opened or cleared, which was told as it was recorded: its line in the log. One that grew: its event."""
        if not recorded:
            self.event("finding.changed", finding.id, now, finding=finding)
            return
        word = "opened" if finding.open else "cleared"
        self.log.info(f"finding {word}", id=finding.id, title=finding.title, band=finding.band, subject=finding.subject)

    def logged(self, run: Run) -> None:
        """The log's line of a run that moved. Its event was told as it was recorded."""
        targets = [str(step.target) for step in run.proposal.steps]
        self.log.info(f"run {run.state}", id=run.id, playbook=run.proposal.playbook, targets=targets, reason=run.reason)

    def metrics(self, samples: Sequence[Sample], observations: Sequence[Observation], top: Top | None, now: Now) -> None:
        """Each interval's value of the catalogued metrics; and on request all of a tick's samples."""
        for one in observations:
            if self.bus.wants(f"metrics.{one.metric}"):
                unit = self._unit(one.metric)
                event = MetricEvent(one.metric, one.value, unit, one.subject, one.band, one.at_ms, one.reason)
                self.event(f"metrics.{one.metric}", one.subject, now, metrics=(event,))
        if self.log_metrics and samples:
            self.log.info("metrics", **{f"{s.metric} {s.subject}": s.value for s in samples})
        if self.bus.wants("samples"):
            events = [
                MetricEvent(s.metric, s.value, self._unit(s.metric), s.subject, "unknown", now.unix_ms, s.reason) for s in samples
            ]
            self.event("samples", "host", now, metrics=tuple(events), top=top)

    def snapshots(self, snapshots: Sequence[MetricsSnapshot], now: Now) -> None:
        """The window's summaries."""
        self.event("snapshots.taken", "host", now, snapshots=tuple(snapshots))

    def _unit(self, metric: str) -> str:
        entry, spec = self.catalog.metrics.get(metric), self.specs.get(metric)
        return entry.unit if entry else spec.unit if spec else ""
