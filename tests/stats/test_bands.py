"""Bands: precedence where ranges touch, gaps, hysteresis on either side, and the level that was crossed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.model.catalog import Exit, MetricCatalogEntry, Range, Thresholds
from stead.model.observe import Band
from stead.stats.bands import SEVERITY, band_of, threshold_crossed
from tests.stats.kit import BOTH, LOW, entry

HIGH = entry()
LOWER = entry(thresholds=LOW, exit=Exit(warning=97, critical=95))
TWO_SIDED = entry(thresholds=BOTH, exit=Exit(warning=82, critical=88, warning_lower=73, critical_lower=63))


@pytest.mark.parametrize(
    ("value", "band"),
    [(-5, "good"), (349.9, "good"), (350, "warning"), (499.9, "warning"), (500, "critical"), (1e300, "critical")],
)
def test_the_worse_band_wins_where_ranges_touch(value: float, band: Band) -> None:
    assert band_of(value, HIGH) == band


@pytest.mark.parametrize(
    ("value", "band"),
    [(59, "critical"), (60, "critical"), (61, "warning"), (70, "warning"), (77, "good"), (85, "warning"), (90, "critical")],
)
def test_two_sided(value: float, band: Band) -> None:
    assert band_of(value, TWO_SIDED) == band


@pytest.mark.parametrize(
    ("value", "previous", "band"),
    [
        (340, "warning", "warning"),  # not back at 300 yet
        (300, "warning", "good"),  # the exit level itself leaves
        (340, "good", "good"),
        (340, "unknown", "good"),
        (430, "critical", "critical"),
        (425, "critical", "warning"),
        (340, "critical", "warning"),  # out of critical, not out of warning
        (200, "critical", "good"),
        (600, "warning", "critical"),
    ],
)
def test_a_band_is_left_at_its_exit_level(value: float, previous: Band, band: Band) -> None:
    assert band_of(value, HIGH, previous) == band


@pytest.mark.parametrize(
    ("value", "previous", "band"),
    [
        (96, "good", "good"),
        (96, "warning", "warning"),
        (97, "warning", "good"),
        (94, "critical", "critical"),
        (95, "critical", "warning"),
    ],
)
def test_a_metric_that_is_bad_when_low_takes_its_plain_exit_levels(value: float, previous: Band, band: Band) -> None:
    assert band_of(value, LOWER, previous) == band


@pytest.mark.parametrize(
    ("value", "previous", "band"),
    [
        (83, "warning", "warning"),
        (82, "warning", "good"),
        (72, "warning", "warning"),
        (73, "warning", "good"),
        (62, "critical", "critical"),
    ],
)
def test_two_sided_exits(value: float, previous: Band, band: Band) -> None:
    assert band_of(value, TWO_SIDED, previous) == band


GAPS = Thresholds((Range(upper=3),), (Range(4, 7),), (Range(8, 100),))
UNGOOD = Thresholds((), (Range(upper=70), Range(lower=85)), (Range(upper=60), Range(lower=90)))


@pytest.mark.parametrize(
    ("thresholds", "value", "band"),
    [
        (GAPS, 3, "good"),
        (GAPS, 3.5, "warning"),  # outside good
        (GAPS, 7.5, "warning"),  # not critical yet
        (GAPS, 101, "critical"),  # beyond all ranges
        (UNGOOD, 75, "good"),  # between two warnings
        (Thresholds(warning=(Range(4, 7),), critical=(Range(lower=9),)), 8, "warning"),
        (Thresholds(warning=(Range(4, 7),), critical=(Range(lower=9),)), 1, "warning"),
        (Thresholds(good=(Range(0, 70),), warning=(Range(70, 85),)), -1, "good"),
        (Thresholds(), 12, "good"),
        (None, 12, "good"),
    ],
)
def test_gaps(thresholds: Thresholds | None, value: float, band: Band) -> None:
    assert band_of(value, entry(thresholds=thresholds, exit=Exit())) == band


def test_missing_data_is_unknown_or_a_breach_and_never_good() -> None:
    assert band_of(None, HIGH, "good") == "unknown"
    assert band_of(None, entry(no_data="breach"), "good") == "critical"
    assert band_of(None, entry(thresholds=None)) == "unknown"


@pytest.mark.parametrize(
    ("item", "value", "band", "level"),
    [
        (HIGH, 360, "warning", 350),
        (HIGH, 310, "warning", 350),  # held by hysteresis: it came in at 350
        (HIGH, 9e9, "critical", 500),
        (LOWER, 93, "warning", 95),
        (LOWER, 12, "critical", 90),
        (TWO_SIDED, 62, "warning", 70),
        (TWO_SIDED, 88, "warning", 85),
        (TWO_SIDED, 10, "critical", 60),
        (TWO_SIDED, 99, "critical", 90),
        (HIGH, 100, "good", None),
        (HIGH, None, "critical", None),
    ],
)
def test_threshold_crossed(item: MetricCatalogEntry, value: float | None, band: Band, level: float | None) -> None:
    assert threshold_crossed(value, item, band) == level


@given(st.floats(-1e6, 1e6), st.sampled_from(["good", "warning", "critical", "unknown"]))
def test_hysteresis_only_ever_keeps_a_worse_band(value: float, previous: Band) -> None:
    for item in (HIGH, LOWER, TWO_SIDED):
        fresh, after = band_of(value, item), band_of(value, item, previous)
        assert SEVERITY[after] >= SEVERITY[fresh]
        assert SEVERITY[after] <= max(SEVERITY[fresh], SEVERITY[previous])
        assert band_of(value, item, after) == after
