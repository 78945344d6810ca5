"""What the how-to pages show works as shown."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from stead.catalog import load_catalog, load_policy
from tests.docs.pages import blocks, lint, run_plugin_example

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
    (text,) = blocks("docs/how-to/write-a-playbook.md", "yaml")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    catalog = load_catalog(str(tmp_path), actuators={"priority", "service", "workload", "autonomy"})
    assert catalog.playbooks["batch-last"].unsupported == ""
    assert [playbook.playbook_id for playbook in catalog.answering("infra.process_cpu_cores")] == ["batch-last", "calm-cpu-hog"]
