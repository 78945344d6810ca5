"""Runs inside the guest: one run on real settings, killed at a named point, and the recovery after it.

The run is planned, decided, recorded and carried out by stead's own road (`Hands` on a real ledger); the process that does so
kills itself by SIGKILL where the mark says, or stands still there so that the power can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stead.agent.crash import mark_from
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting
from stead.flow.propose import Wish as Wished
from stead.flow.write import id_source
from stead.host import LocalHost, SystemClock
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Absent, Run, Target
from stead.model.errors import SteadError
from stead.model.policy import Actor, Decision, Policy
from stead.protocols import Mark

RUN = "calm"
STATE = Path("/var/lib/steadtest")
Load = Callable[[LocalHost, Path], dict[str, Any]]


class Wish(NamedTuple):
    """One setting of the run."""

    actuator: str
    target: Target
    state: dict[str, Any]


async def carry(state: Path, load: Load, wishes: list[Wish], verb: str, mark: Mark) -> dict[str, Any]:
    """Recover what is there; then act, or act and undo. What has become of the run: {"state", "reason"}."""
    host, clock = LocalHost(), SystemClock()
    actuators = load(host, state)
    ledger = LedgerStore.open(state / "ledger.db", "guest", clock)
    hands = Hands(host, actuators, ledger, None, clock, Policy(), lambda: False, mark=mark)
    await hands.recover(ledger.live_runs())
    if verb != "recover":
        run = await hands.run(await begun(host, actuators, ledger, wishes))
        if verb == "undo":
            await hands.undo(run, "person", Actor("user", "uid:0"))
    after = ledger.run(RUN)
    open_ = after is not None and runs.unsettled(after) is not None
    ledger.close()
    return {"state": after.state if after else "none", "reason": after.reason if after else "", "unsettled": open_}


async def begun(host: LocalHost, actuators: dict[str, Any], ledger: LedgerStore, wishes: list[Wish]) -> Run:
    clock = SystemClock()
    settings = tuple(SettingTemplate(one.actuator, one.state, lease_s=600.0) for one in wishes)
    bound = tuple(BoundSetting(setting, one.target) for setting, one in zip(settings, wishes, strict=True))
    wished = Wished(PlaybookDefinition(RUN, settings=settings), None, Actor("user", "uid:0"), bound)
    now = clock.now()
    proposal = await plan(wished, actuators, host, lambda m, s: None, Policy(), now, lambda: RUN)
    assert proposal.steps, proposal.impossible
    allowed = Decision(RUN, "allow", ("test",), ("test",), 0, "act", "p", now.unix_ms)
    run, entries = runs.start(proposal, allowed, runs.Stamp("guest", now, id_source(clock)))
    await ledger.commit(entries, runs=[run])
    return run


async def kill_at_each(host: LocalHost, load: Load, wishes: list[Wish], marks: list[str], meanwhile: str) -> list[dict[str, Any]]:
    """For each mark: a process carries the run out and dies there, `meanwhile` runs in a shell, another one recovers.

    A row has the mark, whether it was passed, the run's state and reason, and each setting before, at the death and after.
    """
    actuators, rows = load(host, STATE), []
    for mark in marks:
        shutil.rmtree(STATE, ignore_errors=True)
        STATE.mkdir(parents=True)
        before = [await seen(host, actuators, wish) for wish in wishes]
        died = forked(load, wishes, "undo" if ".undo." in mark else "act", mark)
        dead = [await seen(host, actuators, wish) for wish in wishes]
        if meanwhile:
            subprocess.run(["/bin/sh", "-c", meanwhile], check=True)
        forked(load, wishes, "recover", "")
        after = [await seen(host, actuators, wish) for wish in wishes]
        told = json.loads((STATE / "told").read_text()) if (STATE / "told").exists() else {}
        rows.append({"mark": mark, "killed": died == -9, "before": before, "dead": dead, "after": after, **told})
        if after != before:
            with contextlib.suppress(SteadError):  # what another controller holds stays so
                await put_back(host, actuators, wishes, before)
    return rows


def forked(load: Load, wishes: list[Wish], verb: str, mark: str) -> int:
    """Carry out in a process of its own; its exit code, negative for the signal that ended it."""
    pid = os.fork()
    if not pid:
        told = asyncio.run(carry(STATE, load, wishes, verb, mark_from({"STEAD_CRASH_AT": mark})))
        (STATE / "told").write_text(json.dumps(told))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def seen(host: LocalHost, actuators: dict[str, Any], wish: Wish) -> Any:
    found = await actuators[wish.actuator].read(host, wish.target)
    return None if isinstance(found, Absent) else msgspec.to_builtins(found)


async def put_back(host: LocalHost, actuators: dict[str, Any], wishes: list[Wish], before: list[Any]) -> None:
    """As an undo does it: only what differs, and as it was."""
    for wish, state in zip(wishes, before, strict=True):
        actuator = actuators[wish.actuator]
        then, now = msgspec.convert(state, actuator.state), await actuator.read(host, wish.target)
        step = actuator.plan(wish.target, then, now)
        if step.before:
            await actuator.write(host, wish.target, msgspec.convert(step.before, actuator.state))


def stand_still(mark: str, sign: Path) -> Mark:
    """A mark that stands still at one point for ever, and says so by a file."""

    def at(name: str) -> None:
        if name == mark:
            sign.write_text(name)
            time.sleep(1e6)

    return at


if __name__ == "__main__":  # python -m tests.guest.inside.crashes '{"verb", "mark", "settings"}': one run, for a power cut
    from tests.guest.inside.bench import loaded, target

    asked = json.loads(sys.argv[1])
    STATE.mkdir(parents=True, exist_ok=True)
    found = [Wish(one["actuator"], target(LocalHost(), one["kind"], one["name"]), one["state"]) for one in asked["settings"]]
    still = stand_still(asked["mark"], Path("/run/steadtest-at"))
    print(json.dumps(asyncio.run(carry(STATE, loaded, found, asked["verb"], still))))
