"""YAML that people write, read so that every mistake can name its file, its line and its key.

`parse` gives plain values and, beside them, where each one stood. `problems` compares them with the structs that they
should become. The YAML nodes themselves are dropped at once: the agent keeps none of them.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from stead.model.errors import EXIT_USAGE, Problem, SteadError

Key = str | int
Place = tuple[Key, ...]  # ("workloads", 0, "name")
Spot = tuple[str, int | None]  # file (or variable) and line

_LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NODES: Final = 200_000  # a document with more (a bomb of aliases) is refused
_DEPTH: Final = 60
_KINDS: Final = {
    **{"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"},
    **{"object": "a map", "array": "a list", "null": "nothing"},
}


class Document(msgspec.Struct, frozen=True):
    """Plain values, and where each stood. `value` is None for an empty document."""

    name: str
    value: Any
    spots: dict[Place, Spot] = {}

    def where(self, place: Place) -> str:
        """The file and line of a place, or of the nearest thing around it."""
        for end in range(len(place), -1, -1):
            spot = self.spots.get(place[:end])
            if spot:
                return spot[0] if spot[1] is None else f"{spot[0]}, line {spot[1]}"
        return self.name


def parse(text: str, name: str) -> Document:
    """Read one YAML document. Raises SteadError with file and line for what is not YAML, or gives a key twice."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        what = f"this is not YAML: {error.problem or error.context}"
        raise wrong(what, where, "mend that line", code="document.not-yaml") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise wrong(f"this is not YAML: {error}".splitlines()[0], name, "mend it", code="document.not-yaml") from None
    if node is None:
        return Document(name, None)
    spots: dict[Place, Spot] = {}
    return Document(name, _Values(name, spots).of(node, ()), spots)


def read(path: str | Path) -> Document:
    """Read a YAML file. Raises SteadError when it can't be read or is not YAML."""
    return parse(text_of(path), str(path))


def text_of(path: str | Path) -> str:
    """A file's text, or a SteadError that says why not."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        fix = "check that it exists and that stead may read it"
        raise wrong(f"can't read it: {error.strerror}", str(path), fix, code="document.unreadable") from None
    except UnicodeDecodeError:
        raise wrong("it is not text in UTF-8", str(path), "save it as UTF-8", code="document.not-yaml") from None


def merge(under: Document, over: Document) -> Document:
    """Lay one document over another: maps join key by key, everything else is replaced whole."""
    spots = dict(under.spots)
    value = _merged(under.value, over.value, (), spots, over.spots)
    return Document(over.name, value, spots)


def wrong(what: str, where: str, fix: str, *, code: str) -> SteadError:
    """The error for something that a person wrote: exit code 2."""
    return SteadError(what, where, fix, code=code, exit_code=EXIT_USAGE)


def problem(what: str, where: str, fix: str, code: str) -> Problem:
    """The same as a value."""
    return Problem(what, where, fix, code, EXIT_USAGE)


def shown(place: Place) -> str:
    """A place as people write it: workloads[0].name."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return text.lstrip(".") or "the document"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to do about an unknown word: the nearest known one, or all of them."""
    import difflib  # only for a mistake

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(names)}" if names else "remove it"


def problems(document: Document, kind: Any, *, code: str, at: Place = ()) -> list[Problem]:
    """Compare a document, or what is at a place in it, with the type that it should become. Empty: it fits."""
    value = document.value
    for key in at:
        value = value[key]
    return _Check(document, code).value(value, kind, at)


class _Values:
    """Makes plain values of YAML nodes, and notes where each stood."""

    def __init__(self, name: str, spots: dict[Place, Spot]) -> None:
        self._name, self._spots = name, spots
        self._scalars = yaml.constructor.SafeConstructor()
        self._count = 0

    def of(self, node: yaml.Node, place: Place) -> Any:
        self._count += 1
        line = node.start_mark.line + 1
        if self._count > _NODES or len(place) > _DEPTH:
            raise wrong(
                "it is too large or refers to itself", f"{self._name}, line {line}", "make it plain", code="document.size"
            )
        self._spots.setdefault(place, (self._name, line))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.of(item, (*place, index)) for index, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        try:
            return self._scalars.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError):
            where = f"{self._name}, line {line}"
            raise wrong(f"{node.value!r} is not a value", where, "write a plain value", code="document.not-yaml") from None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        written = {id(key) for key, _ in node.value}
        self._scalars.flatten_mapping(node)
        result: dict[str, Any] = {}
        mine: set[str] = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in mine and id(key_node) in written:
                raise wrong(f"the key {key} is given twice", f"{self._name}, line {line}", "keep one", code="document.twice")
            if id(key_node) in written:
                mine.add(key)
            self._spots[*place, key] = (self._name, line)
            result[key] = self.of(value_node, (*place, key))
        return result


