"""What a setting of a playbook wants, made absolute: values relative to the present or to a metric, and a governed range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from stead.control.laws import LAWS
from stead.flow.govern_state import least_of, with_number
from stead.model.catalog import GovernTemplate, SettingTemplate, StateChange
from stead.model.change import Govern
from stead.protocols import Latest

LEASE_S: Final = 600.0  # of a governed setting that says nothing


class ImpossibleError(Exception):
    """Why a wish can't be planned."""


def wanted(
    template: SettingTemplate, present: Mapping[str, Any], state: type[msgspec.Struct], subject: str, latest: Latest
) -> dict[str, Any]:
    """The wanted fields as plain values. `present` is what they are; `subject` is whom a metric is asked of."""
    return {
        name: resolved(name, value, present.get(name), subject, latest, is_whole(state, name))
        for name, value in template.state.items()
    }


def resolved(name: str, value: Any, present: Any, subject: str, latest: Latest, whole: bool | None = None) -> Any:
    """A wanted value, made absolute where it is relative to the present one or to a metric.

    `whole`: it is rounded up; None: if the present one is whole.
    """
    if not isinstance(value, StateChange):
        return value
    base = _based(name, value, present, subject, latest)
    if value.at_most_times is not None and _number(present):
        base = min(base, present * value.at_most_times)
    if value.at_least_times is not None and _number(present):
        base = max(base, present * value.at_least_times)
    if value.at_most is not None:
        base = min(base, value.at_most)
    if value.at_least is not None:
        base = max(base, value.at_least)
    if whole is None:
        whole = isinstance(present, int) or (present is None and float(base).is_integer())
    return math.ceil(base) if whole else base


def governed(
    rule: GovernTemplate,
    values: Mapping[str, Any],
    present: Mapping[str, Any],
    state: type[msgspec.Struct],
    subject: str,
    latest: Latest,
) -> Govern:
    """The range and the law of a governed field. Never looser than a limit that is there already.

    Raises ImpossibleError where a metric that the range follows is unknown, or nothing is left of the range.
    """
    name, now = rule.field, present.get(rule.field)
    low, high = (float(resolved(name, end, now, subject, latest)) for end in (rule.low, rule.high))
    held = least_of(now, rule.keys)
    if held is not None:
        high = min(high, held)
    if is_whole(state, name):
        low, high = float(math.ceil(low)), float(math.floor(high))
    if not low < high:
        raise ImpossibleError(f"{name} can't be moved between {low:g} and {high:g}: that is no range")
    if least_of(values.get(name), rule.keys) is None:
        raise ImpossibleError(f"{name} is governed, and has no number to start with")
    own = dict(LAWS[rule.law].own)
    for key in ("interval_s", "tighten", "loosen", "dead_band", "hold_off_s", "hold_off_max_s"):
        given = getattr(rule, key)
        if given is not None:
            own[key] = given
    used = subject if rule.used_subject == "subject" else rule.used_subject
    return Govern(
        name,
        rule.metric,
        subject if rule.subject == "subject" else rule.subject,
        rule.level,
        low,
        high,
        rule.law,
        used_metric=rule.used_metric,
        used_subject=used if rule.used_metric else "",
        used_times=rule.used_times,
        keys=rule.keys,
        **own,
    )


def started(rule: Govern, values: Mapping[str, Any]) -> dict[str, Any]:
    """The wanted fields, with the governed one inside its range."""
    value = values[rule.field]
    clipped = max(rule.low, min(rule.high, least_of(value, rule.keys) or 0.0))
    return {**values, rule.field: with_number(value, rule.keys, math.ceil(clipped) if isinstance(value, int) else clipped)}


def raised(rule: Govern, values: Mapping[str, Any], least: float | None) -> dict[str, Any]:
    """The wanted fields, with a value that holds one for the sake of others at no less than what it can be held to by now.

    Law `senpai` looks for what one can do without: there too little stays too little. Raises ImpossibleError beyond the range.
    """
    value = values[rule.field]
    if least is None or rule.law != "aimd" or value >= least:
        return dict(values)
    if least > rule.high:
        raise ImpossibleError(f"{rule.field} would have to be {least:.0f} by now, and shall be {rule.high:.0f} at most")
    return {**values, rule.field: math.ceil(least) if isinstance(value, int) else least}


def is_whole(state: type[msgspec.Struct], name: str) -> bool | None:
    """Does a field take whole numbers only? None where it takes no numbers at all, or there is no such field."""
    kinds = next((set(get_args(one.type) or (one.type,)) for one in msgspec.structs.fields(state) if one.name == name), set())
    if float in kinds:
        return False
    return True if int in kinds else None


def _based(name: str, change: StateChange, present: Any, subject: str, latest: Latest) -> float:
    if change.from_metric:
        found = latest(change.from_metric, subject)
        if found is None:
            raise ImpossibleError(f"{change.from_metric} of {subject} is unknown, and {name} follows it")
        return found * (1.0 if change.multiply is None else change.multiply)
    if not _number(present):
        raise ImpossibleError(f"{name} is unknown now, so it can't be changed relative to that")
    return float(present) * (1.0 if change.multiply is None else change.multiply) + (change.add or 0.0)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
