"""Band findings: opening after `for`, dips, folding, escalation, clearing, unknowns, restarts and their words."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from stead.detectors.band import REFRESH_MS, BandDetector, detector
from stead.flow.find import settle
from stead.model.catalog import Catalog, Exit, MetricCatalogEntry, PlaybookDefinition, Range, Thresholds
from stead.model.find import Finding, Observation
from stead.model.observe import Band
from stead.stats.bands import band_of
from stead.stats.track import GONE, NO_DATA
from tests.stats.kit import START_MS, at, catalog, entry

HOG = "process:4711@567890"
LABELS = {"process": "sh", "pid": "4711", "command": "sh -c while :; do :; done"}


class Watched:
    """One detector over one metric, observed once a second; keeps what is open, as the pipeline does."""

    def __init__(self, item: MetricCatalogEntry, words: Catalog | None = None, subject: str = "host") -> None:
        self.item, self.catalog, self.subject = item, words or catalog(item), subject
        self.detector = BandDetector()
        self.open: dict[str, Finding] = {}
        self.band: Band = "good"
        self.second = 0.0
        self.ids = (f"id-{number}" for number in itertools.count(1))
        self.labels: dict[str, str] = {}

    def see(self, *values: float | None, reason: str = "no answer") -> list[Finding]:
        """A value a second; every finding that changed."""
        found: list[Finding] = []
        for value in values:
            band = band_of(value, self.item, self.band)
            self.band = band if value is not None else self.band
            found += self.observe(value, band, "" if value is not None else reason)
        return found

    def observe(self, value: float | None, band: Band, reason: str = "") -> list[Finding]:
        now = at(self.second)
        self.second += 1
        seen = Observation(self.item.metric_id, self.subject, value, band, now.unix_ms, reason, self.labels)
        changed = list(self.detector.find([seen], self.catalog, self.open, now, lambda: next(self.ids)))
        self.open = settle(self.open, changed)
        return changed


def watched(**given: Any) -> Watched:
    return Watched(entry(**{"for_s": 30.0, "clear_s": 10.0} | given))


def test_opens_when_it_has_been_bad_for_long_enough_and_not_before() -> None:
    target = watched()
    assert target.see(*[400.0] * 30) == []
    [finding] = target.see(410.0)
    assert (finding.id, finding.band, finding.value, finding.threshold) == ("id-1", "warning", 410.0, 350)
    assert (finding.since_ms, finding.opened_ms) == (START_MS, START_MS + 30_000)
    assert len(finding.evidence) == 31
    assert finding.evidence[-1] == (START_MS + 30_000, 410.0)
    assert finding.open


def test_a_tick_a_little_early_is_on_time() -> None:
    target = watched()
    target.see(400.0)
    target.second = 29.9
    [finding] = target.see(400.0)
    assert finding.opened_ms == START_MS + 29_900


def test_without_for_the_first_bad_observation_opens() -> None:
    [finding] = watched(for_s=0.0).see(400.0)
    assert finding.opened_ms == finding.since_ms == START_MS


def test_a_dip_above_the_exit_level_does_not_start_again() -> None:
    target = watched()
    [finding] = target.see(*[400.0] * 15, 320.0, *[400.0] * 15)
    assert finding.since_ms == START_MS


def test_a_dip_beyond_the_exit_level_starts_again() -> None:
    target = watched()
    assert target.see(*[400.0] * 15, 290.0, *[400.0] * 30) == []
    [finding] = target.see(400.0)
    assert finding.since_ms == START_MS + 16_000


def test_more_of_the_same_folds_and_is_told_once_a_minute() -> None:
    target = watched(for_s=0.0)
    target.see(400.0)
    told = target.see(*[401.0] * 180)
    assert [one.updated_ms - START_MS for one in told] == [REFRESH_MS, 2 * REFRESH_MS, 3 * REFRESH_MS]
    assert [one.folded for one in told] == [60, 120, 180]
    assert {one.id for one in told} == {"id-1"}
    assert len(told[-1].evidence) == 60


def test_turns_critical_after_for_in_critical_and_back_after_clear_below() -> None:
    target = watched(for_s=5.0)
    [opened] = target.see(*[400.0] * 6)
    assert target.see(*[600.0] * 5) == []
    [worse] = target.see(600.0)
    assert (worse.id, worse.band, worse.threshold, worse.opened_ms) == (opened.id, "critical", 500, opened.opened_ms)
    assert "critical" in worse.title
    [better] = target.see(*[400.0] * 12)
    assert (better.id, better.band) == (opened.id, "warning")


def test_opens_as_critical_when_critical_held_all_the_time() -> None:
    [finding] = watched(for_s=3.0).see(*[600.0] * 4)
    assert finding.band == "critical"


def test_clears_after_clear_s_back_inside() -> None:
    target = watched(for_s=0.0)
    target.see(400.0)
    assert target.see(*[100.0] * 10) == []
    [cleared] = target.see(100.0)
    assert (cleared.id, cleared.open, cleared.cleared_ms) == ("id-1", False, START_MS + 11_000)
    assert target.open == {}
    [again] = target.see(400.0)
    assert again.id == "id-2"


def test_a_relapse_before_clear_s_keeps_it_open() -> None:
    target = watched(for_s=0.0)
    target.see(400.0)
    assert [one for one in target.see(*[100.0] * 9, 400.0, *[100.0] * 10) if not one.open] == []
    assert [one.open for one in target.see(100.0)] == [False]


def test_one_good_interval_longer_than_clear_s_clears() -> None:
    target = watched(for_s=0.0, recommended_interval_seconds=60)
    target.see(400.0)
    assert [one.open for one in target.see(100.0)] == [False]


def test_unknown_neither_opens_nor_clears_and_does_not_count() -> None:
    target = watched()
    assert target.see(*[400.0] * 20, *[None] * 40, *[400.0] * 10) == []
    [finding] = target.see(400.0)
    assert finding.opened_ms == START_MS + 70_000
    assert target.see(*[100.0] * 5) == []
    [stale] = target.see(*[None] * 30)
    assert stale.open
    assert stale.labels["stale"] == "no answer"
    [fresh] = target.see(100.0)
    assert fresh.open
    assert "stale" not in fresh.labels
    assert target.see(*[100.0] * 4) == []
    assert [one.open for one in target.see(100.0)] == [False]


def test_a_breach_by_missing_data_opens_and_says_so() -> None:
    target = watched(no_data="breach", for_s=2.0, title="Latency")
    [finding] = target.see(None, None, None, reason="hangs")
    assert (finding.band, finding.value, finding.threshold) == ("critical", None, None)
    assert finding.title == "Latency reads nothing, which counts as critical: hangs"


def test_a_source_that_falls_silent_leaves_the_finding_open_and_stale() -> None:
    target = watched(for_s=0.0)
    target.see(400.0)
    [stale] = target.observe(None, "unknown", NO_DATA)
    assert stale.open
    assert stale.labels == {"stale": NO_DATA}


def test_a_subject_that_is_gone_clears_its_finding() -> None:
    target = Watched(entry(for_s=0.0), subject=HOG)
    target.see(400.0)
    [cleared] = target.observe(None, "unknown", GONE)
    assert not cleared.open
    assert cleared.labels["cleared"] == "no longer among those reported"
    assert target.observe(None, "unknown", GONE) == []


def test_after_a_restart_it_goes_on_with_what_is_open() -> None:
    before = watched(for_s=0.0)
    before.see(400.0)
    after = watched(for_s=0.0)
    after.open, after.second = before.open, 100
    assert after.see(400.0) == []
    [cleared] = after.see(*[100.0] * 11)
    assert cleared.id == "id-1"
    assert not cleared.open


def test_a_finding_of_a_process_names_it() -> None:
    item = entry(
        "infra.process_cpu_cores",
        unit="cores",
        for_s=30.0,
        thresholds=Thresholds((Range(upper=0.9),), (Range(lower=0.9),)),
        exit=Exit(warning=0.7),
        finding="{process} (pid {pid}) has used {value} cores for {for}",
    )
    target = Watched(item, subject=HOG)
    target.labels = LABELS
    [finding] = target.see(*[1.0] * 31)
    assert finding.title == "sh (pid 4711) has used 1.0 cores for 30 s"
    assert finding.labels == LABELS


@pytest.mark.parametrize("template", ["{process", "{0} of {value!q}", "{value.real.x} {}"])
def test_a_template_that_can_not_be_filled_gives_way_to_the_plain_sentence(template: str) -> None:
    [finding] = watched(for_s=0.0, finding=template, title="Latency").see(400.0)
    assert finding.title == "Latency is 400 ms (warning at 350 ms)"


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        ("percent", 612.5, "612 %"),
        ("bytes", 4.2e9, "3.91 GiB"),
        ("bytes_per_second", 5e6, "4.77 MiB/s"),
        ("count", 2000.0, "2000"),
        ("cores", 600.04, "600 cores"),
        ("seconds", 1e4, "10000 s"),
    ],
)
def test_values_read_as_people_write_them(unit: str, value: float, words: str) -> None:
    [finding] = watched(for_s=0.0, unit=unit, title="It").see(value)
    assert finding.title.startswith(f"It is {words} (critical at ")


def test_playbooks_are_those_for_the_band() -> None:
    mild, strong = PlaybookDefinition("calm", band="warning"), PlaybookDefinition("fail-over", band="critical")
    item = entry(for_s=0.0, playbooks=("calm", "fail-over"))
    target = Watched(item, catalog(item, playbooks=(mild, strong)))
    assert target.see(400.0)[0].playbooks == ("calm",)
    assert target.see(600.0)[0].playbooks == ("calm", "fail-over")


def test_what_is_good_or_not_catalogued_leaves_no_trace() -> None:
    target = watched()
    target.see(*[100.0] * 50, 400.0, 100.0)
    stranger = Observation("no.such", "host", 1e9, "critical", START_MS)
    assert target.detector.find([stranger], target.catalog, {}, at(60), lambda: "id") == []
    assert target.detector._watches == {}


def test_the_entry_point_makes_a_fresh_one() -> None:
    assert detector() is not detector()
    assert detector().name == "band"
