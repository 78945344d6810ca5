from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.flow.decide import DecideContext, decide
from stead.model.change import Proposal, Step, Target
from stead.model.policy import Actor, Autonomy, Budget, Match, Policy, Rule, Window
from tests.flow.kit import ANN, NOW, proposal

ALLOW = Rule("all", "allow")
STRICT = {"allow": 0, "ask": 1, "deny": 2}


def hog(name: str = "4711", **more: Any) -> Step:
    target = Target("process", name, {"start_ticks": "567890", "boot_id": "b"})
    return Step(**{**dict(actuator="priority", target=target, before={"nice": 0}, want={"nice": 19}, undo="exact"), **more})


def calm(*steps: Step, **more: Any) -> Proposal:
    return proposal(steps or (hog(),), **{"playbook": "calm", "labels": {"process": "sh", "command": "sh -c x"}, **more})


def policy(*rules: Rule, **more: Any) -> Policy:
    return Policy(rules, version="p1", **more)


def context(mode: str = "act", ceiling: int = 1, **more: Any) -> DecideContext:
    autonomy = more.pop("autonomy", Autonomy(mode, {"host": ceiling}))  # type: ignore[arg-type]
    return DecideContext(autonomy, 1, **more)


def answer(proposed: Proposal, given_policy: Policy, given_context: DecideContext | None = None) -> str:
    return decide(proposed, given_policy, given_context or context(), NOW).answer


def test_an_allowed_reversible_change_acts_and_names_its_rule():
    made = decide(calm(), policy(Rule("calm-hogs", "allow", why="it can be put back")), context(), NOW)
    assert (made.answer, made.approvals_needed, made.advised) == ("allow", 0, False)
    assert made.rules == ("rule:calm-hogs", "tier:1 <= ceiling:1")
    assert made.reasons[0] == "it can be put back"
    assert (made.policy_version, made.at_ms, made.mode) == ("p1", NOW.unix_ms, "act")


def test_deny_wins_over_ask_over_allow():
    allow, ask, deny = Rule("a", "allow"), Rule("b", "ask"), Rule("c", "deny")
    assert answer(calm(), policy(allow)) == "allow"
    assert answer(calm(), policy(allow, ask)) == "ask"
    made = decide(calm(), policy(allow, deny, ask), context(), NOW)
    assert (made.answer, made.rules) == ("deny", ("rule:c",))


@pytest.mark.parametrize(("names", "expected"), [((), "ask"), (("*",), "ask"), (("file*",), "ask"), (("files",), "allow")])
def test_files_are_allowed_by_name_only(names, expected):
    step = Step("files", Target("file", "/tmp/a", {"mtime_ns": "1"}), {"place": "here"}, {"place": "quarantine"}, "exact")
    assert answer(calm(step), policy(Rule("open", "allow", Match(actuator=names)))) == expected
    mixed = calm(step, hog())
    assert answer(mixed, policy(Rule("open", "allow", Match(actuator=names)))) == "ask", "the other step is not meant by it"
    assert answer(calm(hog()), policy(Rule("open", "allow"))) == "allow"
    assert answer(calm(step), policy(Rule("shut", "deny"))) == "deny", "what shuts needs no name"


def test_what_no_rule_speaks_of_is_asked():
    made = decide(calm(), policy(), context(), NOW)
    assert (made.answer, made.rules, made.approvals_needed) == ("ask", ("rule:none",), 1)


@pytest.mark.parametrize(
    ("tier", "ceiling", "expected", "approvals"),
    [
        (1, 0, "ask", 1),
        (1, 1, "allow", 0),
        (1, 2, "allow", 0),
        (2, 1, "ask", 1),
        (2, 2, "allow", 0),
        (3, 2, "ask", 1),
        (3, 4, "ask", 1),
        (4, 2, "ask", 2),
        (4, 4, "ask", 2),
    ],
)
def test_tiers_and_ceilings(tier, ceiling, expected, approvals):
    made = decide(calm(tier=tier), policy(ALLOW), context(ceiling=ceiling), NOW)
    assert (made.answer, made.approvals_needed) == (expected, approvals)
    if tier > ceiling:
        assert f"tier:{tier} > ceiling:{ceiling}" in made.rules


