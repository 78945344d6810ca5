"""Style that is not checked is not style: sizes, names and docstrings of every file, and what no file may say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.style.repository import ROOT, short, sources, texts

FILE_LINES = 400
FUNCTION_LINES = 60
CODE = ("src", "tests", "benchmarks", "docs")
EMPTY_WORDS = frozenset(("util", "utils", "helper", "helpers", "manager", "base", "common", "handler", "handlers", "engine"))
EMPTY_NAMES = frozenset(("core", "kernel", "misc", "stuff"))
NOUNS_OF_THE_FIELD = frozenset(("src/stead/actuators/kernel.py",))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sources(*folders):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def test_there_is_something_to_check() -> None:
    assert len(sources("src")) > 20
    assert any(path.name == "test_shape.py" for path in sources("tests"))


def test_files_fit_a_reader() -> None:
    long = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*CODE)}
    assert not {name: lines for name, lines in long.items() if lines > FILE_LINES}


def test_functions_fit_a_screen() -> None:
    found = [
        f"{short(path)}:{node.lineno} {node.name} has {lines} lines"
        for path, tree in parsed(*CODE)
        for node in ast.walk(tree)
        if isinstance(node, Function) and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not found


def test_every_module_says_what_it_is_for() -> None:
    silent = [short(path) for path, tree in parsed("src", "benchmarks", "docs") if not ast.get_docstring(tree)]
    assert not silent


def test_names_say_something() -> None:
    found = []
    for path, tree in parsed("src"):
        if short(path) in NOUNS_OF_THE_FIELD:
            continue
        name = path.parent.name if path.stem in ("__init__", "__main__") else path.stem
        classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        empty = [each for each in (name, *classes) if words(each) & EMPTY_WORDS or each.lower() in EMPTY_NAMES]
        found += [f"{short(path)}: {each}" for each in empty]
    assert not found


def test_banned_words_are_seen_in_either_spelling() -> None:
    assert words("HTTPHandler") & EMPTY_WORDS
    assert words("disk_utils") & EMPTY_WORDS
    assert not words("database") & EMPTY_WORDS


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b", "unfinished work is an issue, not a comment"),
        (r"\b(pypi|python" + r"hosted|npm" + r"js|pypa)\.(org|io|com)\b", "a package is named, not where it is fetched from"),
        (r"(extra-)?index-" + r"url|find-" + r"links", "a package is named, not where it is fetched from"),
        (r"(?<![\w.])/(work|farm|root|Users|workspace)/", "a path of one developer's machine"),
    ],
)
def test_no_file_says(pattern: str, why: str) -> None:
    found = [
        f"{short(path)}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, why


def test_requirements_are_pinned_by_hash_and_agree() -> None:
    pins: dict[str, set[str]] = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text, f"{short(path)} names an address"
        for block in re.split(r"\n(?=\S)", text.strip()):
            name, version = re.match(r"([\w.-]+)==([\w.]+)", block).groups()  # type: ignore[union-attr]
            assert "--hash=sha256:" in block, f"{short(path)}: {name} has no hash"
            pins.setdefault(name, set()).add(version)
    assert {"msgspec", "litestar", "pytest", "hatchling", "editables"} <= set(pins)
    assert not {name: versions for name, versions in pins.items() if len(versions) > 1}
