"""Find: several detectors, one list of changed findings, one finding a fingerprint."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from stead.detectors.band import BandDetector
from stead.flow.find import find, settle
from stead.model.catalog import Catalog
from stead.model.find import Finding, Observation
from stead.model.observe import Now
from tests.stats.kit import START_MS, at, catalog, entry

CATALOG = catalog(entry(for_s=0.0))


class Fixed:
    """A detector that reports what it is given, and notes which open findings it was shown."""

    def __init__(self, name: str, *findings: Finding) -> None:
        self.name, self.findings, self.shown = name, findings, {}

    def find(
        self,
        observations: Sequence[Observation],
        catalog: Catalog,
        open_findings: Mapping[str, Finding],
        now: Now,
        new_id: Callable[[], str],
    ) -> Sequence[Finding]:
        self.shown = dict(open_findings)
        return self.findings


def finding(fingerprint: str = "x", **given: object) -> Finding:
    plain = Finding(
        id="", fingerprint=fingerprint, detector="a", metric="api.latency", subject="host", band="warning", title="slow",
        value=400.0, threshold=350.0, unit="milliseconds", since_ms=START_MS, opened_ms=START_MS, updated_ms=START_MS,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **given)


def run(detectors: list[object], open_findings: dict[str, Finding] | None = None) -> list[Finding]:
    return find(detectors, [], CATALOG, open_findings or {}, at(5), lambda: "new")  # type: ignore[arg-type]


def test_new_findings_get_an_id_and_old_ones_keep_theirs() -> None:
    grown = finding("y", id="old", folded=3)
    assert [one.id for one in run([Fixed("a", finding("x"), grown)], {"y": finding("y", id="old")})] == ["new", "old"]


def test_a_detector_is_shown_its_own_open_findings_only() -> None:
    one, other = Fixed("a"), Fixed("b")
    run([one, other], {"x": finding("x", id="1"), "z": finding("z", id="2", detector="b")})
    assert (list(one.shown), list(other.shown)) == (["x"], ["z"])


def test_one_fingerprint_from_two_detectors_is_one_finding_of_the_worse_band() -> None:
    worse = finding("x", detector="b", band="critical", title="very slow", value=900.0, playbooks=("calm",))
    [both] = run([Fixed("a", finding("x", playbooks=("wait",))), Fixed("b", worse)])
    assert (both.detector, both.band, both.title, both.value, both.folded) == ("a", "critical", "very slow", 900.0, 1)
    assert both.playbooks == ("wait", "calm")


def test_what_another_detector_has_open_is_counted_and_not_opened_again() -> None:
    [folded] = run([Fixed("b", finding("x", detector="b"))], {"x": finding("x", id="1", folded=4)})
    assert (folded.id, folded.detector, folded.folded, folded.band) == ("1", "a", 5, "warning")


def test_settle_keeps_what_is_open() -> None:
    opened = {"x": finding("x", id="1"), "y": finding("y", id="2")}
    after = settle(opened, [finding("y", id="2", cleared_ms=START_MS), finding("z", id="3")])
    assert sorted(after) == ["x", "z"]
    assert sorted(opened) == ["x", "y"]


def test_with_the_real_detector_nothing_is_found_twice() -> None:
    detectors, opened, changes = [BandDetector()], {}, []
    ids = (f"id-{number}" for number in itertools.count())
    for second in range(40):
        seen = Observation("api.latency", "host", 400.0, "warning", at(second).unix_ms)
        changed = find(detectors, [seen, seen], CATALOG, opened, at(second), lambda: next(ids))
        opened = settle(opened, changed)
        changes += changed
    assert [(one.id, one.band) for one in changes] == [("id-0", "warning")]
