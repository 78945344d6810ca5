"""Catalogue files: read, brought into one shape, and laid over each other, each item with the place that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from stead import documents
from stead.catalog import originals
from stead.documents import Document, Place
from stead.model.catalog import MetricCatalogEntry, PlaybookDefinition
from stead.model.cleaning import CleaningRule
from stead.model.errors import Problem

FOLDER: Final = Path(__file__).parent
POLICY: Final = "policy.yaml"
_FIRST: Final = ("metrics.yaml", "playbooks.yaml")
SHIPPED: Final = tuple(  # every YAML file of the folder but the policy: the two general ones first, then by name
    sorted(
        (file for file in FOLDER.glob("*.yaml") if file.name != POLICY),
        key=lambda file: (_FIRST.index(file.name) if file.name in _FIRST else len(_FIRST), file.name),
    )
)


class CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a catalogue file may hold."""

    metrics: tuple[MetricCatalogEntry, ...] = ()
    playbooks: tuple[PlaybookDefinition, ...] = ()
    cleaning: tuple[CleaningRule, ...] = ()  # the allow-list of files


class Item(msgspec.Struct, frozen=True):
    """A metric, playbook or rule of the allow-list, and where it stands."""

    value: Any  # MetricCatalogEntry, PlaybookDefinition or CleaningRule
    raw: dict[str, Any]
    document: Document
    place: Place

    def where(self, *keys: str | int) -> str:
        """The file and line of one of its keys."""
        return self.document.where((*self.place, *keys))


class Laid(msgspec.Struct, frozen=True):
    """All files laid over each other: items by id, and what is wrong so far."""

    metrics: dict[str, Item]
    playbooks: dict[str, Item]
    problems: list[Problem]
    texts: list[str]
    cleaning: dict[str, Item] = {}


def overlay_files(overlay: str) -> list[Path]:
    """The catalogue files that an overlay names: the file itself, or every YAML file of the folder but the policy."""
    path = Path(overlay)
    if not path.is_dir():
        return [path]
    return [file for file in sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if file.name != POLICY]


def lay(groups: Sequence[Sequence[Path]]) -> Laid:
    """Read groups of files. An id may come again in a later group, which replaces it, but not within one."""
    laid = Laid({}, {}, [], [], {})
    for group in groups:
        seen: dict[tuple[str, str], str] = {}
        for path in group:
            text = documents.text_of(path)
            laid.texts.append(text)
            document = documents.parse(text, str(path))
            _lay_one(document, laid, seen)
    return laid


def _lay_one(document: Document, laid: Laid, seen: dict[tuple[str, str], str]) -> None:
    if document.value is None:
        return
    made = msgspec.structs.replace(document, value=_in_shape(document.value, laid))
    shape = documents.problems(made, CatalogFile, code="catalog")
    laid.problems.extend(shape)
    spoilt = {name for name in ("metrics", "playbooks", "cleaning") if not _is_list(made.value, name)}
    broken = {problem.where for problem in shape}
    for section, key, kind, items in (
        ("metrics", "metric_id", MetricCatalogEntry, laid.metrics),
        ("playbooks", "playbook_id", PlaybookDefinition, laid.playbooks),
        ("cleaning", "category", CleaningRule, laid.cleaning),
    ):
        if section in spoilt:
            continue
        for index, raw in enumerate(made.value[section]):
            place: Place = (section, index)
            value = _made(raw, kind) if broken or shape else msgspec.convert(raw, kind)
            if value is None:
                continue
            item = Item(value, raw, made, place)
            name = raw[key]
            if (section, name) in seen:
                what = f"{name} is defined twice, first at {seen[section, name]}"
                laid.problems.append(documents.problem(what, item.where(key), "remove or rename one", "catalog.twice"))
                continue
            seen[section, name] = item.where(key)
            items[name] = _under_its_names(item, items.get(name))


def _under_its_names(item: Item, replaced: Item | None) -> Item:
    """A playbook that replaces another still answers to that one's aliases: metrics refer to them."""
    if replaced is None or not isinstance(item.value, PlaybookDefinition) or "aliases" in item.raw:
        return item
    value = msgspec.structs.replace(item.value, aliases=replaced.value.aliases)
    return msgspec.structs.replace(item, value=value)


def _made(raw: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        return None  # reported already, with its line


def _is_list(value: Any, section: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(section), list)


def _in_shape(value: Any, laid: Laid) -> Any:
    if not isinstance(value, dict):
        return value
    made = dict(value)
    if isinstance(value.get("metrics"), list):
        made["metrics"] = [originals.metric(raw) for raw in value["metrics"]]
    if isinstance(value.get("playbooks"), list):
        made["playbooks"] = list(_playbooks(value["playbooks"], laid))
    return {key: item for key, item in made.items() if item is not None}


def _playbooks(raws: Sequence[Any], laid: Laid) -> Iterator[Any]:
    for raw in raws:
        if not originals.is_foreign(raw):
            yield {k: v for k, v in raw.items() if v is not None} if isinstance(raw, dict) else raw
            continue
        original = originals.playbook(raw)
        under = laid.playbooks.get(str(original["playbook_id"]))
        yield originals.laid_over(original, under.raw if under else None)
