"""What a governed setting becomes when it is planned: its range, its start, and when it can't be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.wanted import LEASE_S, is_whole, resolved
from stead.model.catalog import GovernTemplate, PlaybookDefinition, SettingTemplate, StateChange
from stead.model.change import Proposal, Target
from stead.model.find import Finding
from stead.model.policy import Policy
from stead.testing import FakeHost
from tests.flow.kit import NOW, POLICY_ACTOR, Dial, Dials, counter

FINDING = Finding("f1", "band|m|dial:a", "band", "m", "dial:a", "warning", "Hot", 2.0, 1.0, "cores", 1, 2, 3)


async def planned(
    tmp_path: Path, present: int | None, start: Any = 60, latest: dict[str, float] | None = None, **more: Any
) -> Proposal:
    fields: dict[str, Any] = {"field": "level", "metric": "m", "level": 5.0, "low": 10, "high": 90, **more}
    template = SettingTemplate("dial", {"level": start, "colour": "red"}, govern=GovernTemplate(**fields))
    wish = Wish(
        PlaybookDefinition("turn", settings=(template,)), FINDING, POLICY_ACTOR, (BoundSetting(template, Target("dial", "a")),)
    )
    known = latest or {}
    dials = Dials(a=Dial(present, "blue"))
    return await plan(
        wish, {"dial": dials}, FakeHost(tmp_path), lambda m, s: known.get(f"{m} {s}"), Policy(), NOW, counter(), "c1"
    )


async def test_the_range_and_the_law_are_part_of_the_step_and_it_has_a_lease(tmp_path: Path) -> None:
    made = await planned(tmp_path, 100, subject="subject", used_metric="u", interval_s=7.0)
    rule = made.steps[0].govern
    assert rule is not None and (rule.low, rule.high, rule.law, rule.interval_s) == (10, 90, "aimd", 7.0)
    assert (rule.subject, rule.used_subject) == ("dial:a", "dial:a") and made.steps[0].lease_s == LEASE_S
    assert made.steps[0].want == {"level": 60, "colour": "red"}


async def test_a_law_brings_its_own_values_where_the_catalogue_says_nothing(tmp_path: Path) -> None:
    rule = (await planned(tmp_path, 100, law="senpai")).steps[0].govern
    assert rule is not None and (rule.interval_s, rule.tighten, rule.loosen) == (6.0, 0.005, 0.5) and rule.used_subject == ""


async def test_the_ends_may_follow_a_metric_or_the_present(tmp_path: Path) -> None:
    high = StateChange(from_metric="cores", multiply=100.0, at_least=20)
    made = await planned(tmp_path, 1000, low=StateChange(multiply=0.03), high=high, latest={"cores dial:a": 1.5})
    rule = made.steps[0].govern
    assert rule is not None and (rule.low, rule.high) == (30, 150)
    unknown = await planned(tmp_path, 1000, high=high)
    assert unknown.steps == () and "cores of dial:a is unknown" in unknown.impossible


async def test_it_never_becomes_looser_than_the_limit_that_is_there_already(tmp_path: Path) -> None:
    made = await planned(tmp_path, 50, start=70)
    rule = made.steps[0].govern if made.steps else None
    assert rule is None, "the start is where it is already: another's limit"
    assert "by another's hand already" in made.impossible
    made = await planned(tmp_path, 50, start=30)
    rule = made.steps[0].govern
    assert rule is not None and rule.high == 50


async def test_the_ends_of_a_whole_number_are_whole(tmp_path: Path) -> None:
    rule = (await planned(tmp_path, 1000, low=1.4, high=90.6)).steps[0].govern
    assert rule is not None and (rule.low, rule.high) == (2, 90)


@pytest.mark.parametrize(("start", "first"), [(500, 90), (1, 10), (60, 60)])
async def test_it_starts_inside_its_range(tmp_path: Path, start: int, first: int) -> None:
    (step,) = (await planned(tmp_path, 1000, start=start)).steps
    assert step.want is not None and step.want["level"] == first


@pytest.mark.parametrize(
    ("more", "why"),
    [({"low": 90}, "that is no range"), ({"start": "red"}, "no number to start with"), ({"present": 10}, "that is no range")],
)
async def test_what_can_not_be_governed_is_said(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    made = await planned(tmp_path, **{"present": 100, **more})
    assert made.steps == () and why in made.impossible


async def test_what_a_profile_leaves_alone_is_not_governed(tmp_path: Path) -> None:
    (step,) = (await planned(tmp_path, 100, start=None)).steps
    assert step.govern is None and step.want == {"colour": "red"}


def test_whole_numbers_are_rounded_up_and_others_left() -> None:
    half = StateChange(multiply=0.5)
    assert resolved("level", half, 5, "s", lambda m, s: None) == 3
    assert resolved("level", half, 5.0, "s", lambda m, s: None) == 2.5
    assert resolved("level", half, 5, "s", lambda m, s: None, whole=False) == 2.5
    assert is_whole(Dial, "level") is True and is_whole(Dial, "colour") is None and is_whole(Dial, "none") is None
