from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.record import plan_hash
from stead.model.catalog import PlaybookDefinition, Predict, SettingTemplate, StateChange, Verify
from stead.model.change import Proposal, Target
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.policy import Policy
from stead.testing import FakeHost
from tests.flow.kit import NOW, POLICY_ACTOR, Dial, Dials, counter

FINDING = Finding("f1", "band|m|dial:a", "band", "m", "dial:a", "warning", "Hot", 2.0, 1.0, "cores", 1, 2, 3)


def wish(state: dict[str, Any], names: str = "a", lease_s: float | None = 60.0, actuator: str = "dial", **more: Any) -> Wish:
    templates = tuple(SettingTemplate(actuator, state, lease_s=lease_s) for _ in names)
    bound = tuple(BoundSetting(t, Target("dial", n, {"life": "1"})) for t, n in zip(templates, names, strict=True))
    playbook = PlaybookDefinition("turn", tier=1, settings=templates, **more)
    return Wish(playbook, FINDING, POLICY_ACTOR, bound)


async def planned(tmp_path: Path, one: Wish, dials: Dials, latest: dict[str, float] | None = None, **more: Any) -> Proposal:
    known = latest or {}
    return await plan(
        one, {"dial": dials}, FakeHost(tmp_path), lambda m, s: known.get(f"{m} {s}"), Policy(), NOW, counter(), "c1", **more
    )


async def test_a_dry_run_reads_and_never_writes(tmp_path: Path) -> None:
    dials = Dials(a=Dial(1, "red"), b=Dial(9))
    predict = Predict("infra.delay", "down", 0.3)
    made = await planned(
        tmp_path,
        wish({"level": 9}, "ab", predict=predict, verify=Verify(30.0, 2)),
        dials,
        {"infra.delay dial:a": 0.8},
    )
    (step,) = made.steps  # b is so already
    assert step.diff == {"level": (1, 9)} and step.lease_s == 60.0 and not made.impossible
    assert made.plan_hash == plan_hash(made.steps) and made.catalog_version == "c1"
    assert made.prediction is not None and made.prediction.baseline == 0.8 and made.prediction.subject == "dial:a"
    assert (made.verify_s, made.good_readings, made.finding_id) == (30.0, 2, "f1")
    assert dials.writes == []


async def test_the_baseline_is_the_mean_over_the_time_before(tmp_path: Path) -> None:
    asked = []

    def mean(metric: str, subject: str, seconds: float) -> float:
        asked.append((metric, subject, seconds))
        return 0.5

    one = wish({"level": 9}, predict=Predict("infra.delay", "down", 0.3, within_s=30.0, subject="host"))
    made = await planned(tmp_path, one, Dials(a=Dial(1)), mean=mean)
    assert made.prediction is not None and made.prediction.baseline == 0.5 and asked == [("infra.delay", "host", 30.0)]


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (StateChange(add=2), 6),
        (StateChange(multiply=1.6), 7),
        (StateChange(add=-9, at_least=0), 0),
        (StateChange(multiply=10, at_most_times=2), 8),
        (StateChange(add=9, at_most=11), 11),
        (StateChange(from_metric="wanted", at_most_times=2), 8),
        (StateChange(from_metric="few"), 3),
    ],
)
async def test_relative_values_round_up_within_their_bounds(tmp_path: Path, change: StateChange, level: int) -> None:
    latest = {"wanted dial:a": 40.0, "few dial:a": 2.1}
    made = await planned(tmp_path, wish({"level": change}), Dials(a=Dial(4)), latest)
    assert made.steps[0].want == {"level": level}


