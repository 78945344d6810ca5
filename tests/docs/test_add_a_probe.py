""" "Add a probe in ten minutes" of CONTRIBUTING.md does what it says."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

from stead.host import LocalHost, SystemClock
from stead.model.observe import UNITS
from stead.protocols import Probe
from tests.docs.pages import blocks, lint, run_plugin_example

PAGE = "CONTRIBUTING.md"


def test_its_probe_passes_its_test(tmp_path: Path) -> None:
    assert run_plugin_example(PAGE, "probes", "handles", tmp_path).startswith("5 passed")


def test_its_probe_keeps_the_rules_of_style(tmp_path: Path) -> None:
    assert lint(PAGE, tmp_path) == ""


def test_its_probe_is_one_and_works_here(tmp_path: Path) -> None:
    file = tmp_path / "handles.py"
    file.write_text(blocks(PAGE, "python")[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("handles", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    probe = module.probe()
    assert isinstance(probe, Probe)
    assert all(each.unit in UNITS and each.help for each in probe.metrics)
    reading = probe.read(LocalHost(), SystemClock().now())
    assert {sample.metric for sample in reading.samples} == {each.id for each in probe.metrics}


def test_its_entry_point_names_the_factory() -> None:
    (entry,) = blocks(PAGE, "toml")
    assert tomllib.loads(entry)["project"]["entry-points"]["stead.probes"] == {"handles": "stead.probes.handles:probe"}
