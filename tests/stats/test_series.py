"""The series in memory: evaluation intervals, unknowns, vanishing subjects, windows, labels and bounds."""

from __future__ import annotations

import itertools
import math

import pytest

from stead.model.catalog import MetricCatalogEntry
from stead.model.find import Observation
from stead.model.observe import Fact, MetricSpec, Sample
from stead.stats.series import Series
from stead.stats.sketch import Sketch
from stead.stats.track import GONE, NO_DATA
from tests.stats.kit import START_MS, at, catalog, entry, predicting, sample

HOG = "process:4711@567890"


def series(*entries: MetricCatalogEntry, **given: float) -> Series:
    specs = {
        "infra.load": MetricSpec("infra.load", "count", "Load"),
        "infra.threads": MetricSpec("infra.threads", "count", "Threads"),
    }
    return Series(specs, catalog(*entries), **given)  # type: ignore[arg-type]


def play(target: Series, values: list[float | None], every_s: float = 1.0, start_s: float = 0.0) -> list[Observation]:
    """One sample a tick; everything observed."""
    found = []
    for number, value in enumerate(values):
        now = at(start_s + number * every_s)
        target.add([sample(value)], now)
        found += target.observations(now)
    return found


def test_with_an_interval_of_a_second_the_observation_comes_in_the_tick_of_its_sample() -> None:
    target = series(entry())
    now = at(0)
    target.add([sample(400)], now)
    [seen] = target.observations(now)
    assert (seen.value, seen.band, seen.at_ms) == (400, "warning", START_MS)
    target.add([sample(700)], at(0.97))
    assert [one.value for one in target.observations(at(0.97))] == [700]


@pytest.mark.parametrize(
    ("how", "value"), [("avg", 5.5), ("max", 10), ("min", 1), ("sum", 55), ("last", 10), ("p95", pytest.approx(9, rel=0.01))]
)
def test_an_interval_is_aggregated_as_the_catalogue_says(how: str, value: float) -> None:
    target = series(entry(recommended_interval_seconds=10, aggregation=how))
    found = play(target, [*map(float, range(1, 11)), 99.0, 99.0, 99.0])
    assert [one.value for one in found] == [value]


@pytest.mark.parametrize("jitter", [0.0, 0.004, -0.004])
def test_ticks_that_come_a_little_early_or_late_do_not_shift_intervals(jitter: float) -> None:
    target = series(entry(recommended_interval_seconds=5))
    seen = []
    for tick in range(101):
        now = at(tick + (jitter if tick % 2 else -jitter))
        target.add([sample(float(tick))], now)
        seen += target.observations(now)
    assert len(seen) == 20
    assert all(later.value - sooner.value == pytest.approx(5, abs=1.01) for sooner, later in itertools.pairwise(seen))


def test_an_interval_of_unknown_samples_is_unknown_with_their_reason() -> None:
    found = play(series(entry(recommended_interval_seconds=3)), [1, 1, 1, None, None, None, 2, 2, 2, 2])
    assert [(one.value, one.band, one.reason) for one in found] == [
        (1, "good", ""),
        (None, "unknown", "no answer"),
        (2, "good", ""),
    ]


def test_unknown_is_a_breach_where_the_catalogue_says_so() -> None:
    [first] = play(series(entry(no_data="breach")), [None])
    assert (first.value, first.band) == (None, "critical")


def test_too_few_samples_are_unknown() -> None:
    found = play(series(entry(recommended_interval_seconds=4, min_samples=3)), [9, None, None, 9, None, None, None, None])
    assert found[0].value is None
    assert found[0].reason == "2 of the 3 samples that it takes"


def test_a_known_value_keeps_the_reason_that_came_with_it() -> None:
    target = series(entry())
    target.add([Sample("api.latency", "host", 600.0, "hangs")], at(0))
    assert target.observations(at(0))[0].reason == "hangs"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_unknown(bad: float) -> None:
    target = series(entry())
    [seen] = play(target, [bad])
    assert (seen.value, seen.reason) == (None, "not a finite number")
    assert target.value("api.latency", "host") is None


