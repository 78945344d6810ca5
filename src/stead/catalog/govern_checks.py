"""What can be wrong with a governed setting beyond its shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import inf

from stead.documents import did_you_mean
from stead.model.catalog import GovernTemplate, SettingTemplate

Wrong = tuple[tuple[str | int, ...], str, str, str]  # place in the setting, what, what to do, code


def check_govern(setting: SettingTemplate, rule: GovernTemplate, metrics: Collection[str]) -> Iterator[Wrong]:
    """Everything that is wrong with a setting's `govern`, each with its place within the setting."""
    for key, metric in (("metric", rule.metric), ("used_metric", rule.used_metric)):
        if (metric or key == "metric") and metric not in metrics:
            what = f"settings: govern names an unknown metric {metric}"
            yield ("govern", key), what, did_you_mean(metric, metrics), "catalog.dangling"
    if rule.field not in setting.state:
        what = f"settings: govern moves {rule.field}, and the state gives it no first value"
        yield ("govern", "field"), what, f"add {rule.field} to the state", "catalog.govern"
    lines = setting.state.get(rule.field)
    if rule.field in setting.state and (
        isinstance(lines, list) != bool(rule.keys) or not all(_moves(lines, k) for k in rule.keys)
    ):
        what = f"settings: {rule.field} has no number that {', '.join(rule.keys) or 'govern'} could move"
        fix = "give `keys` for a field of lines, and only then: those that each line has with a number"
        yield ("govern", "keys"), what, fix, "catalog.govern"
    if setting.lease_s is None:
        what, fix = (
            f"settings: {rule.field} is governed without a lease",
            "give lease_s, which is renewed while its reason stands",
        )
        yield ("govern",), what, fix, "catalog.govern"
    low, high = rule.low, rule.high
    if isinstance(low, int | float) and isinstance(high, int | float) and not 0 <= low < high < inf:
        what = f"settings: {rule.field} is governed from {low:g} to {high:g}, which is no range"
        yield ("govern", "low"), what, "give 0 ≤ low < high: less is tighter", "catalog.govern"
    for key, value, most in _numbers(rule):
        if value is not None and not 0 < value <= most:
            yield ("govern", key), f"settings: {key} of a governed {rule.field} is {value:g}", _bounds(most), "catalog.govern"


def _moves(lines: object, key: str) -> bool:
    """Has each line this key with a number?"""
    each = [str(line).split() for line in lines] if isinstance(lines, list | tuple) else []
    return bool(each) and all(
        any(part.startswith(f"{key}=") and part[len(key) + 1 :].isdigit() for part in line) for line in each
    )


def _numbers(rule: GovernTemplate) -> Iterator[tuple[str, float | None, float]]:
    """Each number with the most that it may be."""
    yield "level", rule.level, inf
    yield "interval_s", rule.interval_s, 3600
    yield "tighten", rule.tighten, 0.5
    yield "loosen", rule.loosen, 4
    yield "dead_band", rule.dead_band, 0.9
    yield "hold_off_s", rule.hold_off_s, 3600
    yield "hold_off_max_s", rule.hold_off_max_s, 86400
    yield "used_times", rule.used_times, inf


def _bounds(most: float) -> str:
    return "give a number above 0" + ("" if most == inf else f", at most {most:g}")
