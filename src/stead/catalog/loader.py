"""The catalogue in use: the shipped files, and what people lay over them, checked and with its aliases resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import msgspec

from stead.catalog.checks import BUILT_IN_STATES, check
from stead.catalog.files import SHIPPED, Laid, lay, overlay_files
from stead.model.catalog import Catalog, MetricCatalogEntry, PlaybookDefinition
from stead.model.errors import SteadError


def load_catalog(
    overlay: str = "", *, known_metrics: Collection[str] | None = None, actuators: Collection[str] | None = None
) -> Catalog:
    """Load the shipped catalogue with an overlay, a file or a folder. Raises SteadError (exit code 2) with file and line.

    `known_metrics`: what the probes here emit; any other catalogued metric becomes unsupported. `actuators`: those
    that are here; a playbook that needs another becomes unsupported. None: not known, so nothing is marked.
    """
    laid = lay([SHIPPED, overlay_files(overlay)] if overlay else [SHIPPED])
    found = [*laid.problems, *check(laid, BUILT_IN_STATES, strict=False, known_metrics=known_metrics or ())]
    if found:
        raise SteadError.of(found[0])
    return _catalog(laid, known_metrics, actuators)


def _catalog(laid: Laid, known_metrics: Collection[str] | None, actuators: Collection[str] | None) -> Catalog:
    playbooks = {name: item.value for name, item in laid.playbooks.items()}
    canonical = {alias: one.playbook_id for one in playbooks.values() for alias in one.aliases}
    version = hashlib.sha256("\0".join(laid.texts).encode()).hexdigest()
    return Catalog(
        {name: _metric(item.value, canonical, known_metrics) for name, item in laid.metrics.items()},
        {name: _playbook(one, canonical, actuators) for name, one in playbooks.items()},
        version,
        tuple(item.value for item in laid.cleaning.values()),
    )


def _metric(entry: MetricCatalogEntry, canonical: dict[str, str], known: Collection[str] | None) -> MetricCatalogEntry:
    unsupported = entry.unsupported
    if not unsupported and known is not None and entry.metric_id not in known:
        unsupported = "no probe here gives it"
    return msgspec.structs.replace(entry, playbooks=_resolved(entry.playbooks, canonical), unsupported=unsupported)


def _playbook(one: PlaybookDefinition, canonical: dict[str, str], actuators: Collection[str] | None) -> PlaybookDefinition:
    unsupported = one.unsupported
    missing = [setting.actuator for setting in one.settings if actuators is not None and setting.actuator not in actuators]
    if not unsupported and missing:
        unsupported = f"no actuator {missing[0]} here"
    return msgspec.structs.replace(one, chain=_resolved(one.chain, canonical), unsupported=unsupported)


def _resolved(names: Iterable[str], canonical: dict[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(canonical.get(name, name) for name in names))
