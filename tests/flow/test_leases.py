from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stead.flow import leases
from stead.model.change import Reason, Run, Verdict
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
