"""Find: hand the interval's observations to every detector and gather what changed.

One fingerprint is one finding: when two detectors report the same one, or one reports it twice, they fold into one,
the worse band winning. Pure: the caller keeps what is open, and records what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from stead.model.catalog import Catalog
from stead.model.find import Finding, Observation
from stead.model.observe import Now
from stead.protocols import Detector

_SEVERITY: Final = {"warning": 1, "critical": 2}


def find(
    detectors: Sequence[Detector],
    observations: Sequence[Observation],
    catalog: Catalog,
    open_findings: Mapping[str, Finding],
    now: Now,
    new_id: Callable[[], str],
) -> list[Finding]:
    """The findings that changed: opened (with an id), grown, or cleared. `open_findings` is by fingerprint.

    Put the result into `open_findings` before the next call (`settle`), or it is found again.
    """
    changed: dict[str, Finding] = {}
    for detector in detectors:
        own = {key: one for key, one in open_findings.items() if one.detector == detector.name}
        for finding in detector.find(observations, catalog, own, now, new_id):
            key = finding.fingerprint
            before = changed.get(key) or open_findings.get(key)
            if before is not None and (before.id, before.detector) != (finding.id, finding.detector):
                finding = _fold(before, finding, now)
            changed[key] = finding
    return [one if one.id else msgspec.structs.replace(one, id=new_id()) for one in changed.values()]


def settle(open_findings: Mapping[str, Finding], changed: Sequence[Finding]) -> dict[str, Finding]:
    """What is open after the changes."""
    after = {**open_findings, **{one.fingerprint: one for one in changed}}
    return {key: one for key, one in after.items() if one.open}


def _fold(kept: Finding, other: Finding, now: Now) -> Finding:
    """Another occurrence of what is found already: counted, not opened again."""
    worse = other.open and _SEVERITY[other.band] > _SEVERITY[kept.band]
    return msgspec.structs.replace(
        kept,
        band=other.band if worse else kept.band,
        title=other.title if worse else kept.title,
        value=other.value if worse else kept.value,
        threshold=other.threshold if worse else kept.threshold,
        updated_ms=now.unix_ms,
        folded=kept.folded + (1 if other.open else 0),
        playbooks=(*kept.playbooks, *(one for one in other.playbooks if one not in kept.playbooks)),
    )
