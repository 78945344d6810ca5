"""Which readings a law is given: of what stretch, what is used, and what counts as answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest

from stead.flow import runs
from stead.flow.adjust import Choice
from stead.flow.govern import Governor
from stead.model.catalog import Catalog
from stead.model.change import Govern, Law, Run
from stead.model.observe import Now, Sample
from stead.stats.series import Series
from tests.flow.kit import NOW, decision, dial_step, proposal, stamp


async def chosen(rule: Govern, start: float, seconds: Iterable[tuple[float, float]]) -> list[Choice]:
    """What is chosen while these pairs, readings of `m` and of `u`, come in each second, and the value goes where it should."""
    series, found = Series({}, Catalog({}, {}, "v"), remember=("m", "u")), list[Choice]()

    class Moved:
        async def adjust(self, run: Run, index: int, choose: Callable[[float], Choice]) -> Run:
            found.append(choose(found[-1].value if found else start))
            return run

    governor = Governor(Moved(), series, series.value)  # type: ignore[arg-type]
    run, _ = runs.start(proposal((dial_step(lease_s=9.0, govern=rule),)), decision("allow"), stamp())
    run = msgspec.structs.replace(run, state="held")
    for second, (reading, used) in enumerate(seconds):
        now = Now(NOW.unix_ms + 1000 * second, NOW.mono_ms + 1000 * second)
        series.add([Sample("m", "host", reading), Sample("u", "host", used)], now)
        for _, moving in governor.due([run], lambda name: False, now):
            await moving
    return found


@pytest.mark.parametrize(("law", "bad", "value"), [("senpai", 0.0, 80 * 1.02 * 0.99), ("aimd", 9.0, 60 * 0.99)])
async def test_senpai_walks_from_the_most_that_was_used_since_its_last_move(law: Law, bad: float, value: float) -> None:
    """Aimd, where others suffer, from what is used now."""
    rule = Govern("level", "m", "host", 1.0, 10.0, 90.0, law, tighten=0.01, used_metric="u", used_subject="host")
    found = await chosen(rule, 90.0, [(bad, used) for used in (20.0, 80.0, 70.0, 60.0, 60.0, 60.0)])
    assert [one.value for one in found] == [pytest.approx(value)]


async def test_senpai_takes_the_mean_of_half_a_minute_and_answers_a_stall_once() -> None:
    rule = Govern("level", "m", "host", 1.0, 10.0, 900.0, "senpai", interval_s=6.0, hold_off_s=60.0)
    stalls = {20: 20.0, 50: 60.0}
    found = await chosen(rule, 90.0, [(stalls.get(second, 0.0), 0.0) for second in range(91)])
    readings = [one.reading or 0.0 for one in found]
    assert max(readings[:6]) == pytest.approx(20 / 30, rel=0.1), "one short stall is below the level over half a minute"
    bad = [index for index, one in enumerate(found) if "above" in one.reason and "waits" not in one.reason]
    assert len(bad) == 1 and readings[bad[0]] == pytest.approx(2.0, rel=0.1) and max(readings[bad[0] + 1 :]) == 0.0
    assert found[bad[0]].value > found[bad[0] - 1].value
