"""The shape of the original catalogues, brought into stead's: their units, aggregations, bands and playbooks.

An original playbook lists steps of another system, which stead can't run. Where stead has a playbook of that id, the
file's title, description, risk and tier are laid over it; any other loads as unsupported and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

UNITS: Final = {
    "%": "percent",
    "percentage": "percent",
    "pct": "percent",
    "ms": "milliseconds",
    "millisecond": "milliseconds",
    "s": "seconds",
    "sec": "seconds",
    "second": "seconds",
    "h": "hours",
    "req/s": "requests_per_second",
    "req/sec": "requests_per_second",
    "rps": "requests_per_second",
    "requests/s": "requests_per_second",
    "requests/sec": "requests_per_second",
    "requests/second": "requests_per_second",
    "/s": "per_second",
    "B": "bytes",
    "B/s": "bytes_per_second",
    "bytes/s": "bytes_per_second",
    "count/5m": "count_per_5m",
    "count/5 m": "count_per_5m",
    "count/5min": "count_per_5m",
    "fraction": "ratio",
    "boolean": "bool",
    "items": "count",
    "tasks": "count",
    "events": "count",
}
_AGGREGATIONS: Final = {"mean": "avg", "average": "avg", "maximum": "max", "minimum": "min", "count": "sum", "total": "sum"}
_AGGREGATIONS_MORE: Final = {"latest": "last", "gauge": "last", "current": "last", "p95_over_window": "p95"}
_FOREIGN: Final = frozenset(("steps", "actions", "autonomy_tier", "risk_level", "requires_approval", "name"))
_RISKS: Final = frozenset(("low", "medium", "high", "critical"))
FOREIGN_STEPS: Final = "steps of another system"


def metric(raw: Any) -> Any:
    """A metric in stead's spelling. What is not understood stays as it is, so that it is reported."""
    if not isinstance(raw, dict):
        return raw
    made = dict(raw)
    if isinstance(unit := made.get("unit"), str):
        made["unit"] = UNITS.get(unit, UNITS.get(unit.lower(), unit))
    if isinstance(how := made.get("aggregation"), str):
        made["aggregation"] = _AGGREGATIONS.get(how, _AGGREGATIONS_MORE.get(how, how))
    if isinstance(bands := made.get("thresholds"), dict):
        made["thresholds"] = {band: [ends] if isinstance(ends, dict) else ends for band, ends in bands.items()}
    return {key: value for key, value in made.items() if value is not None}


def is_foreign(raw: Any) -> bool:
    """Is this a playbook in the original shape?"""
    return isinstance(raw, dict) and bool(_FOREIGN & raw.keys()) and not {"settings", "unsupported"} & raw.keys()


def playbook(raw: Mapping[str, Any]) -> dict[str, Any]:
    """An original playbook in stead's spelling, without what only its own system understands."""
    made: dict[str, Any] = {"playbook_id": raw.get("playbook_id", raw.get("id", raw.get("name")))}
    title = raw.get("title", raw.get("name"))
    if isinstance(title, str):
        made["title"] = title
    if isinstance(raw.get("description"), str):
        made["description"] = raw["description"]
    risk = raw.get("risk", raw.get("risk_level"))
    if risk is not None:
        made["risk"] = risk.lower() if isinstance(risk, str) and risk.lower() in _RISKS else risk
    tier = _tier(raw.get("tier", raw.get("autonomy_tier")))
    if raw.get("requires_approval") is True and (tier is None or (isinstance(tier, int) and tier < 3)):
        tier = 3
    if tier is not None:
        made["tier"] = tier
    if isinstance(raw.get("tags"), list):
        made["tags"] = raw["tags"]
    return made


def laid_over(original: Mapping[str, Any], under: Mapping[str, Any] | None) -> dict[str, Any]:
    """An original playbook over stead's own of that id, if there is one."""
    if under is None:
        return {**original, "unsupported": FOREIGN_STEPS}
    return {**under, **original}


def _tier(value: Any) -> Any:
    """Read 2, "2" and "tier_2" as 2."""
    if isinstance(value, str) and value.lower().removeprefix("tier_").removeprefix("tier").strip().isdigit():
        return int(value.lower().removeprefix("tier_").removeprefix("tier"))
    return value