@pytest.mark.parametrize(
    ("one", "dials", "why"),
    [
        (wish({"level": 1}), Dials(a=Dial(1)), "already so"),
        (wish({"level": 9}), Dials(), "gone: dial:a"),
        (wish({"level": 9}, unsupported="a balancer"), Dials(a=Dial(1)), "unsupported: a balancer"),
        (wish({"level": 9}, actuator="lever"), Dials(a=Dial(1)), "unsupported: the actuator lever"),
        (wish({"level": StateChange(from_metric="gone")}), Dials(a=Dial(1)), "gone of dial:a is unknown"),
        (wish({"level": StateChange(add=1)}), Dials(a=Dial()), "level is unknown now"),
        (wish({"level": "much"}), Dials(a=Dial(1)), "dial can't be set so"),
        (wish({"levle": 9}), Dials(a=Dial(1)), "unsupported: dial has no levle"),
    ],
)
async def test_what_can_not_be_planned_says_why_and_has_no_steps(tmp_path: Path, one: Wish, dials: Dials, why: str) -> None:
    made = await planned(tmp_path, one, dials)
    assert made.impossible.startswith(why) and made.steps == () and made.prediction is None


async def test_one_impossible_step_makes_the_whole_impossible(tmp_path: Path) -> None:
    made = await planned(tmp_path, wish({"level": 9}, "ab"), Dials(a=Dial(1)))
    assert made.impossible == "gone: dial:b is not there any more" and made.steps == ()


async def test_what_an_actuator_refuses_or_breaks_on(tmp_path: Path) -> None:
    class Refusing(Dials):
        def plan(self, *arguments: Any) -> Any:
            raise SteadError("not this one", "dial:a", "leave it")

    class Broken(Dials):
        async def read(self, *arguments: Any) -> Any:
            raise ZeroDivisionError

    assert "not this one" in (await planned(tmp_path, wish({"level": 9}), Refusing(a=Dial(1)))).impossible
    unreadable = (await planned(tmp_path, wish({"level": 9}), Broken(a=Dial(1)))).impossible
    assert unreadable.startswith("unreadable now: ") and "could not be read" in unreadable


async def test_what_can_not_be_put_back_is_not_lent(tmp_path: Path) -> None:
    class OneWay(Dials):
        def plan(self, *arguments: Any) -> Any:
            import msgspec

            return msgspec.structs.replace(super().plan(*arguments), undo="none", undo_reason="one way")

    made = await planned(tmp_path, wish({"level": 9}), OneWay(a=Dial(1)))
    assert made.steps[0].undo == "none" and made.steps[0].lease_s is None


def many(names: str, **more: Any) -> Wish:
    one = wish({"level": 9}, names, **more)
    return msgspec.structs.replace(one, settings=tuple(msgspec.structs.replace(each, one_of=True) for each in one.settings))


async def test_of_many_those_that_can_not_be_made_are_left_out(tmp_path: Path) -> None:
    made = await planned(tmp_path, many("axb"), Dials(a=Dial(1), b=Dial(2)))
    assert [step.target.name for step in made.steps] == ["a", "b"] and not made.impossible
    gone = await planned(tmp_path, many("x"), Dials(a=Dial(1)))
    assert gone.impossible.startswith("gone: none of those that were found can be changed now: gone: dial:x")


async def test_what_is_predicted_may_follow_from_the_steps(tmp_path: Path) -> None:
    one = many("ab", predict=Predict("disk.available_bytes", "up", 0.5, of_steps="life", relative=False))
    made = await planned(tmp_path, one, Dials(a=Dial(1), b=Dial(2)))
    assert made.prediction is not None and made.prediction.at_least == 1.0 and not made.prediction.relative


@pytest.mark.parametrize(("known", "at_least", "relative"), [({"m.part dial:a": 20.0}, 8.0, False), ({}, 0.4, True)])
async def test_what_is_predicted_may_be_a_share_of_what_is_put_down_to_the_subject(
    tmp_path: Path, known: dict[str, float], at_least: float, relative: bool
) -> None:
    one = wish({"level": 9}, predict=Predict("m.lost", "down", 0.4, subject="host", of_metric="m.part"))
    made = await planned(tmp_path, one, Dials(a=Dial(1)), {"m.lost host": 60.0, **known})
    assert made.prediction is not None
    assert (made.prediction.at_least, made.prediction.relative, made.prediction.baseline) == (at_least, relative, 60.0)
