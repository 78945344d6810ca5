"""A small real agent without the tick: recovers, then lowers a real process's priority and its own ceiling, and puts both back.

    python program.py STATE PID recover|act|undo      prints one JSON line: the run's state and reason

It dies where STEAD_CRASH_AT says, by SIGKILL from its own hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from stead.actuators import autonomy, priority
from stead.actuators.autonomy_file import AutonomyFile
from stead.agent.crash import mark_from
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.write import id_source
from stead.host import LocalHost, SystemClock
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate, StateChange
from stead.model.change import Run, Target
from stead.model.policy import Actor, Autonomy, Decision, Policy

RUN = "calm"


async def main(state: Path, pid: int, verb: str) -> None:
    host, clock = LocalHost(), SystemClock()
    kept = AutonomyFile(state, state / "pause", Autonomy("act", {"host": 1}))
    actuators: dict[str, Any] = {"priority": priority.actuator(host), "autonomy": autonomy.actuator(kept)}
    ledger = LedgerStore.open(state / "ledger.db", "crash", clock)
    hands = Hands(host, actuators, ledger, None, clock, Policy(), kept.paused, mark=mark_from(os.environ))
    await hands.recover(ledger.live_runs())
    if verb != "recover":
        run = await begun(host, actuators, ledger, pid)
        run = await hands.run(run)
        if verb == "undo":
            run = await hands.undo(run, "person", Actor("user", "uid:0"))
    after = ledger.run(RUN)
    print(json.dumps({"state": after.state if after else "none", "reason": after.reason if after else ""}))
    ledger.close()


async def begun(host: LocalHost, actuators: dict[str, Any], ledger: LedgerStore, pid: int) -> Run:
    """An allowed run on the process, planned like any other."""
    clock = SystemClock()
    settings = (
        SettingTemplate("priority", {"nice": 17, "policy": "batch"}, lease_s=600.0),
        SettingTemplate("autonomy", {"ceiling": StateChange(add=-1, at_least=0)}, lease_s=600.0),
    )
    identity = {"start_ticks": str(host.start_ticks(pid)), "boot_id": host.boot_id}
    targets = (Target("process", str(pid), identity), Target("autonomy", "host"))
    bound = tuple(BoundSetting(one, target) for one, target in zip(settings, targets, strict=True))
    wish = Wish(PlaybookDefinition(RUN, settings=settings), None, Actor("user", "uid:0"), bound)
    now = clock.now()
    proposal = await plan(wish, actuators, host, lambda m, s: None, Policy(), now, lambda: RUN)
    allowed = Decision(RUN, "allow", ("test",), ("test",), 0, "act", "p", now.unix_ms)
    run, entries = runs.start(proposal, allowed, runs.Stamp("crash", now, id_source(clock)))
    await ledger.commit(entries, runs=[run])
    return run


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
