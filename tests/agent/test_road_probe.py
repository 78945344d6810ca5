"""What stead counts of its own runs."""

from __future__ import annotations

from stead.agent.road_probe import in_a_row
from stead.model.change import Run, Step, Target, Verdict
from tests.flow.kit import proposal


def run(playbook: str, result: str, *steps: Step) -> Run:
    return Run("r", proposal(steps, playbook=playbook), "undone", verdict=Verdict(result, ""))  # type: ignore[arg-type]


LOWERED = Step("autonomy", Target("autonomy", "host"), {"ceiling": 1}, {"ceiling": 0}, "exact")


def test_failures_in_a_row_since_the_last_that_helped() -> None:
    newest_first = [run("calm", "no_help"), run("calm", "inconclusive"), run("calm", "not_held"), run("calm", "helped")]
    assert in_a_row([*newest_first, run("calm", "no_help"), run("scale", "no_help")]) == {"calm": 2, "scale": 1}
    assert in_a_row([run("calm", "helped"), run("calm", "no_help")]) == {"calm": 0}


def test_a_change_of_the_ceiling_has_heeded_what_was_before_it() -> None:
    lowered, before = run("downgrade", "helped", LOWERED), [run("calm", "no_help")] * 3
    assert in_a_row([lowered, *before]) == {"downgrade": 0, "calm": 0}
    assert in_a_row([run("calm", "no_help"), lowered, *before])["calm"] == 1
