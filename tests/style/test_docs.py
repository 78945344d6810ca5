"""Docs that are not checked fall behind: pages are compared with the code, and what they name must exist."""

from __future__ import annotations

import configparser
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import msgspec
import pytest

from stead.catalog import load_catalog
from stead.cli.root import VERBS
from stead.model.change import RunState
from stead.model.config import Config
from tests.style.repository import ROOT, files, short

PAGES = sorted(short(path) for path in files() if path.suffix == ".md" and "vectors" not in path.parts)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def reference(name: str) -> str:
    return text(f"docs/reference/{name}")


@pytest.mark.parametrize("name", ["configuration.md", "cli.md", "metrics.md", "events.md", "http.md"])
def test_reference_pages_are_as_the_code_says(name: str, generate: ModuleType) -> None:
    assert reference(name) == generate.NOTE + generate.PAGES[name](), "write them again with `make docs`"


def test_every_verb_is_documented() -> None:
    assert len(VERBS) > 20
    assert not [verb for verb in VERBS if f"## stead {verb}\n" not in reference("cli.md")]


def keys(struct: type[msgspec.Struct], place: str = "") -> list[str]:
    """Every key of the configuration with the section that it is in."""
    found = []
    for name, kind in get_type_hints(struct).items():
        inside = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, msgspec.Struct)]
        found += [f"{place}{name}"] if not inside else [key for each in inside for key in keys(each, f"{place}{name}.")]
    return found


def test_every_setting_is_documented_and_says_what_it_means() -> None:
    page = reference("configuration.md").replace("NAME.", "").replace("[]", "")
    assert len(keys(Config)) > 30
    assert not [key for key in keys(Config) if f"`{key}`" not in page]
    silent = re.findall(r"^\| `([\w.]+)` .*\|  \|$", page, re.MULTILINE)
    telling = {"name", "argv", "level", "http", "interval_s", "timeout_s", "probes"}  # the name says it all
    assert not [key for key in silent if key.rpartition(".")[2] not in telling]


def test_every_metric_and_playbook_is_documented() -> None:
    catalog = load_catalog()
    assert len(catalog.metrics) >= 20
    assert not [name for name in (*catalog.metrics, *catalog.playbooks) if f"`{name}`" not in reference("metrics.md")]


def test_every_topic_is_documented(generate: ModuleType) -> None:
    topics = generate.topics_in_code()
    assert {"finding.opened", "metrics.<metric_id>", "run.<state>"} <= topics
    assert topics == set(generate.TOPICS)


def test_the_states_of_a_run_are_documented() -> None:
    listed = re.findall(
        r"^\| `(\w+)` \|", text("docs/architecture.md").partition("| state |")[2].partition("\n\n")[0], re.MULTILINE
    )
    page = text("docs/architecture.md")
    assert set(listed) <= set(get_args(RunState))
    assert not [state for state in get_args(RunState) if f"`{state}`" not in page]


def test_the_layers_are_those_that_are_held() -> None:
    held = configparser.ConfigParser()
    held.read(ROOT / ".importlinter")
    layers = held["importlinter:contract:layers"]["layers"].strip().splitlines()
    drawn = text("docs/architecture.md").partition("only go down\n\n```\n")[2].partition("\n```")[0].splitlines()
    assert drawn == [re.sub(r"[()]", "", layer) for layer in layers]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    said = text(page)
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    commands = [*re.findall(r"`([^`\n]+)`", said), *"\n".join(re.findall(r"```sh\n(.*?)```", said, re.DOTALL)).splitlines()]
    assert {match[1] for line in commands if (match := re.match(r"make ([a-z-]+)", line))} <= targets
    assert {match[1] for line in commands if (match := re.match(r"(?:\.venv/bin/)?stead ([a-z]+)", line))} <= set(VERBS)
    links = re.findall(r"\]\((?!http|#)([^)#]+)", said)
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    named = re.findall(r"`((?:src|tests|docs|deploy|benchmarks|requirements|flow|model|agent)/[\w./-]+)`", said)
    assert not [name for name in named if not exists(name)]


EXAMPLES = frozenset(("src/stead/probes/handles.py", "tests/probes/test_handles.py"))
EXAMPLES |= {"src/stead/actuators/oom.py", "tests/actuators/test_oom.py"}


def exists(name: str) -> bool:
    """A path of the repository, or of the package."""
    return name in EXAMPLES or (ROOT / name).exists() or Path(ROOT, "src/stead", name).exists()
