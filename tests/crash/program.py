"""A small real agent without the tick: recovers, then makes one run of some settings, and puts it back.

    python program.py STATE SPEC recover|act|undo     prints one JSON line: the run's state and reason
    python program.py serve                           answers the same as JSON lines, each in a fork: saves 0.3 s a time

SPEC is JSON: `settings` ([{actuator, state, target: {kind, name, identity}}]; state null: absent) and `root`, the folder that
`files` works in. It dies by SIGKILL from its own hand where STEAD_CRASH_AT says; with STEAD_CRASH_CHANGE=n right before the
n-th call that changes something. Otherwise it says "now" on its standard error before it acts, for whoever kills it from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stead.actuators import autonomy, files, kernel, limit, placement, priority, process, resident
from stead.actuators.autonomy_file import AutonomyFile
from stead.agent.crash import mark_from
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.flow.write import id_source
from stead.host import LocalHost, SystemClock
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Run, Target
from stead.model.policy import Actor, Autonomy, Decision, Policy
from tests.files.kit import Place

RUN = "calm"
CHANGES = ("write", "make_folder", "remove_folder", "place", "remove", "signal", "run")
LEVERS = ("set_nice", "set_policy", "set_affinity", "set_ionice", "set_autogroup")


class Spec(msgspec.Struct, frozen=True):
    """What is to be made of what; `root` is where files are."""

    settings: tuple[dict[str, Any], ...]
    root: str = ""


def dying(host: LocalHost, before: int) -> LocalHost:
    """The host, whose n-th call that changes something is never made: the process is dead."""
    left = [before]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    for owner, names in ((host, CHANGES), (host.scheduler, LEVERS)):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    return host


async def main(state: Path, spec: Spec, verb: str, environ: Mapping[str, str]) -> dict[str, str]:
    host, clock = LocalHost(), SystemClock()
    if (nth := environ.get("STEAD_CRASH_CHANGE")) is not None:
        dying(host, int(nth))
    kept = AutonomyFile(state, state / "pause", Autonomy("act", {"host": 1}))
    actuators: dict[str, Any] = {
        "autonomy": autonomy.actuator(kept),
        "kernel": kernel.actuator(host),
        "limit": limit.actuator(host),
        "placement": placement.actuator(host),
        "priority": priority.actuator(host),
        "process": process.actuator(host),
        "resident": resident.actuator(host),
    }
    if spec.root:
        actuators["files"] = files.actuator(Place(Path(spec.root)).cleaner)
    ledger = LedgerStore.open(state / "ledger.db", "crash", clock)
    hands = Hands(host, actuators, ledger, None, clock, Policy(), kept.paused, mark=mark_from(environ))
    os.write(2, b"now\n")
    await hands.recover(ledger.live_runs())
    if verb != "recover":
        known = ledger.run(RUN)
        run = known or await begun(host, actuators, ledger, spec)
        run = await hands.run(run) if run.state == "approved" else run
        if verb == "undo" and run.state in runs.UNDOABLE:
            run = await hands.undo(run, "person", Actor("user", "uid:0"))
    after = ledger.run(RUN)
    ledger.close()
    return {"state": after.state if after else "none", "reason": after.reason if after else ""}


async def begun(host: LocalHost, actuators: dict[str, Any], ledger: LedgerStore, spec: Spec) -> Run:
    """An allowed run of these settings, planned like any other."""
    clock = SystemClock()
    bound = tuple(bound_to(one) for one in spec.settings)
    settings = tuple(one.template for one in bound)
    wish = Wish(PlaybookDefinition(RUN, settings=settings), None, Actor("user", "uid:0"), bound)
    now = clock.now()
    proposal = await plan(wish, actuators, host, lambda m, s: None, Policy(), now, lambda: RUN)
    allowed = Decision(RUN, "allow", ("test",), ("test",), 0, "act", "p", now.unix_ms)
    run, entries = runs.start(proposal, allowed, runs.Stamp("crash", now, id_source(clock)))
    await ledger.commit(entries, runs=[run])
    return run


def bound_to(one: Mapping[str, Any]) -> BoundSetting:
    """A setting of the spec with its target. A number in its state may be relative, as in the catalogue."""
    gone = one["state"] is None
    lease_s = None if gone else 600.0
    said = {"actuator": one["actuator"], "state": one["state"] or {}, "lease_s": lease_s, "absent": gone}
    template = msgspec.convert(said, SettingTemplate)
    return BoundSetting(template, msgspec.convert(one["target"], Target))


def serve() -> None:
    """For each line {state, spec, verb, environ, kill_ms} a fork; answers {rc, out, err}, rc below 0 for a signal.

    `kill_ms`: kill it so long after it began to act (null: don't).
    """
    for line in sys.stdin:
        asked = json.loads(line)
        said = {name: os.pipe() for name in ("out", "err")}
        pid = os.fork()
        if pid == 0:
            for (_, end), standard in zip(said.values(), (1, 2), strict=True):
                os.dup2(end, standard)
            forked(asked)
        for _, end in said.values():
            os.close(end)
        if asked["kill_ms"] is not None:
            os.read(said["err"][0], 4)
            time.sleep(asked["kill_ms"] / 1000)
            os.kill(pid, signal.SIGKILL)
        told = {name: Path(f"/dev/fd/{start}").read_text() for name, (start, _) in said.items()}
        for start, _ in said.values():
            os.close(start)
        rc = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"rc": rc, **told}), flush=True)


def forked(asked: Mapping[str, Any]) -> None:
    """One time, to its end, whatever comes."""
    rc = 1
    try:
        spec = msgspec.convert(asked["spec"], Spec)
        answer = asyncio.run(main(Path(asked["state"]), spec, asked["verb"], asked["environ"]))
        os.write(1, json.dumps(answer).encode())
        rc = 0
    except BaseException as error:
        os.write(2, repr(error).encode())
    finally:
        os._exit(rc)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        made = msgspec.json.decode(sys.argv[2], type=Spec)
        print(json.dumps(asyncio.run(main(Path(sys.argv[1]), made, sys.argv[3], os.environ))))