def _merged(under: Any, over: Any, place: Place, spots: dict[Place, Spot], news: Mapping[Place, Spot]) -> Any:
    if over is None:
        return under
    if not (isinstance(under, dict) and isinstance(over, dict)):
        for old in [spot for spot in spots if spot[: len(place)] == place]:
            del spots[old]
        spots.update({spot: where for spot, where in news.items() if spot[: len(place)] == place})
        return over
    result = dict(under)
    for key, value in over.items():
        inner = (*place, key)
        if key in under:
            result[key] = _merged(under[key], value, inner, spots, news)
        else:
            result[key] = value
            spots.update({spot: where for spot, where in news.items() if spot[: len(inner)] == inner})
    return result


class _Check:
    """Walks values beside types, so that each mistake has its exact place."""

    def __init__(self, document: Document, code: str) -> None:
        self._document, self._code = document, code

    def value(self, value: Any, kind: Any, place: Place) -> list[Problem]:
        origin = typing.get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(value, kind, place)
        if origin is dict and isinstance(value, dict):
            inner = typing.get_args(kind)[1]
            return [found for key, item in value.items() for found in self.value(item, inner, (*place, key))]
        if origin in (tuple, list) and isinstance(value, list):
            inner = typing.get_args(kind)[0]
            return [found for index, item in enumerate(value) for found in self.value(item, inner, (*place, index))]
        if origin in (typing.Union, types.UnionType) and isinstance(value, dict):
            structs = [k for k in typing.get_args(kind) if isinstance(k, type) and issubclass(k, msgspec.Struct)]
            if len(structs) == 1:
                return self._struct(value, structs[0], place)
        return self._leaf(value, kind, place)

    def _struct(self, value: Any, kind: type[msgspec.Struct], place: Place) -> list[Problem]:
        if not isinstance(value, dict):
            return self._leaf(value, kind, place)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        found: list[Problem] = []
        for key, item in value.items():
            inner = (*place, key)
            if key in fields:
                if item is None and not fields[key].required:
                    continue  # a key with nothing after it keeps its default
                found += self.value(item, fields[key].type, inner)
            else:
                what, fix = f"unknown key {shown(inner)}", did_you_mean(key, fields)
                found.append(problem(what, self._document.where(inner), fix, f"{self._code}.unknown-key"))
        for name, field in fields.items():
            if field.required and name not in value:
                what = f"{shown(place)} lacks the key {name}"
                found.append(problem(what, self._document.where(place), f"add {name}", f"{self._code}.missing-key"))
        return found

    def _leaf(self, value: Any, kind: Any, place: Place) -> list[Problem]:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            what = f"{shown(place)} {_plainly(str(error), kind)}"
            return [problem(what, self._document.where(place), "write it as the example shows", f"{self._code}.wrong-value")]
        return []


def _plainly(message: str, kind: Any) -> str:
    """What msgspec says of a value, for people who write YAML: "should be a number, and is a text"."""
    text = message.split(" - at `")[0].replace("`", "")
    types_ = re.fullmatch(r"Expected ([a-z |]+), got ([a-z]+)", text)
    if types_ and all(word in _KINDS for word in (*types_[1].split(" | "), types_[2])):
        return f"should be {_or([_KINDS[word] for word in types_[1].split(' | ')])}, and is {_KINDS[types_[2]]}"
    given = re.fullmatch(r"Invalid enum value (.+)", text)
    choices = list(_choices(kind))
    if given and choices:
        return f"should be {_or(choices)}, and is {given[1]}"
    return f"is wrong: {text[:1].lower()}{text[1:]}"


def _choices(kind: Any) -> Iterator[str]:
    if typing.get_origin(kind) is typing.Literal:
        yield from map(str, typing.get_args(kind))
    else:
        for inner in typing.get_args(kind):
            yield from _choices(inner)


def _or(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