def test_a_scopes_own_ceiling_counts_and_never_exceeds_the_hosts():
    lower = context(autonomy=Autonomy("act", {"host": 1, "db": 0}))
    assert answer(calm(scope="db"), policy(ALLOW), lower) == "ask"
    higher = context(autonomy=Autonomy("act", {"host": 0, "db": 2}))
    assert answer(calm(scope="db"), policy(ALLOW), higher) == "ask"


@pytest.mark.parametrize("undo", ["lossy", "none"])
def test_what_can_not_be_put_back_exactly_never_acts_at_tier_1(undo):
    step = hog(undo=undo, undo_reason="no CAP_SYS_NICE")
    made = decide(calm(hog("1234"), step), policy(ALLOW), context(ceiling=2), NOW)
    assert (made.answer, made.rules, made.approvals_needed) == ("ask", (f"undo:{undo}",), 1)
    assert "no CAP_SYS_NICE" in made.reasons[0]
    assert answer(calm(step, tier=2), policy(ALLOW), context(ceiling=2)) == "allow"


def test_tier_2_acts_alone_only_inside_its_window():
    night = Window("night", 60, cron="0 2 * * *")
    rules = policy(ALLOW, windows=(night,), tier2_window="night")
    asked = []
    inside = context(ceiling=2, in_window=lambda window, now: asked.append((window, now)) or True)
    assert answer(calm(tier=2), rules, inside) == "allow"
    assert asked == [(night, NOW)]
    outside = context(ceiling=2, in_window=lambda window, now: False)
    assert decide(calm(tier=2), rules, outside, NOW).rules == ("tier:2 outside window:night",)
    assert answer(calm(tier=1), rules, outside) == "allow"


def test_the_budget_holds_for_everybody():
    rules = policy(ALLOW, budget=Budget(actions_per_hour=6))
    assert answer(calm(), rules, context(actions_last_hour=5)) == "allow"
    for requester in (ANN, Actor("policy", "policy")):
        made = decide(calm(requester=requester), rules, context(actions_last_hour=6), NOW)
        assert (made.answer, made.rules, made.retry) == ("deny", ("budget:6/h",), True)
    assert answer(calm(), policy(ALLOW, budget=Budget(hosts_at_once=0))) == "deny"


def test_pause_and_lock():
    paused = decide(calm(), policy(ALLOW), context(autonomy=Autonomy("act", {"host": 2}, paused=True)), NOW)
    assert (paused.answer, paused.rules, paused.retry) == ("deny", ("paused",), True)
    locked = decide(calm(tier=4), policy(ALLOW), context(autonomy=Autonomy("act", {"host": 2}, locked=True)), NOW)
    assert (locked.answer, locked.rules, locked.approvals_needed) == ("ask", ("locked",), 2)


@pytest.mark.parametrize("mode", ["observe", "advise"])
def test_below_act_it_says_what_it_would_do(mode):
    made = decide(calm(), policy(ALLOW), context(mode), NOW)
    assert (made.advised, made.would, made.answer, made.approvals_needed) == (True, "allow", "deny", 0)
    assert made.rules == ("rule:all", "tier:1 <= ceiling:1", f"mode:{mode}")
    assert decide(calm(), policy(), context(mode), NOW).would == "ask"
    refused = decide(calm(), policy(Rule("no", "deny")), context(mode), NOW)
    assert (refused.answer, refused.advised) == ("deny", False)


def test_the_impossible_is_denied_with_its_reason():
    made = decide(calm(impossible="unsupported: no balancer driver"), policy(ALLOW), context(), NOW)
    assert (made.answer, made.rules, made.reasons) == ("deny", ("unsupported",), ("unsupported: no balancer driver",))
    assert made.retry is False


