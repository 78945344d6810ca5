"""What the page on cleaning a disk shows works as shown, and says what is shipped."""

from __future__ import annotations

from pathlib import Path

import yaml

from stead.catalog import load_catalog, load_policy
from tests.docs.pages import blocks
from tests.style.repository import ROOT

PAGE = "docs/how-to/disk.md"


def test_the_rule_of_the_policy_loads(tmp_path: Path) -> None:
    rule, _ = blocks(PAGE, "yaml")
    (tmp_path / "policy.yaml").write_text("rules:\n" + rule, encoding="utf-8")
    assert load_policy(str(tmp_path / "policy.yaml")).rules[0].when.actuator == ("files",)


def test_the_overlay_replaces_a_rule_and_adds_one(tmp_path: Path) -> None:
    _, text = blocks(PAGE, "yaml")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    rules = {rule.category: rule for rule in load_catalog(str(tmp_path)).cleaning}
    assert rules["build-cache"].owners == ("ci",) and not rules["temporary"].enabled and rules["journal"].enabled


def test_every_shipped_rule_and_playbook_is_told() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    catalog = load_catalog()
    assert not [rule.category for rule in catalog.cleaning if f"| `{rule.category}` |" not in page]
    mine = yaml.safe_load((ROOT / "src/stead/catalog/disk.yaml").read_text(encoding="utf-8"))["playbooks"]
    assert not [one["playbook_id"] for one in mine if f"| `{one['playbook_id']}` |" not in page]


def test_the_packaged_grant_holds_every_shipped_rule_and_its_quarantine() -> None:
    grant = (ROOT / "deploy/systemd/stead-agent.service.d/clean.conf").read_text(encoding="utf-8")
    (line,) = (one.removeprefix("ReadWritePaths=") for one in grant.splitlines() if one.startswith("ReadWritePaths="))
    assert all(path.startswith("-/") for path in line.split()), "one that is not there must not keep the agent from starting"
    held = [path.removeprefix("-") for path in line.split()]
    needed = {path for rule in load_catalog().cleaning for path in (*rule.folders, rule.quarantine_in) if path}
    assert not [path for path in needed if not any(f"{path}/".startswith(f"{one}/") for one in held)]
