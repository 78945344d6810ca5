from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stead.flow import leases
from stead.model.change import Govern, Governed, Reason, Run, Verdict
from tests.flow.kit import decision, proposal


def held(result: str = "helped", **proposed: Any) -> Run:
    made = msgspec.structs.replace(proposal(), finding_id="f", **proposed)
    verdict = Verdict(result, "as it was")  # type: ignore[arg-type]
    return Run(id="r", proposal=made, state="held", decision=decision(), verdict=verdict)


WANTS = {"keep_while": (Reason("m.demand", "process:1@2", 0.2),)}


@pytest.mark.parametrize(
    ("run", "open_findings", "demand", "stands"),
    [
        (held(), {"f"}, None, True),
        (held(), set(), None, False),
        (held(**WANTS), set(), 1.0, True),  # it works, so its finding has cleared; its contender wants as much as before
        (held(**WANTS), set(), 0.1, False),
        (held(**WANTS), set(), None, False),  # what is unknown keeps nothing
        (held("inconclusive", **WANTS), set(), 1.0, False),
        (held("inconclusive", keep_unclear=True, **WANTS), set(), 1.0, True),
        (held("inconclusive", keep_unclear=True, **WANTS), set(), 0.1, False),
        (held("no_help", keep_unclear=True, **WANTS), {"f"}, 1.0, False),
        (msgspec.structs.replace(held(keep_unclear=True, **WANTS), verdict=None), {"f"}, 1.0, False),
    ],
)
def test_a_lease_stands_while_its_reason_does(run, open_findings, demand, stands):
    assert leases.stands(run, open_findings, lambda metric, subject: demand) is stands


RULE = Govern("cpu_max_percent", "m.stall", "host", 1.0, 10.0, 100.0)
USED = msgspec.structs.replace(RULE, used_metric="m.cores", used_subject="process:1@2", used_times=100.0)


@pytest.mark.parametrize(
    ("rule", "value", "cores", "stands"),
    [
        (RULE, 50.0, None, True),  # it says nothing of what is used: away from its loose end it limits
        (RULE, 100.0, None, False),
        (USED, 50.0, 0.48, True),
        (USED, 50.0, 0.1, False),  # nobody feels it, however the protected work fares for other reasons
        (USED, 50.0, None, False),
        (USED, 100.0, 1.0, False),
    ],
)
def test_a_governed_limit_stands_while_what_it_limits_comes_near_it(rule, value, cores, stands):
    run = held()
    step = msgspec.structs.replace(run.proposal.steps[0], govern=rule)
    governed = (Governed(0, rule.field, value, value, value, 1, 0.9, "in between", 0),)
    run = msgspec.structs.replace(run, proposal=msgspec.structs.replace(run.proposal, steps=(step,)), governed=governed)
    latest = {("m.cores", "process:1@2"): cores}
    assert leases.stands(run, set(), lambda metric, subject: latest.get((metric, subject))) is stands
