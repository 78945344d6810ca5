from __future__ import annotations

import pytest

from stead.catalog import load_policy
from stead.model.errors import SteadError
from stead.model.policy import Budget


def write(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return str(path)


def test_the_shipped_policy():
    policy = load_policy()
    assert policy.budget == Budget(20, 1, 1)
    assert {rule.name for rule in policy.rules} >= {"reversible", "own-workloads"}
    assert len(policy.version) == 64
    assert load_policy().version == policy.version


def test_what_the_configuration_adds_is_part_of_the_policy(tmp_path):
    path = write(tmp_path, "protected: [postgres]\n")
    policy = load_policy(path, protected=("redis*", "postgres"), solo=True)
    assert policy.protected == ("postgres", "redis*")
    assert policy.solo is True
    assert policy.version != load_policy(path).version


def test_an_empty_policy_asks_for_everything(tmp_path):
    assert load_policy(write(tmp_path, "# nothing\n")).rules == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("rulez: []", "unknown key rulez"),
        ("rules:\n- {name: a, then: maybe}", "rules[0].then should be"),
        ("rules:\n- {name: a, then: ask, when: {playbok: [x]}}", "unknown key rules[0].when.playbok"),
        ("rules:\n- {name: a, then: ask}\n- {name: a, then: ask}", "two rules are named a"),
        ("rules:\n- {name: a, then: ask, when: {risk: [grave]}}", "the rule a names an unknown risk grave"),
        ("rules:\n- {name: a, then: ask, when: {tier: [5]}}", "the rule a names a tier"),
        ("rules:\n- {name: a, then: ask, when: {window: night}}", "the rule a names an unknown window night"),
        ("rules:\n- {name: a, then: allow, approvals: 2}", "the rule a can't have approvals"),
        ("tier2_window: night", "tier2_window names an unknown window night"),
        ("windows:\n- {name: w, duration_s: 60}", "the window w can't be used: give either cron or rrule"),
        ("windows:\n- {name: w, duration_s: 60, cron: 'x * * * *'}", "the window w can't be used: 'x * * * *' can't be read"),
        ("windows:\n- {name: w, duration_s: 60, rrule: 'FREQ=NEVER'}", "the window w can't be used: 'FREQ=NEVER' can't be read"),
        ("windows:\n- {name: w, duration_s: 60, rrule: 'FREQ=HOURLY'}", "the window w can't be used: an rrule starts"),
        (
            "windows:\n- {name: w, duration_s: 60, cron: '0 2 * * *', timezone: Mars/X}",
            "the window w can't be used: this system knows",
        ),
        ("windows:\n- {name: w, duration_s: 60, cutoff_s: 60, cron: '0 2 * * *'}", "the window w can't be used: cutoff_s"),
        ("budget: {actions_per_hour: -1}", "budget.actions_per_hour is below 0"),
        ("approval_valid_s: 0", "approval_valid_s is 0"),
        ("version: mine", "version can't be given"),
    ],
)
def test_a_policy_that_can_not_be(tmp_path, text, what):
    with pytest.raises(SteadError) as raised:
        load_policy(write(tmp_path, text))
    assert raised.value.problem.what.startswith(what)
    assert "policy.yaml, line " in raised.value.problem.where
    assert raised.value.problem.exit_code == 2


@pytest.mark.parametrize(
    "target",
    [
        "sshd",
        "process:sshd",
        "process:1",
        "systemd*",
        "process:systemd-logind",
        "unit:ssh.service",
        "s*d",
        "kernel*",
        "stead-agent",
        "cgroup:/init.scope",
        "cgroup:/system.slice/ssh*",
        "cgroup:/system.slice/systemd-journald.service",
    ],
)
def test_a_policy_that_would_allow_a_protected_target_is_refused(tmp_path, target):
    path = write(tmp_path, f"rules:\n- name: a\n  then: allow\n  when: {{target: ['{target}']}}\n")
    with pytest.raises(SteadError, match="the rule a would allow changes to a protected target"):
        load_policy(path)


OTHERS = [
    "*",
    "process:*",
    "process:python*",
    "workload:*",
    "workload:systemd-like",
    "nginx",
    "cgroup:*",
    "cgroup:/batch.slice/*",
]


@pytest.mark.parametrize("target", OTHERS)
def test_a_policy_that_names_others_is_not(tmp_path, target):
    path = write(tmp_path, f"rules:\n- name: a\n  then: allow\n  when: {{target: ['{target}']}}\n")
    assert load_policy(path).rules[0].when.target == (target,)


@pytest.mark.parametrize("target", ["postgres", "process:postgres-13", "workload:postgres"])
def test_the_configurations_patterns_count_too(tmp_path, target):
    path = write(tmp_path, f"rules:\n- name: a\n  then: allow\n  when: {{target: ['{target}']}}\n")
    load_policy(path)
    with pytest.raises(SteadError, match=r"protected target, postgres\*"):
        load_policy(path, protected=("postgres*",))


def test_a_deny_may_name_what_is_protected(tmp_path):
    load_policy(write(tmp_path, "rules:\n- {name: a, then: deny, when: {target: [sshd]}}\n"))
