"""What stead counts of its own runs."""

from __future__ import annotations

import msgspec

from stead.agent.road_probe import in_a_row, rates_of
from stead.model.change import Proposal, Run, Step, Target, Verdict
from tests.flow.kit import proposal


def run(playbook: str, result: str, *steps: Step) -> Run:
    return Run("r", proposal(steps, playbook=playbook), "undone", verdict=Verdict(result, ""))  # type: ignore[arg-type]


LOWERED = Step("autonomy", Target("autonomy", "host"), {"ceiling": 1}, {"ceiling": 0}, "exact")


def test_failures_in_a_row_since_the_last_that_helped() -> None:
    newest_first = [run("calm", "no_help"), run("calm", "inconclusive"), run("calm", "not_held"), run("calm", "helped")]
    assert in_a_row([*newest_first, run("calm", "no_help"), run("scale", "no_help")]) == {"calm": 2, "scale": 1}
    assert in_a_row([run("calm", "helped"), run("calm", "no_help")]) == {"calm": 0}


def test_a_rung_that_gave_way_to_the_next_of_its_ladder_is_no_failure_of_steads() -> None:
    def rung(result: str, chain: tuple[str, ...], keep_unclear: bool = True) -> Run:
        made = proposal((), playbook="hold", chain=chain, keep_unclear=keep_unclear)
        return Run("r", made, "undone", verdict=Verdict(result, ""))  # type: ignore[arg-type]

    assert in_a_row([rung("no_help", ("freeze",))] * 5) == {}
    assert in_a_row([rung("no_help", ())] * 3) == {"hold": 3}, "the last rung has nothing to give way to"
    assert in_a_row([rung("no_help", ("freeze",), keep_unclear=False)] * 3) == {"hold": 3}
    assert in_a_row([rung("not_held", ("freeze",))] * 3) == {"hold": 3}, "what does not stay as it was set is another matter"
    assert in_a_row([rung("helped", ("freeze",)), rung("no_help", ())]) == {"hold": 0}


def by_intent(run: Run) -> Proposal:
    return msgspec.structs.replace(run.proposal, keep_unclear=False, labels={"pattern": "process:make"})


def test_a_night_of_ladders_that_were_climbed_does_not_lock_stead() -> None:
    def ended(result: str, chain: tuple[str, ...], state: str, undo_reason: str) -> Run:
        made = proposal((), playbook="hold", chain=chain, keep_unclear=True)
        return Run("r", made, state, verdict=Verdict(result, ""), undo_reason=undo_reason)  # type: ignore[arg-type]

    climbed = [ended("no_help", ("freeze",), "undone", "no_help"), ended("helped", (), "held", "")] * 10
    rates = rates_of(climbed)
    assert rates["autonomy.rollback_rate"] == (0.0, "") and rates["autonomy.plan_success_rate"] == (100.0, "")
    labelled = [msgspec.structs.replace(one, proposal=by_intent(one)) for one in climbed]
    assert rates_of(labelled)["autonomy.rollback_rate"] == (0.0, ""), "also of a playbook that says nothing of the unclear"
    in_vain = [ended("no_help", (), "undone", "no_help"), ended("helped", (), "held", "")] * 10
    assert rates_of(in_vain)["autonomy.rollback_rate"] == (50.0, "")


def test_a_change_of_the_ceiling_has_heeded_what_was_before_it() -> None:
    lowered, before = run("downgrade", "helped", LOWERED), [run("calm", "no_help")] * 3
    assert in_a_row([lowered, *before]) == {"downgrade": 0, "calm": 0}
    assert in_a_row([run("calm", "no_help"), lowered, *before])["calm"] == 1
