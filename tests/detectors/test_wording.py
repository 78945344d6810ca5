"""Titles: numbers as people write them, and every template of the shipped catalogue filled."""

from __future__ import annotations

import pytest

from stead.catalog import load_catalog
from stead.detectors.wording import duration, number, quantity, title
from stead.model.catalog import MetricCatalogEntry
from stead.stats.bands import threshold_crossed

CATALOG = load_catalog("", known_metrics=None, actuators=None)
LABELS = {"process": "sh", "pid": "4711", "command": "sh -c x", "name": "sh", "protected": "web"}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "", "0.0"),
        (0.0004, "", "0.0004"),
        (0.97, "", "0.97"),
        (1.0, "", "1.0"),
        (12.34, "", "12.3"),
        (-350.4, "", "-350"),
        (3.0, "count", "3"),
        (3.5, "count", "3.5"),
        (1.0, "cores", "1.0"),
        (1e20, "", "100000000000000000000"),
    ],
)
def test_numbers(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999, "bytes", "999 B"),
        (1024, "bytes", "1.0 KiB"),
        (1.5 * (1 << 30), "bytes", "1.5 GiB"),
        (3000 * float(1 << 50), "bytes", "3000 PiB"),
        (2.5 * (1 << 20), "bytes_per_second", "2.5 MiB/s"),
        (92.4, "percent", "92.4 %"),
        (0.02, "ratio", "0.02"),
        (4, "count_per_5m", "4 in 5 min"),
    ],
)
def test_quantities(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (30.4, "30 s"), (89, "89 s"), (300, "5 min"), (7200, "2 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("entry", [one for one in CATALOG.metrics.values() if one.thresholds], ids=lambda one: one.metric_id)
def test_every_shipped_title_can_be_filled(entry: MetricCatalogEntry) -> None:
    level = threshold_crossed(1e9, entry, "warning") or threshold_crossed(1e9, entry, "critical")
    words = title(entry, "process:4711@1", "warning", 92.0, level, 30.0, LABELS, "it hangs")
    assert "?" not in words
    assert "{" not in words
    assert 8 < len(words) < 160
    if entry.finding:
        assert words != title(
            MetricCatalogEntry(entry.metric_id, "", "", entry.unit), "process:4711@1", "warning", 92.0, level, 30.0, {}
        )
