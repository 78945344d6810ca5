"""What the how-to pages show works as shown."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from stead.catalog import load_catalog, load_policy
from stead.config import check_config, read_config
from tests.docs.pages import blocks, lint, run_plugin_example
from tests.style.repository import ROOT

ACTUATOR = "docs/how-to/add-an-actuator.md"


def test_the_actuator_passes_its_test(tmp_path: Path) -> None:
    assert re.match(r"\d+ passed", run_plugin_example(ACTUATOR, "actuators", "oom", tmp_path))


def test_the_actuator_keeps_the_rules_of_style(tmp_path: Path) -> None:
    assert lint(ACTUATOR, tmp_path) == ""


def test_the_actuators_entry_point() -> None:
    (entry,) = blocks(ACTUATOR, "toml")
    assert tomllib.loads(entry)["project"]["entry-points"]["stead.actuators"] == {"oom": "stead.actuators.oom:actuator"}


def test_the_policy_loads(tmp_path: Path) -> None:
    (text,) = blocks("docs/how-to/write-a-policy.md", "yaml")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    policy = load_policy(str(tmp_path / "policy.yaml"))
    assert [rule.name for rule in policy.rules] == ["calm-batch-jobs", "not-the-database", "restarts-at-night-only", "reversible"]
    assert policy.budget.actions_per_hour == 4


def test_the_playbook_loads_over_the_shipped_catalogue(tmp_path: Path) -> None:
    text, _ = blocks("docs/how-to/write-a-playbook.md", "yaml")  # the second is a part of one
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    catalog = load_catalog(str(tmp_path), actuators={"priority", "service", "workload", "autonomy"})
    assert catalog.playbooks["batch-last"].unsupported == ""
    assert [playbook.playbook_id for playbook in catalog.answering("infra.process_cpu_cores")] == ["batch-last", "calm-cpu-hog"]


def test_the_intent_of_the_page_is_right_and_means_what_it_says(tmp_path: Path) -> None:
    (text,) = blocks("docs/how-to/protect.md", "yaml")
    file = tmp_path / "stead.yaml"
    file.write_text(text)
    assert check_config([str(file)]) == []
    intent = read_config([str(file)]).intent
    assert [one.title for one in intent.protect] == ["service:nginx*", "shop", "api"]
    assert intent.best_effort == ("service:backup*", "cgroup:/batch.slice/*", "process:stress-ng*")


def test_the_table_of_remedies_is_that_of_the_catalogue() -> None:
    page = (ROOT / "docs/how-to/protect.md").read_text(encoding="utf-8")
    playbooks = load_catalog().playbooks
    for name, profiles in {
        "let-others-first": {"conservative": "weight 10"},
        "lower-priority": {"conservative": "10, batch", "balanced": "19, idle"},
        "cap-cpu": {"balanced": "70 %", "aggressive": "40 %"},
        "slow-io": {"conservative": "20, or best-effort 7", "balanced": "1, or idle"},
        "cap-io": {"conservative": "50 MB", "balanced": "10 MB", "aggressive": "5 MB"},
    }.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert all(words in row for words in profiles.values())
        assert ("asked" in row.split("|")[4]) is (playbooks[name].tier == 2)
        state = str([(one.state, one.by_profile) for one in playbooks[name].settings])
        numbers = {"let-others-first": "'cpu_weight': 10", "lower-priority": "'nice': 10", "cap-io": "wbps=50000000"}
        assert numbers.get(name, "") in state
