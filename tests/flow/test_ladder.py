"""Rungs: what could not be done leaves the way to the next, what would wait for a person is left out, an end is always asked."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stead.flow.decide import decide
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.model.catalog import MetricCatalogEntry, PlaybookDefinition, SettingTemplate
from stead.model.change import Step, Target
from stead.model.policy import Match, Policy, Rule
from stead.testing import FakeHost
from tests.flow import test_decide
from tests.flow.kit import NOW, POLICY_ACTOR, Dial, Dials, counter
from tests.flow.test_propose import catalog, consider, context, finding, names, playbook, run, target_of, why

HOG = Target("process", "4711", {"start_ticks": "567890", "boot_id": "b"})


def test_a_group_is_named_with_the_tree_that_its_identity_is_from() -> None:
    for subject, path, inode in (
        ("cgroup:/a@b.slice/c@6012", "/a@b.slice/c", "6012"),
        ("cgroup:/hog@memory.31", "/hog", "memory.31"),
    ):
        assert target_of(subject, context()) == Target("cgroup", path, {"id": inode, "boot_id": "boot"})
    for subject in ("cgroup:/hog", "cgroup:@31", "cgroup:/hog@memory.", "cgroup:/hog@x"):
        assert target_of(subject, context()) == f"the identity of {subject} is not known"


def test_what_could_not_be_done_leaves_the_way_to_the_next_while_it_cools_down() -> None:
    book = catalog(playbook("reclaim"), playbook("hold"))
    assert names(book, context(recent=(run("reclaim", "failed", ago_s=1),))) == ["hold"]
    assert names(book, context(recent=(run("reclaim", "undone", ago_s=1),))) == []


def test_a_rung_that_would_wait_for_a_person_is_left_out_where_it_says_so() -> None:
    book = catalog(playbook("reclaim", tier=2, unasked=True), playbook("hold", tier=1))
    assert names(book, context(ceiling=1)) == ["hold"]
    assert names(book, context(ceiling=2)) == ["reclaim"]
    assert "tier 2 under a ceiling of 0" in why(catalog(playbook("reclaim", tier=2, unasked=True)), context(ceiling=0))
    assert names(catalog(playbook("ask", tier=3)), context(ceiling=0)) == ["ask"]


async def test_a_playbook_may_want_a_thing_to_be_gone(tmp_path: Path) -> None:
    template = SettingTemplate("dial", absent=True)
    dial = Target("dial", "a", {"life": "1"})
    one = Wish(PlaybookDefinition("end", settings=(template,)), None, POLICY_ACTOR, (BoundSetting(template, dial),))
    made = await plan(one, {"dial": Dials(a=Dial(3))}, FakeHost(tmp_path), lambda m, s: None, Policy(), NOW, counter(), "c1")
    assert "a dial can't be absent" in made.impossible  # it was asked for just that


@pytest.mark.parametrize("tier", [1, 2])
def test_the_end_of_a_process_is_asked_whatever_the_tier_and_the_rules(tier: int) -> None:
    end = Step("process", HOG, {"name": "leaker"}, None, "none", "gone is gone", note="ends leaker")
    answered = decide(test_decide.calm(end, tier=tier), Policy((Rule("all", "allow"),)), test_decide.context(ceiling=2), NOW)
    assert (answered.answer, answered.approvals_needed) == ("ask", 1)
    assert "ending a process is always asked: ends leaker" in answered.reasons


def test_what_a_step_calls_its_target_counts_for_protection_and_for_rules() -> None:
    def answer(name: str, *rules: Rule) -> str:
        end = Step("process", HOG, {"name": name}, None, "none", "gone is gone", labels={"process": name})
        proposed = test_decide.calm(end, labels={"group": "/batch"})
        return decide(proposed, Policy((*rules, Rule("all", "allow"))), test_decide.context(ceiling=2), NOW).answer

    assert answer("leaker") == "ask"
    assert answer("sshd") == "deny"
    assert answer("leaker", Rule("mine", "deny", Match(target=("process:leaker",)))) == "deny"


LEAK = Target("cgroup", "/batch", {"id": "31", "boot_id": "boot"})


def holding(state: dict[str, object], before: dict[str, object], **more: object) -> Step:
    return Step("limit", LEAK, before, state, "exact", owns=tuple(state), **more)  # type: ignore[arg-type]


def test_two_limits_of_one_group_that_are_different_fields_do_not_fight() -> None:
    high, frozen = holding({"memory_high_bytes": 1}, {"memory_high_bytes": "max"}), holding({"frozen": True}, {"frozen": False})
    idle = holding({"cpu_idle": True}, {"cpu_idle": False, "cpu_weight": 100})
    weight = holding({"cpu_weight": 10}, {"cpu_weight": 100})
    assert not high.fights(frozen) and not high.fights(idle) and high.fights(high)
    assert idle.fights(weight) and weight.fights(idle), "what was idle comes back with its weight"
    assert high.fights(Step("limit", LEAK, {}, {}, "exact")), "a step that does not say what it owns has all of it"
    assert not high.fights(Step("priority", LEAK, {}, {}, "exact"))


def limits(name: str, **state: object) -> PlaybookDefinition:
    return playbook(name, settings=(SettingTemplate("limit", state),))  # type: ignore[arg-type]


def test_what_is_held_for_its_cpu_can_still_be_frozen_for_its_memory() -> None:
    step = holding({"cpu_idle": True}, {"cpu_idle": False, "cpu_weight": 100})
    held = run("others-first", "held", proposal={"finding_id": "another"})
    held = msgspec.structs.replace(held, proposal=msgspec.structs.replace(held.proposal, steps=(step,)))
    group = finding(subject="cgroup:/batch@31")
    assert names(catalog(limits("freeze", frozen=True)), context(recent=(held,)), group) == ["freeze"]
    assert names(catalog(limits("weigh", cpu_weight=5)), context(recent=(held,)), group) == []


def test_of_two_rules_that_fight_over_one_value_the_second_is_refused_by_name() -> None:
    hold, save = limits("hold", memory_high_bytes=1), limits("save", memory_high_bytes=2)
    save = msgspec.structs.replace(save, answers=("m.idle",))
    book = catalog(hold, save)
    book = msgspec.structs.replace(book, metrics={**book.metrics, "m.idle": MetricCatalogEntry("m.idle", "m", "", "count")})
    both = (finding(subject="cgroup:/batch@31"), finding("m.idle", "cgroup:/batch@31", id="finding-2", fingerprint="2"))
    considered = consider(both, book, context(), NOW)
    assert [wish.playbook.playbook_id for wish in considered.wishes] == ["hold"]
    assert [skip.reason for skip in considered.skipped] == ["another finding's remedy changes the same thing now"]
    held = run("save", "held", proposal={"finding_id": "finding-2"})
    step = holding({"memory_high_bytes": 2}, {"memory_high_bytes": "max"})
    held = msgspec.structs.replace(held, proposal=msgspec.structs.replace(held.proposal, steps=(step,)))
    assert "save changes it now (held)" in why(book, context(recent=(held,)), both[0])
