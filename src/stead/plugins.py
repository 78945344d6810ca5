"""Plugins by entry point: the one door for stead's own probes, detectors, actuators and workloads, and for other people's.

An entry point names a factory. Its parameters say what it needs of the process (`host`, `drivers`, `autonomy` …), and it
gets exactly those. One that can't be made is reported with the reason and left out: it never stops the others.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec


class Loaded(msgspec.Struct, frozen=True):
    """The plugins of one group by name, and why the broken ones are not among them."""

    plugins: dict[str, Any]
    broken: dict[str, str]


def load(group: str, **offered: Any) -> Loaded:
    """Make every plugin of a group, e.g. "stead.probes". `offered` are the objects that a factory may ask for by name."""
    return make(declared(group), offered)


def make(points: Iterable[tuple[str, str]], offered: Mapping[str, Any]) -> Loaded:
    """Make plugins from (name, "module:factory") pairs. A name given twice with different factories is broken."""
    loaded = Loaded({}, {})
    seen: dict[str, str] = {}
    for name, reference in points:
        if name in seen:
            if seen[name] != reference:
                loaded.plugins.pop(name, None)
                loaded.broken[name] = f"two packages offer it: {seen[name]} and {reference}"
            continue
        seen[name] = reference
        try:
            loaded.plugins[name] = _made(reference, offered)
        except Exception as error:  # a stranger's code: whatever it raises, the others still load
            loaded.broken[name] = _reason(error)
    return loaded


@lru_cache(maxsize=8)
def declared(group: str) -> tuple[tuple[str, str], ...]:
    """What the installed packages declare for a group: (name, "module:factory"), sorted by name.

    Reads `*.dist-info/entry_points.txt` on sys.path, where installers put them (packaging.python.org, "Entry points
    specification"). importlib.metadata would do the same for 1.9 MB of resident memory, most of it the email parser.
    """
    points: set[tuple[str, str]] = set()
    for place in dict.fromkeys(sys.path):
        for path in Path(place or ".").glob("*-info/entry_points.txt"):
            text = path.read_text(encoding="utf-8", errors="replace")
            if f"[{group}]" in text:
                points.update(parse_entry_points(text, group))
    return tuple(sorted(points))


def parse_entry_points(text: str, group: str) -> Iterator[tuple[str, str]]:
    """The (name, reference) pairs of one section of an entry_points.txt."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            name, _, reference = line.partition("=")
            yield name.strip(), reference.split(" #", 1)[0].strip()


class _MissingError(Exception):
    """The factory asks for something that this process does not have."""


def _made(reference: str, offered: Mapping[str, Any]) -> Any:
    module_name, _, attribute = reference.partition(":")
    factory: Any = importlib.import_module(module_name.strip())
    for part in attribute.split("[")[0].strip().split("."):
        factory = getattr(factory, part)
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in offered:
            arguments[parameter.name] = offered[parameter.name]
        elif parameter.default is parameter.empty:
            raise _MissingError(f"needs {parameter.name}, which this process does not have")
    return factory(**arguments)


def _reason(error: Exception) -> str:
    if isinstance(error, _MissingError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