def test_approvals_count_when_it_is_decided_again():
    rules = policy(Rule("two", "ask", approvals=2))
    assert decide(calm(), rules, context(approvals=1), NOW).answer == "ask"
    made = decide(calm(), rules, context(approvals=2), NOW)
    assert (made.answer, made.rules) == ("allow", ("rule:two", "approvals:2"))
    assert answer(calm(), policy(Rule("no", "deny")), context(approvals=9)) == "deny"
    assert answer(calm(), rules, context(approvals=9, actions_last_hour=20)) == "deny"


def test_an_allow_must_fit_every_step_and_a_deny_one():
    both = calm(hog(), hog("99", actuator="service"))
    only = Match(actuator=("priority",))
    assert answer(both, policy(Rule("a", "allow", only))) == "ask"
    assert answer(both, policy(Rule("a", "allow", Match(actuator=("priority", "serv*"))))) == "allow"
    assert answer(both, policy(ALLOW, Rule("d", "deny", only))) == "deny"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(), True),
        (Match(playbook=("calm",)), True),
        (Match(playbook=("c*", "x")), True),
        (Match(playbook=("other",)), False),
        (Match(target=("process:4711",)), True),
        (Match(target=("sh",)), True),
        (Match(target=("process:s?",)), True),
        (Match(target=("bash",)), False),
        (Match(risk=("low",), tier=(1,)), True),
        (Match(risk=("low",), tier=(2,)), False),
        (Match(os=("linux",)), True),
        (Match(os=("darwin",)), False),
        (Match(labels={"env": "prod*"}), True),
        (Match(labels={"env": "dev"}), False),
        (Match(labels={"absent": "*"}), False),
        (Match(undo=("exact",)), True),
        (Match(undo=("none",)), False),
        (Match(min_confidence=0.7), True),
        (Match(min_confidence=0.71), False),
        (Match(max_confidence=0.7), True),
        (Match(max_confidence=0.69), False),
        (Match(min_trust=0.9), True),
        (Match(max_trust=0.5), False),
        (Match(window="night"), True),
        (Match(outside="night"), False),
        (Match(window="day"), False),
        (Match(outside="day"), True),
    ],
)
def test_what_a_rule_matches(match, fits):
    windows = (Window("night", 1, cron="x"), Window("day", 1, cron="x"))
    here = context(labels={"env": "production"}, trust=0.9, in_window=lambda window, now: window.name == "night")
    assert answer(calm(), policy(Rule("r", "deny", match), windows=windows), here) == ("deny" if fits else "ask")
    assert answer(calm(), policy(Rule("r", "allow", match), windows=windows), here) == ("allow" if fits else "ask")


def test_unknown_trust_opens_nothing_and_closes_everything():
    for match in (Match(min_trust=0.1), Match(max_trust=0.9)):
        assert answer(calm(), policy(Rule("r", "allow", match))) == "ask"
        assert answer(calm(), policy(ALLOW, Rule("r", "deny", match))) == "deny"


def test_a_denial_by_time_may_be_asked_again():
    rule = Rule("not-now", "deny", Match(outside="night"))
    made = decide(calm(), policy(ALLOW, rule, windows=(Window("night", 1, cron="x"),)), context(), NOW)
    assert (made.answer, made.retry) == ("deny", True)


PROTECTED = [
    (hog("1"), {"process": "anything"}),
    (hog(), {"process": "sshd"}),
    (hog(), {"process": "sshd-session"}),
    (hog(), {"process": "systemd"}),
    (hog(), {"process": "systemd-journal"}),
    (hog(), {"process": "Systemd-x"}),
    (hog(), {"process": "init"}),
    (hog(), {"process": "launchd"}),
    (hog(), {"process": "kernel_task"}),
    (hog(), {"process": "kworker/0:1"}),
    (hog(), {"process": "odd", "command": "[odd]"}),
    (hog(), {"process": "stead-agent"}),
    (hog(), {}),  # a process whose name is not known
    (hog(target=Target("unit", "ssh.service")), {"process": "x"}),
    (hog(target=Target("unit", "systemd-logind.service")), {"process": "x"}),
    (hog(target=Target("unit", "stead.service")), {"process": "x"}),
    (hog("500"), {"process": "python3"}),  # stead's own agent, by pid
    (hog("600"), {"process": "python3"}),  # its hub, by pid and start
    (hog(), {"process": "postgres"}),  # the policy's pattern
    (hog(target=Target("workload", "billing")), {}),  # the policy's pattern on a workload
]
OWN = {"500": "stead's agent", "600@567890": "stead's hub"}

