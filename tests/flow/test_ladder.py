"""Rungs: what could not be done leaves the way to the next, what would wait for a person is left out, an end is always asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead.flow.decide import decide
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Step, Target
from stead.model.policy import Match, Policy, Rule
from stead.testing import FakeHost
from tests.flow import test_decide
from tests.flow.kit import NOW, POLICY_ACTOR, Dial, Dials, counter
from tests.flow.test_propose import catalog, context, names, playbook, run, target_of, why

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
