"""What can be wrong with a place is found before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead.agent.wiring import wire
from stead.config import find_paths
from stead.model.config import Config
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.intent import Objective, Protect


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
