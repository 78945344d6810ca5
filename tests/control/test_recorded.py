"""`aimd` on recorded plants: a process that lost CPU to a busy loop under a real quota, and the load of real hosts.

Where they are from stands in `data/recorded.json`.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean

import pytest

from stead.model.change import Govern
from tests.control.plants import Plant, drive

RECORDED = json.loads((Path(__file__).parent / "data" / "recorded.json").read_text())
CAPS = {int(cap): readings for cap, readings in RECORDED["cpu_cap"]["readings"].items()}
HOSTS = RECORDED["busy"]["series"]
HALF_HOUR = 360


class Quota:
    """The recorded answer to a cap: means between the caps that were tried, with the scatter that was seen at the nearest."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, cap: float) -> float:
        below = max((one for one in CAPS if one <= cap), default=min(CAPS))
        above = min((one for one in CAPS if one >= cap), default=max(CAPS))
        share = 0.0 if above == below else (cap - below) / (above - below)
        nearest = CAPS[above if share > 0.5 else below]
        steady = mean(CAPS[below]) * (1 - share) + mean(CAPS[above]) * share
        return steady + self._random.choice(nearest) - mean(nearest)


@pytest.mark.parametrize("seed", range(5))
def test_under_a_real_quota_it_keeps_the_others_loss_below_the_level_and_uses_the_room(seed: int) -> None:
    rule = Govern("cpu_max_percent", "infra.protected_cpu_wait", "host", level=30.0, low=5.0, high=100.0)
    trace = drive(rule, Plant(Quota(seed)), 70.0, 2 * HALF_HOUR)
    rest = trace.values[HALF_HOUR:]
    assert mean(one for one in CAPS[100]) > 2 * rule.level, "without it they lose far more"
    assert trace.bad(rule.level, HALF_HOUR) <= 0.1
    assert trace.turns(HALF_HOUR) <= 24
    assert 15 <= mean(rest) <= 30, "a cap of 30 % was measured to cost the others some 30 %"


@pytest.mark.parametrize("host", HOSTS)
def test_beside_a_real_hosts_load_it_takes_little_and_leaves_it_its_room(host: str) -> None:
    """What overlaps of the load and of a contender's cap is lost. Alone, the contender takes whatever it can."""
    load = HOSTS[host]
    rule = Govern("cpu_max_percent", "infra.protected_cpu_wait", "host", level=5.0, low=5.0, high=100.0)
    trace = drive(rule, lambda index: Plant(lambda cap: max(0.0, load[index] + cap - 100)), 70.0, len(load))
    alone = sum(1 for one in load if one > rule.level) / len(load)
    assert trace.bad(rule.level) <= min(0.12, alone / 5)
    assert mean(trace.values) >= 0.5 * mean(100 - one for one in load), "most of what is left over is given to the contender"
    assert trace.turns() <= len(load) / 6