patterns = st.lists(st.sampled_from(["*", "process:*", "s*", "python3", "unit:*", "workload:*", "calm"]), max_size=2).map(tuple)
matches = st.builds(
    Match,
    playbook=st.lists(st.sampled_from(["calm", "*", "other"]), max_size=2).map(tuple),
    target=patterns,
    risk=st.lists(st.sampled_from(["low", "high"]), max_size=2).map(tuple),
    undo=st.lists(st.sampled_from(["exact", "none"]), max_size=2).map(tuple),
    min_confidence=st.none() | st.floats(0, 1),
    max_trust=st.none() | st.floats(0, 1),
)
rules = st.builds(Rule, st.text("ab", min_size=1, max_size=3), st.sampled_from(["allow", "ask", "deny"]), matches)
policies = st.builds(
    Policy,
    st.lists(rules, max_size=5).map(tuple),
    budget=st.builds(Budget, st.integers(0, 9)),
    protected=st.just(("postgres*", "workload:billing")),
    version=st.just("p"),
)
autonomies = st.builds(
    Autonomy,
    st.sampled_from(["observe", "advise", "act"]),
    st.fixed_dictionaries({"host": st.integers(0, 4)}),
    st.booleans(),
    st.booleans(),
)
contexts = st.builds(
    DecideContext,
    autonomies,
    st.integers(0, 2),
    st.integers(0, 9),
    trust=st.none() | st.floats(0, 1),
    own=st.just(OWN),
    approvals=st.integers(0, 3),
)
proposals = st.builds(
    calm,
    st.builds(hog, undo=st.sampled_from(["exact", "lossy", "none"])),
    risk=st.sampled_from(["low", "high"]),
    tier=st.integers(1, 4),
    confidence=st.floats(0, 1),
    requester=st.sampled_from([ANN, Actor("policy", "policy"), Actor("hub", "hub")]),
)


@given(st.sampled_from(PROTECTED), policies, contexts, st.integers(1, 4))
def test_no_policy_opens_what_is_protected(case, given_policy, given_context, tier):
    step, labels = case
    opened = Policy((*given_policy.rules, ALLOW), budget=Budget(99), protected=given_policy.protected)
    made = decide(calm(hog("77"), step, tier=tier, labels=labels), opened, given_context, NOW)
    assert made.answer == "deny" and not made.advised and not made.retry
    assert made.rules[0].startswith("protected:")


@given(proposals, policies, contexts)
def test_a_matching_deny_always_wins(proposed, given_policy, given_context):
    denying = msgspec.structs.replace(given_policy, rules=(*given_policy.rules, Rule("never", "deny")))
    made = decide(proposed, denying, given_context, NOW)
    assert made.answer == "deny" and not made.advised


@given(proposals, policies, contexts, rules)
def test_one_more_strict_rule_never_opens(proposed, given_policy, given_context, rule):
    """Adding an ask or deny never makes the answer looser, unless no rule spoke before."""
    if rule.then == "allow":
        return
    spoke = Policy((ALLOW, *given_policy.rules), budget=given_policy.budget)
    stricter = msgspec.structs.replace(spoke, rules=(*spoke.rules, rule))
    act = msgspec.structs.replace(
        given_context, autonomy=msgspec.structs.replace(given_context.autonomy, mode="act"), approvals=0
    )
    assert STRICT[answer(proposed, stricter, act)] >= STRICT[answer(proposed, spoke, act)]


@given(proposals, policies, contexts, st.integers(1, 3))
def test_a_higher_tier_is_never_less_strict(proposed, given_policy, given_context, tier):
    exact = msgspec.structs.replace(proposed, steps=(hog(),))
    act = msgspec.structs.replace(given_context, autonomy=msgspec.structs.replace(given_context.autonomy, mode="act"))
    low = decide(msgspec.structs.replace(exact, tier=tier), given_policy, act, NOW)
    high = decide(msgspec.structs.replace(exact, tier=tier + 1), given_policy, act, NOW)
    assert (STRICT[high.answer], high.approvals_needed) >= (STRICT[low.answer], low.approvals_needed)