def test_hysteresis_runs_through_the_series_and_outlasts_a_gap() -> None:
    found = play(series(entry()), [400, 340, None, 340, 300, 340])
    assert [one.band for one in found] == ["warning", "warning", "unknown", "warning", "good", "good"]


def vanish(target: Series, beside: list[Sample], seconds: int = 30) -> list[Observation]:
    """A process is seen for three ticks, then never again; `beside` goes on. What is observed of the process."""
    found = []
    for second in range(seconds):
        now = at(second)
        target.add([*beside, *([sample(1.0, subject=HOG)] if second < 3 else [])], now)
        found += [one for one in target.observations(now) if one.subject == HOG]
    return found


def test_a_subject_that_vanishes_says_so_once_and_is_dropped() -> None:
    target = series(entry())
    found = vanish(target, [])
    assert [(one.value, one.reason) for one in found[3:]] == [(None, NO_DATA)]
    assert target.latest("api.latency", HOG) is None
    assert len(target) == 0


@pytest.mark.parametrize(
    "beside", [sample(1.0, subject="process:1@1"), Sample("infra.processes_total", "host", 90.0)], ids=["sibling", "table"]
)
def test_while_its_source_lives_a_vanished_process_is_gone(beside: Sample) -> None:
    assert [(one.value, one.reason) for one in vanish(series(entry()), [beside])[3:]] == [(None, GONE)]


def test_a_source_that_only_says_unknown_does_not_live() -> None:
    assert [one.reason for one in vanish(series(entry()), [sample(None, "infra.processes_total")])[3:]] == [NO_DATA]


def test_a_probe_slower_than_the_evaluation_interval_does_not_vanish() -> None:
    found = play(series(entry(recommended_interval_seconds=2)), [float(n) for n in range(12)], every_s=7)
    assert None not in [one.value for one in found]


def test_what_is_expected_after_a_restart_and_never_comes_is_gone() -> None:
    target = series(entry())
    target.expect("api.latency", HOG, at(0))
    seen = []
    for second in range(60):
        target.add([Sample("infra.processes_total", "host", 90.0)], at(second))
        seen += target.observations(at(second))
    assert [(one.subject, one.value, one.reason) for one in seen] == [(HOG, None, GONE)]


def test_what_is_expected_and_comes_is_as_if_it_had_always_been_there() -> None:
    target = series(entry())
    target.expect("api.latency", "host", at(0))
    assert [one.value for one in play(target, [1.0] * 40, start_s=1)] == [1.0] * 40


def test_snapshots_have_counts_quantiles_times_and_violations() -> None:
    target = series(entry(), snapshot_s=60)
    play(target, [100.0] * 20 + [400.0] * 20 + [None] * 10 + [600.0] * 10)
    [shot] = target.close_window(at(60))
    assert (shot.start_ms, shot.end_ms) == (START_MS, START_MS + 60_000)
    assert (shot.count, shot.unknown, shot.min, shot.max, shot.avg) == (50, 10, 100.0, 600.0, 320.0)
    assert shot.p50 == pytest.approx(400, rel=0.01)
    assert shot.violations == 2  # into warning, then from there into critical
    assert (shot.good_s, shot.warning_s, shot.unknown_s, shot.critical_s) == (19.0, 20.0, 10.0, 11.0)
    assert Sketch.decode(shot.sketch).count == 50
    assert target.close_window(at(61)) == []


def test_windows_end_at_multiples_of_the_wall_clock_also_in_mid_interval() -> None:
    target = series(entry(recommended_interval_seconds=45), snapshot_s=60)
    shots = []
    for second in range(30, 200):
        target.add([sample(float(second))], at(second))
        target.observations(at(second))
        shots += target.close_window(at(second))
    assert [(one.start_ms - START_MS, one.end_ms - START_MS) for one in shots] == [
        (30_000, 60_000),
        (60_000, 120_000),
        (120_000, 180_000),
    ]
    assert sum(one.count for one in shots) == 151
    assert [one.good_s + one.unknown_s for one in shots] == [30.0, 60.0, 60.0]


