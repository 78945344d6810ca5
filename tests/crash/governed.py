"""A small real agent that governs: a control group gets a cap, and the cap is moved. It dies where STEAD_CRASH_AT says.

python governed.py STATE GROUP act|recover|undo      prints one JSON line: the run's state, and the values it was moved to
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from stead.actuators import limit
from stead.agent.crash import mark_from
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.adjust import Choice
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.write import id_source
from stead.host import LocalHost, SystemClock
from stead.ledger.store import LedgerStore
from stead.model.catalog import GovernTemplate, PlaybookDefinition, SettingTemplate
from stead.model.change import Run
from stead.model.policy import Actor, Decision, Policy

RUN = "cap"
START, MOVES = 70.0, (50.0, 35.5, 90.0)


async def main(state: Path, group: str, verb: str) -> None:
    host, clock = LocalHost(), SystemClock()
    actuator = limit.LimitActuator(host)
    ledger = LedgerStore.open(state / "ledger.db", "crash", clock)
    hands = Hands(host, {"limit": actuator}, ledger, None, clock, Policy(), lambda: False, mark=mark_from(os.environ))
    await hands.recover(ledger.live_runs())
    run = ledger.run(RUN)
    if verb == "act":
        run = await hands.run(await begun(host, actuator, ledger, group))
    if verb != "undo":
        for value in MOVES:
            run = await hands.adjust(run, 0, lambda present, value=value: Choice(value, 1.0, "a test")) if run else None
    elif run is not None and not run.final:
        run = await hands.undo(run, "person", Actor("user", "uid:0"))
    print(json.dumps({"state": run.state if run else "none", "value": run.governed[0].value if run and run.governed else None}))
    ledger.close()


async def begun(host: LocalHost, actuator: Any, ledger: LedgerStore, group: str) -> Run:
    """An allowed run on the group, planned like any other."""
    rule = GovernTemplate("cpu_max_percent", "m", 5.0, 10, 150)
    setting = SettingTemplate("limit", {"cpu_max_percent": START}, lease_s=600.0, govern=rule)
    target = actuator.groups.target(group)
    assert target is not None
    wish = Wish(PlaybookDefinition(RUN, settings=(setting,)), None, Actor("user", "uid:0"), (BoundSetting(setting, target),))
    now = SystemClock().now()
    proposal = await plan(wish, {"limit": actuator}, host, lambda m, s: None, Policy(), now, lambda: RUN)
    assert proposal.steps, proposal.impossible
    allowed = Decision(RUN, "allow", ("test",), ("test",), 0, "act", "p", now.unix_ms)
    run, entries = runs.start(proposal, allowed, runs.Stamp("crash", now, id_source(SystemClock())))
    await ledger.commit(entries, runs=[run])
    return run


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
