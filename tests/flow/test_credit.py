"""What one contender's leaving gave back is no merit of a remedy for another: the shipped controls say so."""

from __future__ import annotations

import pytest

from stead.catalog import load_catalog
from stead.flow.measure import measured
from stead.flow.verify import judge
from stead.model.catalog import Catalog
from stead.model.change import Control, Prediction, Run
from stead.model.observe import Now, Sample
from stead.stats.series import Series
from tests.flow.kit import dial_step, proposal

HOG, WAIT, DEMAND = "process:7@1", "infra.protected_cpu_wait", "infra.contender_demand"
START = Now(1_700_000_000_000, 1_000_000)
ACTED_S, END_S = 60, 75


def at(second: int) -> Now:
    return Now(START.unix_ms + second * 1000, START.mono_ms + second * 1000)


def wavering(level: float, second: int) -> float:
    return level * (1 + 0.05 * ((second * 7) % 5 - 2))


@pytest.mark.parametrize("playbook", ["let-others-first", "lower-priority", "cap-cpu"])
@pytest.mark.parametrize(("other_left", "result"), [(False, "helped"), (True, "inconclusive")])
def test_who_leaves_by_himself_gives_no_credit(playbook: str, other_left: bool, result: str) -> None:
    """A hog of one core beside one of four: with the other there its own slowing takes the wait away; or the other just ends."""
    catalog = load_catalog("")
    said = catalog.playbooks[playbook].predict
    assert said is not None
    controls = tuple(
        Control(one.metric, HOG if one.subject == "subject" else one.subject, one.at_least_share) for one in said.controls
    )
    prediction = Prediction(WAIT, "host", "down", 4.0, False, said.within_s, 50.0, said.meaningful, controls)
    made = proposal((dial_step("a"),), prediction=prediction, good_readings=3)
    run = Run("r", made, "verifying", acted_ms=at(ACTED_S).unix_ms, updated_ms=at(ACTED_S).unix_ms)
    series = Series({}, Catalog({}, catalog.playbooks, "v"))
    for second in range(END_S + 1):
        before = second <= ACTED_S
        others = 4.0 if before or not other_left else 0.0
        series.add(
            [
                Sample(WAIT, "host", wavering(50.0 if before else 2.0, second)),
                Sample(DEMAND, HOG, wavering(1.0, second)),
                Sample(DEMAND, "host", wavering(1.0 + others, second)),
            ],
            at(second),
        )
    moved, seen = measured(run, series, at(END_S))
    verdict = judge(moved, [True], seen, at(END_S))
    assert verdict.result == result, verdict.reason
    assert ("of host itself fell" in verdict.reason) is other_left
