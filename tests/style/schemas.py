"""The JSON schema of every value that is kept or sent, and what it may become: its types only ever gain defaulted fields.

`python -m tests.style.schemas` records the present ones, if they can read what the recorded ones wrote.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import msgspec

import stead.model

FOLDER = Path(__file__).parent / "schemas"
Schema = dict[str, Any]


def module_names() -> list[str]:
    """The modules of the model."""
    return sorted(module.name for module in pkgutil.iter_modules(stead.model.__path__))


def types_of(name: str) -> list[type[msgspec.Struct]]:
    """The structs that a module of the model defines."""
    module = importlib.import_module(f"stead.model.{name}")
    found = inspect.getmembers(module, lambda it: inspect.isclass(it) and issubclass(it, msgspec.Struct))
    return [each for _, each in found if each.__module__ == module.__name__]


def present(name: str) -> Schema:
    """The schema of each type of a module, without their descriptions (words may change)."""
    types = types_of(name)
    _, components = msgspec.json.schema_components(types, ref_template="#/{name}")
    own = sorted({each.__name__ for each in types} & set(components))
    return {key: json.loads(json.dumps(wordless(components[key]))) for key in own}


def wordless(schema: Any) -> Any:
    """Drop titles and descriptions: the shape is what a reader of old data depends on."""
    if isinstance(schema, dict):
        words = {key for key in ("title", "description") if isinstance(schema.get(key), str)}
        return {key: wordless(value) for key, value in schema.items() if key not in words}
    return [wordless(each) for each in schema] if isinstance(schema, list | tuple) else schema


def recorded(name: str) -> Schema:
    """What is committed; nothing for a new module."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def broken(old: Any, new: Any, where: str = "") -> list[str]:
    """Every way in which `new` could not read what `old` wrote."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [fault for key in old for fault in _broken_key(key, old, new, where)] + _newly_required(old, new, where)
    if old != new:
        return [f"{where}: was {old!r}, is {new!r}"]
    return []


def _broken_key(key: str, old: Schema, new: Schema, where: str) -> list[str]:
    if key == "required":
        return []
    if key not in new:
        return [] if key == "default" else [f"{where}/{key}: is gone"]
    if key in ("enum", "anyOf"):
        return [f"{where}/{key}: lost {each!r}" for each in old[key] if each not in new[key]]
    if key == "default" or (key == "discriminator"):
        return []
    return broken(old[key], new[key], f"{where}/{key}")


def _newly_required(old: Schema, new: Schema, where: str) -> list[str]:
    if "properties" not in old:
        return []
    gained = sorted(set(new.get("required", [])) - set(old.get("required", [])))
    return [f"{where}/{name}: is required, and older data has none: give it a default" for name in gained]


def main() -> int:
    """Record the present schemas."""
    FOLDER.mkdir(exist_ok=True)
    faults = [fault for name in module_names() for fault in broken(recorded(name), present(name), name)]
    if faults and "--force" not in sys.argv:
        print("\n".join(faults))
        return 1
    for name in module_names():
        if schema := present(name):
            (FOLDER / f"{name}.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
