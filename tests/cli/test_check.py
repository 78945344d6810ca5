"""`stead config check` and `stead catalog validate` on files that are right and wrong."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from stead import plugins
from stead.model.errors import EXIT_FAILURE, EXIT_USAGE
from tests.cli.conftest import Call


def test_a_right_configuration(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "stead.yaml"
    file.write_text("hub:\n  port: 8080\n")
    result = call("config", "check", str(file))
    assert result.exit_code == 0 and result.stdout == f"{file}: right\n"


def test_an_unknown_key_is_named_with_its_line(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "stead.yaml"
    file.write_text("hub:\n  prot: 8080\n")
    result = call("config", "check", str(file))
    assert result.exit_code == EXIT_USAGE
    assert "prot" in result.stdout and f"{file}, line 2" in result.stdout and "1 wrong" in result.stdout
    answer = json.loads(call("config", "check", str(file), "-o", "json").stdout)
    assert answer["ok"] is False and len(answer["problems"]) == 1


def test_a_file_that_is_not_there(call: Call, tmp_path: Path) -> None:
    assert call("config", "check", str(tmp_path / "none.yaml")).exit_code == EXIT_USAGE


def test_what_the_environment_set_is_named_as_checked(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_HUB__PRT", "80")
    result = call("config", "check")
    assert result.exit_code == EXIT_USAGE
    assert "nothing in the environment" not in result.stdout and "STEAD_HUB__PRT: 1 wrong" in result.stdout


def test_a_folder_without_a_catalogue_is_not_right(call: Call, tmp_path: Path) -> None:
    result = call("catalog", "validate", str(tmp_path))
    assert result.exit_code == EXIT_FAILURE
    assert "no YAML file" in result.stdout and str(tmp_path) in result.stdout


def test_the_shipped_catalogue_is_right(call: Call) -> None:
    assert call("catalog", "validate").exit_code == 0


def test_a_wrong_catalogue_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "metrics.yaml").write_text(
        "metrics:\n  - metric_id: x.y\n    category: infra\n    description: d\n    unit: furlongs\n"
    )
    result = call("catalog", "validate", str(tmp_path))
    assert result.exit_code == EXIT_FAILURE
    assert "furlongs" in result.stdout and "metrics.yaml" in result.stdout


class Valve:
    """Another people's actuator, as the catalogue sees it."""

    name = "valve"

    class state(msgspec.Struct):  # noqa: N801 - the protocol's name
        """What can be set."""

        opening: int | None = None


OVERLAY = """playbooks:
  - playbook_id: open-valve
    title: Open the valve
    risk: low
    tier: 1
    answers: [infra.cpu_utilization]
    settings: [{actuator: valve, target: "valve:main", state: {FIELD: 5}}]
    predict: {metric: infra.cpu_utilization, direction: down, at_least: 0.2}
"""


def test_the_fields_of_other_peoples_actuators_are_known(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plugins.load
    monkeypatch.setattr(plugins, "load", lambda group, **offered: plugins.Loaded({"valve": Valve()}, {}))
    file = tmp_path / "valve.yaml"
    file.write_text(OVERLAY.replace("FIELD", "opening"))
    assert call("catalog", "validate", str(file)).exit_code == 0
    file.write_text(OVERLAY.replace("FIELD", "openning"))
    wrong = call("catalog", "validate", str(file))
    assert wrong.exit_code == EXIT_FAILURE and "openning" in wrong.stdout and "opening" in wrong.stdout
    monkeypatch.setattr(plugins, "load", whole)
    file.write_text(OVERLAY.replace("FIELD", "opening"))
    assert "valve" in call("catalog", "validate", str(file)).stdout, "an actuator that is not installed is wrong"


def test_an_objective_that_nothing_tells_of_is_wrong(tmp_path: Path, call: Call) -> None:
    file = tmp_path / "stead.yaml"
    file.write_text("protect:\n  - {name: web, match: [web], objective: {metric: api.latncy_p95, below: 3}}\n")
    result = call("config", "check", str(file))
    assert result.exit_code == EXIT_USAGE and "did you mean api.latency_p95?" in result.stdout
    assert f"{file}, line 2" in result.stdout
    for known in ("api.latency_p95", "cpu.load_1m", "autonomy.rollback_rate"):
        file.write_text(file.read_text().replace("api.latncy_p95", known))
        assert call("config", "check", str(file)).exit_code == 0
        file.write_text(file.read_text().replace(known, "api.latncy_p95"))
