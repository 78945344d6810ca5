"""What a run's change did, from the real short memory of series: controls, twins, other changes, gaps, and what is not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stead.flow.measure import measured
from stead.flow.verify import Measured, judge
from stead.model.catalog import Catalog, PlaybookDefinition, Predict, TwinTemplate
from stead.model.change import Control, Prediction, Run, RunState, Twin
from stead.model.observe import Now, Sample
from stead.stats.series import Series
from tests.flow.kit import dial_step, proposal

WAIT, DEMAND = "infra.wait", "infra.demand"
ACTED_S = 400
START = Now(1_700_000_000_000, 1_000_000)
CONTROL = (Control(DEMAND, "hog", 0.7),)
Value = Callable[[int], float | None]


def at(second: int) -> Now:
    return Now(START.unix_ms + second * 1000, START.mono_ms + second * 1000)


def series(until: int, **values: Value) -> Series:
    """A memory that has heard `subject=value(second)` of the wait each second; `demand` is the hog's."""
    book = PlaybookDefinition("calm", predict=Predict(WAIT, "down", 0.3, twin=TwinTemplate(metric=DEMAND)))
    made = Series({}, Catalog({}, {"calm": book}, "v"))
    for second in range(until + 1):
        made.add(
            [
                Sample(DEMAND if name == "demand" else WAIT, "hog" if name == "demand" else name, value(second))
                for name, value in values.items()
            ],
            at(second),
        )
    return made


def run(run_id: str = "run-1", acted_s: int = ACTED_S, state: RunState = "verifying", **said: Any) -> Run:
    prediction = Prediction(WAIT, "shop", "down", at_least=0.3, within_s=20.0, baseline=9.0)
    made = proposal((dial_step(run_id),), id=run_id, prediction=msgspec.structs.replace(prediction, **said), good_readings=1)
    return Run(run_id, made, state, acted_ms=at(acted_s).unix_ms, updated_ms=at(acted_s).unix_ms)


def wavering(level: float, second: int) -> float:
    return level * (1 + 0.05 * ((second * 7) % 5 - 2))


def wait(second: int, onset_s: int = ACTED_S - 8, level: float = 40.0, left: float = 3.0) -> float:
    """Quiet, then a hog's onset, then what is left of it."""
    return wavering(1.0 if second <= onset_s else level if second <= ACTED_S else left, second)


def demand(second: int, onset_s: int = ACTED_S - 8, until_s: int = 10_000) -> float:
    return wavering(2.0 if onset_s < second <= until_s else 0.1, second)


def result(one: Run, memory: Series, until: int, *others: Run) -> tuple[str, Measured, str]:
    moved, seen = measured(one, memory, at(until), others)
    verdict = judge(moved, [True], seen, at(until))
    return verdict.result, seen, verdict.reason


def test_the_baseline_is_what_it_was_right_before_and_a_steady_level_shows_the_effect() -> None:
    memory = series(430, shop=lambda second: wait(second, onset_s=0))
    moved, seen = measured(run(), memory, at(430))
    assert moved.proposal.prediction is not None and moved.proposal.prediction.baseline == pytest.approx(40, rel=0.02)
    assert seen.after == pytest.approx(3, rel=0.02) and seen.good == 30 and seen.lately == pytest.approx(40, rel=0.1)
    assert seen.effect is not None and -45 < seen.effect.low < seen.effect.effect < seen.effect.high < -30
    assert result(run(), memory, 430)[0] == "helped"


def test_an_onset_right_before_is_seen_only_by_the_control() -> None:
    memory = series(430, shop=wait, demand=demand)
    said, seen, reason = result(run(control=CONTROL), memory, 430)
    assert said == "helped" and seen.effect is not None and seen.effect.counterfactual == pytest.approx(40, rel=0.05), reason
    assert result(run(), memory, 430)[0] == "inconclusive", "by itself it can't be told from a peak"


def test_a_lull_gets_no_credit() -> None:
    memory = series(430, shop=wait, demand=lambda second: demand(second, until_s=ACTED_S + 4))
    said, _, reason = result(run(control=CONTROL), memory, 430)
    assert said == "inconclusive" and f"{DEMAND} of hog itself fell" in reason
    assert result(run(control=CONTROL), series(430, shop=wait), 430)[0] == "inconclusive", "a control that is unknown is no proof"


def test_what_goes_on_did_not_help_though_the_quiet_before_makes_it_uncertain() -> None:
    memory = series(430, shop=lambda second: wait(second, left=40.0), demand=demand)
    assert result(run(), memory, 430)[0] == result(run(control=CONTROL), memory, 430)[0] == "no_help"