def test_a_clock_set_back_closes_the_window_and_loses_nothing() -> None:
    target = series(entry(), snapshot_s=60)
    play(target, [1.0] * 30)
    back = at(30, start_ms=START_MS - 7_200_000)
    target.add([sample(2.0)], back)
    [shot] = target.close_window(back)
    assert shot.count == 31
    assert target.close_window(at(31, start_ms=START_MS - 7_200_000)) == []


def test_an_uncatalogued_metric_has_snapshots_but_is_not_observed() -> None:
    target = series(entry(), snapshot_s=60)
    for second in range(60):
        target.add([Sample("infra.load", "host", 2.0)], at(second))
        assert target.observations(at(second)) == []
    [shot] = target.close_window(at(60))
    assert (shot.metric_id, shot.count, shot.avg) == ("infra.load", 60, 2.0)


def test_a_process_is_summarised_only_where_it_is_catalogued() -> None:
    target = series(entry(), snapshot_s=60)
    for second in range(60):
        target.add([Sample("infra.threads", HOG, 8.0), sample(1.0, subject=HOG)], at(second))
        target.observations(at(second))
    assert [shot.metric_id for shot in target.close_window(at(60))] == ["api.latency"]


def test_the_window_of_a_subject_that_vanished_is_kept_for_its_snapshot() -> None:
    target = series(entry(), snapshot_s=300)
    vanish(target, [], seconds=100)
    [shot] = target.close_window(at(300))
    assert (shot.subject, shot.count) == (HOG, 3)


def test_labels_name_the_process() -> None:
    target = series(entry())
    target.add_facts([Fact("process", HOG, "sh: sh -c while :; do :; done"), Fact("os", "host", "Debian")])
    target.add([sample(700.0, subject=HOG), sample(1.0)], at(0))
    hog, host = target.observations(at(0))
    assert hog.labels == {"process": "sh", "pid": "4711", "command": "sh -c while :; do :; done"}
    assert host.labels == {}


def test_labels_of_vanished_processes_do_not_pile_up() -> None:
    target = series(entry())
    for pid in range(5000):
        target.add_facts([Fact("process", f"process:{pid}@1", f"sh: sh {pid}")])
    assert len(target._labels) < 100


def test_what_speaks_when_something_changes_and_else_now_and_then_does_not_vanish_between() -> None:
    target = series(entry())
    for second in range(200):
        if second % 60 == 0 or second in (61, 62, 63):
            target.add([sample(1.0)], at(second))
        assert all(one.reason not in (GONE, NO_DATA) for one in target.observations(at(second)))


def test_the_number_of_series_is_bounded_and_what_is_refused_is_counted() -> None:
    target = series(entry(), capacity=10)
    target.add([sample(1.0, subject=f"core:{n}") for n in range(25)], at(0))
    target.add([sample(1.0, subject=f"core:{n}") for n in range(25)], at(1))
    assert (len(target), target.dropped) == (10, 30)


def test_mean_answers_for_predicted_metrics_only() -> None:
    both = catalog(entry(), entry("api.errors"), playbooks=(predicting("api.errors"),))
    target = Series({}, both)
    for second in range(1000):
        samples = [sample(float(second), "api.errors", "workload:web"), sample(5.0), sample(7.0, "api.errors")]
        target.add(samples, at(second))
        target.observations(at(second))
    mono = at(0).mono_ms
    assert target.mean("api.errors", "workload:web", mono + 990_000, mono + 999_000) == 994.5
    assert target.readings("api.errors", "workload:web", mono + 998_000, mono + 999_000) == [998.0, 999.0]
    assert target.mean("api.errors", "host", mono + 900_000, mono + 999_000) == 7.0
    assert target.mean("api.latency", "host", mono, mono + 999_000) is None
    assert target.mean("api.errors", "workload:web", mono, mono + 10_000) is None  # over 15 minutes ago


