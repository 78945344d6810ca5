"""Catalogue entries and ticks for tests of series, bands and detectors."""

from __future__ import annotations

from typing import Any

from stead.model.catalog import Catalog, Exit, MetricCatalogEntry, PlaybookDefinition, Predict, Range, Thresholds
from stead.model.observe import Now, Sample

START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
LATENCY = Thresholds((Range(upper=350),), (Range(350, 500),), (Range(lower=500),))
LOW = Thresholds((Range(lower=95),), (Range(90, 95),), (Range(upper=90),))
BOTH = Thresholds((Range(70, 85),), (Range(60, 70), Range(85, 90)), (Range(upper=60), Range(lower=90)))


def entry(metric: str = "api.latency", **given: Any) -> MetricCatalogEntry:
    known: dict[str, Any] = {
        "metric_id": metric,
        "category": "api",
        "description": "How long answers take",
        "unit": "milliseconds",
        "recommended_interval_seconds": 1.0,
        "thresholds": LATENCY,
        "exit": Exit(warning=300, critical=425),
    }
    return MetricCatalogEntry(**known | given)


def catalog(*entries: MetricCatalogEntry, playbooks: tuple[PlaybookDefinition, ...] = ()) -> Catalog:
    return Catalog({one.metric_id: one for one in entries}, {one.playbook_id: one for one in playbooks}, "test")


def at(second: float, start_ms: int = START_MS) -> Now:
    return Now(start_ms + round(second * 1000), 5_000_000 + round(second * 1000))


def sample(value: float | None, metric: str = "api.latency", subject: str = "host", reason: str = "") -> Sample:
    return Sample(metric, subject, value, reason or ("no answer" if value is None else ""))


def predicting(metric: str) -> PlaybookDefinition:
    return PlaybookDefinition("calm", predict=Predict(metric, "down", 0.5))
