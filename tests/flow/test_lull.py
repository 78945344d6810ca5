"""A contender that goes quiet by itself is no merit of the memory ladder: what the shipped predictions make of it."""

from __future__ import annotations

import pytest

from stead.catalog import load_catalog
from stead.flow.measure import measured
from stead.flow.verify import judge
from stead.model.catalog import Catalog
from stead.model.change import Control, Prediction, Run, Verdict
from stead.model.observe import Now, Sample
from stead.stats.series import Series
from tests.flow.kit import dial_step, proposal

HOG, STALL, SIZE, GRANTED = "cgroup:/hog@1", "infra.protected_memory_stall", "infra.contender_memory", "infra.memory_granted"
START = Now(1_700_000_000_000, 1_000_000)
ACTED_S, GB = 60, 1e9


def at(second: int) -> Now:
    return Now(START.unix_ms + second * 1000, START.mono_ms + second * 1000)


def wavering(level: float, second: int) -> float:
    return level * (1 + 0.03 * ((second * 7) % 5 - 2))


def judged(playbook: str, values: dict[tuple[str, str], tuple[float, float | None]]) -> Verdict:
    """The verdict where each of these was so before the change and so after it (None: unknown)."""
    catalog = load_catalog("")
    whole = catalog.playbooks[playbook]
    said = whole.predict
    assert said is not None
    controls = tuple(Control(one.metric, HOG, one.at_least_share) for one in said.controls)
    subject = HOG if said.subject == "subject" else said.subject
    before = values[said.metric, subject][0]
    prediction = Prediction(
        said.metric, subject, said.direction, said.at_least, said.relative, said.within_s, before, said.meaningful, controls
    )
    made = proposal(
        (dial_step("a"),), prediction=prediction, good_readings=whole.verify.good_readings, keep_unclear=whole.keep_unclear
    )
    run = Run("r", made, "verifying", acted_ms=at(ACTED_S).unix_ms, updated_ms=at(ACTED_S).unix_ms)
    series, end_s = Series({}, Catalog({}, catalog.playbooks, "v")), ACTED_S + round(whole.verify.window_s)
    for second in range(end_s + 1):
        read = {key: was if second <= ACTED_S else now for key, (was, now) in values.items()}
        samples = [Sample(*key, None if value is None else wavering(value, second)) for key, value in read.items()]
        series.add(samples, at(second))
    moved, seen = measured(run, series, at(end_s))
    return judge(moved, [True], seen, at(end_s))


@pytest.mark.parametrize(("size", "result"), [(GB, "helped"), (0.3 * GB, "inconclusive")])
def test_a_pause_gets_no_credit_where_the_contender_had_let_go_of_its_memory(size: float, result: str) -> None:
    verdict = judged("pause-contender", {(STALL, "host"): (50.0, 1.0), (SIZE, HOG): (GB, size)})
    assert verdict.result == result, verdict.reason
    assert ("itself fell" in verdict.reason) is (result == "inconclusive")


@pytest.mark.parametrize(("granted", "result"), [(0.02, "helped"), (None, "inconclusive"), (0.9, "no_help")])
def test_a_hold_gets_no_credit_where_nothing_shows_that_the_contender_wanted_more(granted: float | None, result: str) -> None:
    verdict = judged("hold-memory", {(GRANTED, HOG): (1.0, granted)})
    assert verdict.result == result, verdict.reason
