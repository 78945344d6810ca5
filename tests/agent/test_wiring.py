"""What can be wrong with a place is found before anything runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from stead.agent.wiring import wire
from stead.config import find_paths
from stead.model.config import Config
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.intent import Objective, Protect
from stead.probes.members import Thing


def aimed(metric: str) -> Config:
    return Config(protect=(Protect(("web",), "web", Objective(300.0, metric)),))


def test_an_objective_about_a_metric_that_nobody_has_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(SteadError, match=r"api\.latncy_p95, which nothing here tells of") as refused:
        wire(aimed("api.latncy_p95"), find_paths(str(tmp_path)), environ={})
    problem = refused.value.problem
    assert (problem.where, problem.exit_code) == ("protect[0].objective.metric", EXIT_USAGE)
    assert problem.fix == "did you mean api.latency_p95?"
    for metric in ("api.latency_p95", "cpu.load_1m", "autonomy.rollback_rate"):  # the catalogue's, a probe's, the road's own
        wire(aimed(metric), find_paths(str(tmp_path)), environ={}).close()


def test_with_an_intent_in_force_stead_of_itself_leaves_alone_what_it_does_not_name(tmp_path: Path) -> None:
    config = Config(protect=(Protect(("web",), "web"),), best_effort=("make",))
    wired, idle = (wire(one, find_paths(str(tmp_path / name)), environ={}) for name, one in (("a", config), ("b", Config())))
    web, make, group = (SimpleNamespace(subject=f"process:{pid}@5") for pid in (1, 2, 3))
    wired.members.protected[0].tasks = [web]  # type: ignore[list-item]
    wired.members.contenders = [Thing("process:2@5", "make"), Thing("cgroup:/batch@7", "batch", path="/batch")]
    wired.members.contenders[1].tasks = [make, group]  # type: ignore[list-item]
    named = ("process:1@5", "process:2@5", "process:3@5", "cgroup:/batch@7", "workload:web", "host")
    assert [wired.road.plugged.spares(one) for one in named] == [""] * len(named)
    for other in ("process:4@5", "cgroup:/other@8"):
        assert "left alone" in wired.road.plugged.spares(other)
        assert idle.road.plugged.spares(other) == "", "nobody said what matters"
    for one in (wired, idle):
        one.close()
