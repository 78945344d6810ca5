"""`stead config check` and `stead catalog validate` on files that are right and wrong."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_the_shipped_catalogue_is_right(call: Call) -> None:
    assert call("catalog", "validate").exit_code == 0


def test_a_wrong_catalogue_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "metrics.yaml").write_text(
        "metrics:\n  - metric_id: x.y\n    category: infra\n    description: d\n    unit: furlongs\n"
    )
    result = call("catalog", "validate", str(tmp_path))
    assert result.exit_code == EXIT_FAILURE
    assert "furlongs" in result.stdout and "metrics.yaml" in result.stdout
