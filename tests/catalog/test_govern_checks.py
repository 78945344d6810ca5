from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stead.catalog.govern_checks import check_govern
from stead.model.catalog import GovernTemplate, SettingTemplate, StateChange

RULE = GovernTemplate("cpu_max_percent", "m", 5.0, 10.0, 200.0)
SETTING = SettingTemplate("limit", {"cpu_max_percent": 70}, lease_s=600.0, govern=RULE)


def wrong(setting: SettingTemplate = SETTING, **more: Any) -> list[tuple[str, str]]:
    rule = msgspec.structs.replace(RULE, **more)
    return [(".".join(map(str, place)), code) for place, _, _, code in check_govern(setting, rule, {"m", "u"})]


def test_a_good_one_has_nothing_wrong() -> None:
    assert wrong() == []
    assert wrong(low=StateChange(multiply=0.5), high=StateChange(from_metric="u", multiply=100.0), used_metric="u") == []


@pytest.mark.parametrize(
    ("more", "place", "code"),
    [
        ({"metric": "n"}, "govern.metric", "catalog.dangling"),
        ({"used_metric": "n"}, "govern.used_metric", "catalog.dangling"),
        ({"field": "cpu_weight"}, "govern.field", "catalog.govern"),
        ({"low": 200.0}, "govern.low", "catalog.govern"),
        ({"low": -1.0}, "govern.low", "catalog.govern"),
        ({"level": 0.0}, "govern.level", "catalog.govern"),
        ({"interval_s": 0.0}, "govern.interval_s", "catalog.govern"),
        ({"tighten": 0.9}, "govern.tighten", "catalog.govern"),
        ({"dead_band": 1.0}, "govern.dead_band", "catalog.govern"),
        ({"hold_off_max_s": float("nan")}, "govern.hold_off_max_s", "catalog.govern"),
    ],
)
def test_what_is_wrong_is_found_at_its_place(more: dict[str, Any], place: str, code: str) -> None:
    assert wrong(**more) == [(place, code)]


LINES = {"io_max": ["* rbps=1000 wbps=2000"]}


@pytest.mark.parametrize(
    ("state", "keys", "good"),
    [
        (LINES, ("rbps", "wbps"), True),
        (LINES, (), False),
        (LINES, ("riops",), False),
        ({"io_max": ["* rbps=1000", "8:0 wbps=1000"]}, ("rbps",), False),
        ({"io_max": []}, ("rbps",), False),
        ({"io_max": 70}, ("rbps",), False),
    ],
)
def test_of_lines_the_keys_are_named_and_are_there(state: dict[str, Any], keys: tuple[str, ...], good: bool) -> None:
    setting = msgspec.structs.replace(SETTING, state=state)
    assert wrong(setting, field="io_max", keys=keys) == ([] if good else [("govern.keys", "catalog.govern")])


def test_a_governed_setting_needs_a_lease() -> None:
    assert wrong(msgspec.structs.replace(SETTING, lease_s=None)) == [("govern", "catalog.govern")]