@given(proposals, policies, contexts)
def test_below_act_and_while_paused_nothing_is_allowed(proposed, given_policy, given_context):
    autonomy = given_context.autonomy
    if autonomy.mode != "act" or autonomy.paused:
        assert decide(proposed, given_policy, given_context, NOW).answer == "deny"


def autonomy_step(before: dict[str, Any], want: dict[str, Any]) -> Step:
    return Step("autonomy", Target("autonomy", "host"), before, want, "exact")


LOWERING = [
    ({"mode": "act"}, {"mode": "advise"}),
    ({"mode": "advise"}, {"mode": "observe"}),
    ({"ceiling": 2}, {"ceiling": 1}),
    ({"ceiling": 1}, {"ceiling": 0}),
    ({"locked": False}, {"locked": True}),
    ({"paused": False}, {"paused": True}),
    (
        {"mode": "act", "ceiling": 2, "locked": False, "paused": False},
        {"mode": "act", "ceiling": 1, "locked": True, "paused": False},
    ),
]
RAISING = [
    ({"mode": "observe"}, {"mode": "advise"}),
    ({"mode": "advise"}, {"mode": "act"}),
    ({"ceiling": 0}, {"ceiling": 1}),
    ({"paused": True}, {"paused": False}),
    ({"mode": "act", "ceiling": 1}, {"mode": "advise", "ceiling": 2}),
]


@given(st.sampled_from(LOWERING), policies, contexts, st.integers(1, 4), st.sampled_from([ANN, Actor("policy", "policy")]))
def test_lowering_never_waits(change, given_policy, given_context, tier, requester):
    strictest = msgspec.structs.replace(given_policy, rules=(Rule("never", "deny"),), budget=Budget(0, 0, 0))
    lowered = proposal([autonomy_step(*change)], playbook="lower", tier=tier, risk="critical", requester=requester, lowers=True)
    made = decide(lowered, strictest, given_context, NOW)
    assert (made.answer, made.advised, made.approvals_needed) == ("allow", False, 0)


@pytest.mark.parametrize("change", RAISING)
def test_only_a_person_raises_and_at_once(change):
    rules = policy(budget=Budget(0))
    here = context("advise", autonomy=Autonomy("observe", {"host": 0}, paused=True))
    mine = proposal([autonomy_step(*change)], requester=ANN, tier=4)
    assert answer(mine, rules, here) == "allow"
    for kind in ("policy", "agent", "hub"):
        theirs = msgspec.structs.replace(mine, requester=Actor(kind, "x"), lowers=True)  # type: ignore[arg-type]
        made = decide(theirs, policy(ALLOW), here, NOW)
        assert (made.answer, made.rules, made.advised) == ("deny", ("raises autonomy",), False)
    assert answer(mine, policy(Rule("never", "deny"))) == "deny"


def test_only_an_unlock_needs_a_second_person():
    unlock = proposal([autonomy_step({"locked": True}, {"locked": False})], requester=ANN)
    made = decide(unlock, policy(ALLOW), context(), NOW)
    assert (made.answer, made.approvals_needed, made.rules) == ("ask", 1, ("unlock",))
    assert answer(unlock, policy(ALLOW), context(approvals=1)) == "allow"


def test_saying_that_it_lowers_opens_nothing():
    sly = calm(hog(), tier=4, lowers=True)
    assert answer(sly, policy(ALLOW)) == "ask"
    mixed = calm(hog(), autonomy_step({"ceiling": 1}, {"ceiling": 0}), lowers=True)
    assert answer(mixed, policy(Rule("never", "deny"))) == "deny"


def test_what_changes_nothing_passes():
    reading = msgspec.structs.replace(calm(), steps=())
    assert answer(reading, policy(), context("observe")) == "allow"
