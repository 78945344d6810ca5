"""The contracts of import-linter name what they should: a new plugin, or a new module that thinks, must be among them."""

from __future__ import annotations

import configparser
import tomllib

from tests.style.repository import ROOT


def contract(name: str, option: str) -> set[str]:
    held = configparser.ConfigParser()
    held.read(ROOT / ".importlinter")
    return set(held[f"importlinter:contract:{name}"][option].split())


def test_every_plugin_is_held_apart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {factory.partition(":")[0] for group in project["entry-points"].values() for factory in group.values()}
    assert len(named) > 10
    assert contract("plugins", "modules") == named


def test_what_thinks_is_held_to_it() -> None:
    assert {"stead.model", "stead.stats", "stead.detectors"} <= contract("pure", "source_modules")
    assert {f"stead.flow.{verb}" for verb in ("find", "propose", "decide", "verify", "record", "runs")} <= contract(
        "pure", "source_modules"
    )
    assert {"asyncio", "sqlite3", "subprocess", "socket", "time", "psutil"} <= contract("pure", "forbidden_modules")