def test_views_show_every_series_as_it_is() -> None:
    target = series(entry(title="Latency"))
    target.add([sample(600.0), Sample("infra.load", "host", None, "no file")], at(0))
    target.observations(at(0))
    latency, load = target.views()
    assert (latency.value, latency.band, latency.unit, latency.title, latency.catalogued) == (
        600.0,
        "critical",
        "milliseconds",
        "Latency",
        True,
    )
    assert (load.value, load.band, load.unit, load.reason, load.catalogued) == (None, "unknown", "count", "no file", False)
    assert [view.metric for view in target.views(lambda metric, subject: metric == "infra.load")] == ["infra.load"]


@pytest.mark.parametrize("metric", ["api.latency", "infra.threads"])
def test_a_process_that_ended_is_not_shown_for_long(metric: str) -> None:
    target = series(entry())
    beside = sample(1.0, "infra.load")
    for second in range(10):
        target.add([sample(2.0, metric, HOG), beside] if second < 3 else [beside], at(second))
        target.observations(at(second))
        shown = {view.subject for view in target.views()}
        assert (HOG in shown) == (second <= 7), second


def test_a_value_that_is_seldom_read_is_shown_all_the_time() -> None:
    target = series(entry("infra.disk_usage", recommended_interval_seconds=60.0))
    for second in range(300):
        slow = [sample(40.0, "infra.disk_usage", "mount:/")] if second % 60 == 0 else []
        target.add([*slow, sample(1.0, "infra.load")], at(second))
        target.observations(at(second))
        assert "mount:/" in {view.subject for view in target.views()}, second


def test_what_a_slow_probe_reads_for_a_fast_metric_is_shown_from_the_first_value_on() -> None:
    target = series(entry())  # evaluated each second; read each thirty
    for second in range(100):
        if second % 30 == 0:
            target.add([sample(1.0)], at(second))
        seen = target.observations(at(second))
        assert [one.value for one in seen] in ([], [1.0])
        assert [view.value for view in target.views()] == [1.0]


BATCH = "cgroup:/batch.slice@cpu.31"


def test_labels_name_a_contender_and_whom_it_holds_up() -> None:
    target = series(entry())
    target.add_facts(
        [Fact("process", HOG, "make: make -j8"), Fact("called", HOG, "make (pid 4711)"), Fact("holds_up", HOG, "web")]
    )
    target.add_facts([Fact("called", BATCH, "batch.slice"), Fact("by_intent", BATCH, "cgroup:/batch*"), Fact("size", BATCH, "3")])
    target.add([sample(700.0, subject=HOG), sample(700.0, subject=BATCH)], at(0))
    hog, batch = target.observations(at(0))
    assert hog.labels == {
        "process": "make",
        "pid": "4711",
        "command": "make -j8",
        "name": "make (pid 4711)",
        "protected": "web",
    }
    assert batch.labels == {"name": "batch.slice", "pattern": "cgroup:/batch*"}
    target.add_facts([Fact("holds_up", HOG, "db")])
    target.add([sample(700.0, subject=HOG)], at(1))
    assert next(one.labels["protected"] for one in target.observations(at(1)) if one.subject == HOG) == "db"


@pytest.mark.parametrize(("told", "reason"), [(0.0, GONE), (None, GONE), ("nothing", NO_DATA)])
def test_a_contender_that_is_no_longer_told_is_gone_while_contention_is(told: float | str | None, reason: str) -> None:
    metric = "infra.cpu_contention"
    target, seen = series(entry(metric)), []
    for second in range(40):
        host = [] if isinstance(told, str) else [sample(told, "infra.protected_cpu_wait")]
        target.add([*host, *([sample(700.0, metric, BATCH)] if second < 4 else [])], at(second))
        seen += [one for one in target.observations(at(second)) if one.metric == metric]
    assert [one.reason for one in seen if one.value is None] == [reason]
