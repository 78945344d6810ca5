"""Which band a value is in, with hysteresis: shared by the series (time in each band) and by the band detector.

Ranges include their ends. Where they touch, the worse band wins: critical before warning before good, so with good up
to 350, warning 350 to 500 and critical from 500, the value 350 is a warning and 500 is critical. A value beyond all
ranges belongs to the outermost one on its side. In a gap between ranges it is a warning if a good range is given
(it is outside it), else it is a warning between ranges of different bands, and good between two of the same.
A metric without ranges has nothing to breach: any known value is good.

Hysteresis: a band is left only when the value reaches its exit level on the way back (`value <= exit` above the good
range, `value >= exit` below). A two-sided metric takes `exit.warning` and `exit.critical` for its upper side and
`*_lower` for its lower one; a metric that is bad only when low may give either.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Final

import msgspec

from stead.model.catalog import Exit, MetricCatalogEntry, Range, Thresholds
from stead.model.observe import Band

SEVERITY: Final[dict[Band, int]] = {"unknown": -1, "good": 0, "warning": 1, "critical": 2}
_WORST_FIRST: Final[tuple[Band, ...]] = ("critical", "warning", "good")


class Extent(msgspec.Struct, frozen=True):
    """One range, closed, and the band that it belongs to."""

    lower: float
    upper: float
    band: Band


class Levels(msgspec.Struct, frozen=True):
    """Thresholds and exits made ready: extents worst first, and by side the level that must be reached to leave a band."""

    extents: tuple[Extent, ...]
    has_good: bool
    upper: dict[str, float]  # band → still in it above this
    lower: dict[str, float]  # band → still in it below this


def band_of(value: float | None, entry: MetricCatalogEntry, previous: Band = "unknown") -> Band:
    """The band of a value, given the band before it. None is `unknown`, or `critical` where the entry says no_data: breach."""
    if value is None:
        return "critical" if entry.no_data == "breach" else "unknown"
    if entry.thresholds is None:
        return "good"
    levels = _levels(entry.thresholds, entry.exit)
    band = _entered(value, levels)
    for worse in ("critical", "warning"):
        if worse == band:
            return band
        if SEVERITY[previous] >= SEVERITY[worse] and _held(value, worse, levels):
            return worse
    return band


def threshold_crossed(value: float | None, entry: MetricCatalogEntry, band: Band) -> float | None:
    """The level at which a value came into a band: of the band's ranges, the end towards good that is nearest to it."""
    if value is None or entry.thresholds is None:
        return None
    extents = [one for one in _levels(entry.thresholds, entry.exit).extents if one.band == band != "good"]
    ends = [one.lower if _is_upper(one, entry.thresholds) else one.upper for one in extents]
    finite = [end for end in ends if abs(end) < inf]
    return min(finite, key=lambda end: abs(value - end), default=None)


def _is_upper(extent: Extent, thresholds: Thresholds) -> bool:
    """Is this range above the good one (or open upwards, where no good range is given)?"""
    good = _extents(thresholds.good, "good")
    if good:
        return extent.lower > min(one.lower for one in good)
    return extent.upper == inf or any(one.lower >= extent.upper for one in _extents(thresholds.critical, "critical"))


def _entered(value: float, levels: Levels) -> Band:
    """The band by ranges alone."""
    for extent in levels.extents:
        if extent.lower <= value <= extent.upper:
            return extent.band
    if not levels.extents:
        return "good"
    below = [one for one in levels.extents if one.upper < value]
    above = [one for one in levels.extents if one.lower > value]
    if not above:
        return max(below, key=lambda one: one.upper).band
    if not below:
        return min(above, key=lambda one: one.lower).band
    if levels.has_good:
        return "warning"
    beside = {max(below, key=lambda one: one.upper).band, min(above, key=lambda one: one.lower).band}
    return "warning" if len(beside) > 1 else "good"


def _held(value: float, band: Band, levels: Levels) -> bool:
    """Has the value not yet come back to the band's exit level, on either side?"""
    return value > levels.upper.get(band, inf) or value < levels.lower.get(band, -inf)


def _extents(ranges: Sequence[Range], band: Band) -> list[Extent]:
    return [Extent(-inf if one.lower is None else one.lower, inf if one.upper is None else one.upper, band) for one in ranges]


@lru_cache(maxsize=512)
def _levels(thresholds: Thresholds, leave: Exit) -> Levels:
    ranges = {"critical": thresholds.critical, "warning": thresholds.warning, "good": thresholds.good}
    extents = [extent for band in _WORST_FIRST for extent in _extents(ranges[band], band)]
    bad_above = bool(extents) and max(extents, key=lambda one: (one.upper, SEVERITY[one.band])).band != "good"
    bad_below = bool(extents) and min(extents, key=lambda one: (one.lower, -SEVERITY[one.band])).band != "good"
    upper = {"warning": leave.warning, "critical": leave.critical} if bad_above else {}
    lower = {"warning": leave.warning_lower, "critical": leave.critical_lower}
    if bad_below and not bad_above:
        lower = {band: level if level is not None else getattr(leave, band) for band, level in lower.items()}
    return Levels(tuple(extents), bool(thresholds.good), _given(upper), _given(lower) if bad_below else {})


def _given(levels: dict[str, float | None]) -> dict[str, float]:
    return {band: level for band, level in levels.items() if level is not None}