def test_by_a_twin_that_was_held_back() -> None:
    """All of them became quiet: nothing that this change did."""
    quieter = series(430, shop=lambda second: wait(second, 0), blog=lambda second: wait(second, 0, 20.0, 1.5))
    for subject in ("blog", "others"):
        twin = Twin(WAIT, subject)
        assert result(run(), quieter, 430)[0] == "helped"
        said, seen, _ = result(run(twin=twin), quieter, 430)
        assert said == "no_help" and seen.effect is not None and seen.effect.effect == pytest.approx(0, abs=0.2)
        as_before = series(430, shop=lambda second: wait(second, 0), blog=lambda second: wavering(20.0, second))
        assert result(run(twin=twin), as_before, 430)[0] == "helped"


def test_a_twin_that_is_not_known_all_the_time_or_is_treated_itself_is_none() -> None:
    late = series(430, shop=lambda second: wait(second, 0), blog=lambda second: 20.0 if second > 395 else None)
    said, _, reason = result(run(twin=Twin(WAIT, "others")), late, 430)
    assert said == "inconclusive" and "nothing that was held back" in reason
    both = series(430, shop=lambda second: wait(second, 0), blog=lambda second: wavering(20.0, second))
    treated = run("run-2", 300, "held", subject="blog")
    assert result(run(twin=Twin(WAIT, "others")), both, 430, treated)[0] == "inconclusive"


def test_a_twin_helps_nobody_whose_control_fell() -> None:
    memory = series(
        430, shop=lambda second: wait(second, 0), blog=lambda s: wavering(20.0, s), demand=lambda s: demand(s, 0, ACTED_S + 2)
    )
    said, _, reason = result(run(twin=Twin(WAIT, "blog"), control=CONTROL), memory, 430)
    assert said == "inconclusive" and "itself fell" in reason


def test_readings_from_before_an_earlier_change_do_not_count() -> None:
    """It was low while another run held it down, which says nothing of what it is without."""
    held_down = series(430, shop=lambda s: wavering(2.0 if s <= ACTED_S - 15 else 40.0 if s <= ACTED_S else 3.0, s))
    earlier = run("run-2", 300, "undone")
    earlier = msgspec.structs.replace(earlier, updated_ms=at(ACTED_S - 15).unix_ms)
    assert result(run(), held_down, 430, earlier)[0] == "helped"
    assert result(run(), held_down, 430)[0] == "inconclusive"
    elsewhere = msgspec.structs.replace(earlier, proposal=proposal((dial_step("z"),), id="run-2"))
    assert result(run(), held_down, 430, elsewhere)[0] == "inconclusive", "what changed something else is no reason"


def test_another_change_meanwhile_takes_the_credit_from_both() -> None:
    memory = series(430, shop=lambda second: wait(second, 0))
    said, _, reason = result(run(), memory, 430, run("run-2", ACTED_S + 15))
    assert said == "inconclusive" and "turn changed it as well, meanwhile" in reason
    undone = msgspec.structs.replace(run("run-2", 100, "undone"), updated_ms=at(ACTED_S + 3).unix_ms)
    assert result(run(), memory, 430, undone)[0] == "inconclusive"
    assert result(run(), memory, 430, run("run-2", 100, "held"))[0] == "helped", "what was so all the time changed nothing"


def test_what_was_changed_at_about_the_same_time_helped_together() -> None:
    def falling(second: int) -> float:
        return wavering(40.0 if second <= ACTED_S else 20.0 if second <= ACTED_S + 4 else 3.0, second)

    memory = series(430, shop=falling)
    first, second = run("run-1"), run("run-2", ACTED_S + 4, "held")
    for one, other in ((first, second), (second, first)):
        said, seen, reason = result(one, memory, 430, other)
        assert said == "helped" and seen.jointly == f"turn of {other.proposal.steps[0].target}", reason
        assert seen.effect is not None and seen.effect.counterfactual == pytest.approx(40, rel=0.05)
        assert f"together with {seen.jointly}" in reason
    tried = msgspec.structs.replace(first, state="undone", updated_ms=at(ACTED_S + 3).unix_ms)
    assert result(second, memory, 430, tried)[0] == "inconclusive", "what was put back before is no part of it"


def test_too_little_is_known() -> None:
    assert measured(run(), series(0), at(430))[1] == Measured(None, 0, None, "no reading is known from before the change")
    said, _, reason = result(run(), series(402, shop=lambda second: wait(second, 0)), 402)
    assert said == "inconclusive" and "only 2 readings are known from after" in reason
    unpredicted = msgspec.structs.replace(run(), proposal=proposal())
    assert measured(unpredicted, series(5), at(5)) == (unpredicted, Measured())


def test_a_control_that_is_heard_less_often_stands_for_a_while() -> None:
    memory = series(
        430, shop=lambda second: wait(second, 0), demand=lambda second: demand(second, 0) if second % 5 == 0 else None
    )
    assert result(run(control=CONTROL), memory, 430)[0] == "helped"
    silent = series(430, shop=lambda second: wait(second, 0), demand=lambda second: 2.0 if second < ACTED_S else None)
    said, _, reason = result(run(control=CONTROL), silent, 430)
    assert said == "inconclusive" and reason
