from __future__ import annotations

import pytest

from stead.catalog import validate
from stead.catalog.files import FOLDER

METRIC = "metric_id: a.b\n    category: a\n    description: d\n    unit: count\n"


def test_the_shipped_catalogue_is_right():
    assert validate() == []
    assert validate(str(FOLDER)) == []


@pytest.mark.parametrize(
    ("extra", "what", "line"),
    [
        ("    unit_of: x\n", "unknown key metrics[0].unit_of", 6),
        (
            "    playbooks:\n    - scale-workers\n    - no-such\n",
            "playbooks: a.b names a playbook that is not defined, no-such",
            8,
        ),
        ("    thresholds: {good: {upper: 5}, warning: {lower: 4}}\n", "thresholds of a.b: good and warning overlap from 4", 6),
        ("    thresholds: {good: {lower: 5, upper: 4}}\n", "thresholds.good of a.b has lower 5 above upper 4", 6),
        ("    thresholds: {good: {upper: 5}, warning: {lower: 5}}\n    exit: {warning: 6}\n", "exit.warning of a.b is 6", 7),
        ("    thresholds: {good: {lower: 5}, warning: {upper: 5}}\n    exit: {warning: 4}\n", "exit.warning of a.b is 4", 7),
        ("    thresholds: {good: {upper: 5}, warning: {lower: 5}}\n    exit: {critical: 4}\n", "exit.critical of a.b is 4", 7),
        ("    thresholds: {good: {uper: 5}}\n", "unknown key metrics[0].thresholds.good[0].uper", 6),
        ("    confirm: {no.such: 1}\n", "confirm: a.b names an unknown metric no.such", 6),
        ("    recommended_interval_seconds: 0\n", "recommended_interval_seconds of a.b is 0", 6),
        ("    for: -1\n", "for of a.b is -1", 6),
        ("    for: soon\n", "metrics[0].for should be", 6),
        ("    aggregation: median\n", "metrics[0].aggregation should be", 6),
        ("  - metric_id: a.b\n    category: a\n    description: d\n    unit: count\n", "a.b is defined twice", 6),
    ],
)
def test_a_metric_that_can_not_be(tmp_path, extra, what, line):
    (tmp_path / "m.yaml").write_text(f"metrics:\n  - {METRIC}{extra}")
    (found,) = validate(str(tmp_path))
    assert found.what.startswith(what)
    assert found.where == f"{tmp_path}/m.yaml, line {line}"
    assert found.fix and found.exit_code == 2


def test_an_unknown_unit(tmp_path):
    (tmp_path / "m.yaml").write_text("metrics:\n  - {metric_id: a.b, category: a, description: d, unit: percents}\n")
    (found,) = validate(str(tmp_path))
    assert (found.what, found.fix) == ("unit: a.b has an unknown unit percents", "did you mean percent?")


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("settings: [{actuator: prority, state: {nice: 1}}]", "settings: no actuator is named prority"),
        ("settings: [{actuator: priority, state: {nise: 1}}]", "settings: the state of priority has no nise"),
        ("settings: [{actuator: workload, state: {count: {add: 1, multiply: 2}}}]", "settings: count needs exactly one of"),
        ("settings: [{actuator: workload, state: {count: {from_metric: no.such}}}]", "settings: count names an unknown metric"),
        ("settings: [{actuator: workload, state: {count: {ad: 1}}}]", "unknown key playbooks[0].settings[0].state.count.ad"),
        ("settings: [{actuator: workload, target: web, state: {count: 1}}]", "settings: the target web is neither"),
        ("settings: [{actuator: workload, state: {count: 1}, lease_s: 0}]", "settings: lease_s is 0"),
        ("tier: 5\n    read_only: true", "tier of p is 5"),
        ("risk: grave\n    read_only: true", "playbooks[0].risk should be"),
        ("read_only: true\n    answers: [no.such]", "answers: p names an unknown metric no.such"),
        ("read_only: true\n    chain: [no-such]", "chain: p names a playbook that is not defined, no-such"),
        ("read_only: true\n    aliases: [scale-nodes]", "the alias scale-nodes of p is the name of another playbook"),
        ("title: t", "p has no settings, so it does nothing"),
        ("lowers: true\n    settings: [{actuator: priority, state: {nice: 1}}]", "p says that it lowers autonomy"),
    ],
)
def test_a_playbook_that_can_not_be(tmp_path, extra, what):
    (tmp_path / "p.yaml").write_text(f"playbooks:\n  - playbook_id: p\n    {extra}\n")
    (found,) = validate(str(tmp_path))
    assert found.what.startswith(what)
    assert found.where.startswith(f"{tmp_path}/p.yaml, line ")


def test_the_same_id_in_two_files_of_one_folder_is_twice(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(f"metrics:\n  - {METRIC}")
    (found,) = validate(str(tmp_path))
    assert found.what == f"a.b is defined twice, first at {tmp_path}/a.yaml, line 2"
    assert found.where == f"{tmp_path}/b.yaml, line 2"


def test_a_two_sided_exit(tmp_path):
    bands = "    thresholds: {good: {lower: 2, upper: 5}, warning: [{upper: 2}, {lower: 5}]}\n"
    (tmp_path / "m.yaml").write_text(f"metrics:\n  - {METRIC}{bands}    exit: {{warning: 4, warning_lower: 3}}\n")
    assert validate(str(tmp_path)) == []
    (tmp_path / "m.yaml").write_text(f"metrics:\n  - {METRIC}{bands}    exit: {{warning: 4, warning_lower: 1}}\n")
    (found,) = validate(str(tmp_path))
    assert found.what.startswith("exit.warning_lower of a.b is 1")


def test_plugins_states_are_known_too(tmp_path):
    (tmp_path / "p.yaml").write_text("playbooks:\n  - {playbook_id: p, settings: [{actuator: dial, state: {level: 1}}]}\n")
    assert validate(str(tmp_path), states={"dial": ("level",)}) == []
    assert [p.code for p in validate(str(tmp_path))] == ["catalog.actuator"]


def test_the_policy_beside_it_is_checked(tmp_path):
    (tmp_path / "policy.yaml").write_text("rules:\n  - {name: x, then: allow, when: {target: [sshd]}}\n")
    (found,) = validate(str(tmp_path))
    assert found.where == f"{tmp_path}/policy.yaml, line 2"
    assert "protected target" in found.what


def test_what_can_not_be_read_is_a_problem_too(tmp_path):
    (tmp_path / "m.yaml").write_text("a: [\n")
    assert [p.code for p in validate(str(tmp_path))] == ["document.not-yaml"]
