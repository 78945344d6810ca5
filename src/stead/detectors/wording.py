"""How a finding reads: its title from the catalogue's template, or one plain sentence, with numbers as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stead.model.catalog import MetricCatalogEntry

_SUFFIX: Final = {
    "percent": " %",
    "seconds": " s",
    "milliseconds": " ms",
    "hours": " h",
    "cores": " cores",
    "processes": " processes",
    "bytes_per_second": "/s",
    "per_second": " a second",
    "requests_per_second": " requests a second",
    "count_per_5m": " in 5 min",
}
_COUNTED: Final = frozenset(("count", "count_per_5m", "processes", "bool", "bytes"))
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Fields(dict[str, str]):
    """A template's fields; one that is not known reads as a question mark."""

    def __missing__(self, key: str) -> str:
        """Stand in for what is not known."""
        return "?"


def number(value: float, unit: str = "") -> str:
    """Three digits or so: 0.97, 1.0, 12.3, 350; what is counted, and comes out even, has no fraction."""
    if unit in _COUNTED and value == int(value):
        return f"{value:.0f}"
    size = abs(value)
    if size >= 100 or (size >= 10 and value == int(value)):
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if 0 < size < 0.01:
        return f"{value:.2g}"
    text = f"{value:.2f}"
    return text[:-1] if text.endswith("0") else text


def quantity(value: float, unit: str) -> str:
    """A number with its unit: `92 %`, `1.5 GiB`, `0.02`."""
    if unit in ("bytes", "bytes_per_second"):
        power = 0
        while abs(value) >= 1024 and power < len(_BYTES) - 1:
            value, power = value / 1024, power + 1
        return f"{number(value)} {_BYTES[power]}{_SUFFIX.get(unit, '')}"
    return number(value, unit) + _SUFFIX.get(unit, "")


def duration(seconds: float) -> str:
    """A stretch of time: `30 s`, `5 min`, `2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def title(
    entry: MetricCatalogEntry,
    subject: str,
    band: str,
    value: float | None,
    threshold: float | None,
    lasted_s: float,
    labels: Mapping[str, str],
    reason: str = "",
) -> str:
    """The finding's title. A template that can't be filled gives way to the plain sentence."""
    if value is None:
        return (
            f"{entry.title or entry.metric_id}{_of(subject)} reads nothing, which counts as {band}: {reason or 'no reason given'}"
        )
    if entry.finding:
        known = {**labels, "subject": subject, "metric": entry.metric_id, "unit": entry.unit, "band": band}
        known |= {"value": number(value, entry.unit), "quantity": quantity(value, entry.unit), "for": duration(lasted_s)}
        known["threshold"] = quantity(threshold, entry.unit) if threshold is not None else "?"
        known["reason"] = reason or "no reason given"
        known.setdefault("name", subject.partition(":")[2] or subject)
        try:
            return entry.finding.format_map(Fields(known))
        except (ValueError, IndexError, AttributeError, KeyError, TypeError):
            pass  # a template with a stray brace still has to say what is wrong
    words = f"{entry.title or entry.metric_id}{_of(subject, labels)} is {quantity(value, entry.unit)}"
    if lasted_s >= 1:
        words += f" for {duration(lasted_s)}"
    return words if threshold is None else f"{words} ({band} at {quantity(threshold, entry.unit)})"


def _of(subject: str, labels: Mapping[str, str] | None = None) -> str:
    if subject == "host":
        return ""
    if labels and "process" in labels:
        return f" of {labels['process']} (pid {labels.get('pid', '?')})"
    return f" of {subject.partition(':')[2] or subject}"
