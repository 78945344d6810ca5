"""Rules of the allow-list in a catalogue: what is wrong with one is said with file and line, before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead.catalog import load_catalog, validate
from stead.model.errors import SteadError


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("folders: [/etc/app], names: ['*']", "/etc/app is of the system or of people"),
        ("folders: [/home], names: ['*']", "/home is of the system or of people"),
        ("folders: [/var], names: ['*']", "/var is of the system or of people"),
        ("folders: [cache], names: ['*']", "cache is no absolute path in its plain form"),
        ("folders: [/srv/../etc], names: ['*']", "/srv/../etc is no absolute path in its plain form"),
        ("folders: [/srv/x]", "the rule mine names no folder or no name"),
        ("folders: [/srv/x], names: ['*'], min_age_s: -1", "min_age_s of mine is -1"),
        ("folders: [/srv/x], names: ['*'], depth: 0", "depth of mine is 0"),
        ("folders: [/srv/x], names: ['*'], quarantine_in: /srv/xy", "the quarantine of mine is to be in /srv/xy, which does not"),
        ("folders: [/srv/x], names: ['*'], do: shred", "cleaning[0].do should be"),
        ("folders: [/srv/x], names: ['*'], olds: 1", "unknown key cleaning[0].olds"),
    ],
)
def test_a_rule_that_can_not_be(tmp_path: Path, rule: str, what: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"cleaning:\n  - {{category: mine, {rule}}}\n")
    found = validate(str(tmp_path))
    assert [one.what[: len(what)] for one in found] == [what] and "line 2" in found[0].where
    with pytest.raises(SteadError):
        load_catalog(str(tmp_path))


def test_one_category_twice_in_a_folder(tmp_path: Path) -> None:
    rule = "  - {category: mine, folders: [/srv/x], names: ['*']}\n"
    (tmp_path / "mine.yaml").write_text(f"cleaning:\n{rule}{rule}")
    (found,) = validate(str(tmp_path))
    assert found.what.startswith("mine is defined twice")


def test_one_that_is_switched_off_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("cleaning:\n  - {category: temporary, enabled: false}\n")
    assert validate(str(tmp_path)) == []


def test_a_step_for_each_of_something_unknown(tmp_path: Path) -> None:
    setting = "{actuator: files, target: 'each:quarantin', state: {place: quarantine}}"
    (tmp_path / "mine.yaml").write_text(f"playbooks:\n  - {{playbook_id: mine, settings: [{setting}]}}\n")
    (found,) = validate(str(tmp_path))
    assert found.what == "settings: nothing is found for each:quarantin" and found.fix == "did you mean quarantine?"
