"""Runs inside the guest: stead's actuators as they are installed, one question a connection, each in a process of its own.

    python -m tests.guest.inside.bench SOCKET

A question is {"do": name, ...}, see ASKED. The modules are loaded once, then every question forks: the emulated processor
takes seconds to load them. A forked process really dies where a test kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from stead import plugins
from stead.actuators.autonomy_file import AutonomyFile
from stead.cgroups.tree import Groups
from stead.host import LocalHost
from stead.host.operations import NotedHost
from stead.model.change import ABSENT, Absent, Target
from stead.model.errors import SteadError
from stead.model.policy import Autonomy
from stead.testing.actuators import CHECKS, Case
from tests.guest.inside import crashes

Answer = dict[str, Any]


def loaded(host: LocalHost, state: Path) -> dict[str, Any]:
    """Every actuator that is installed, as the agent makes them."""
    autonomy = AutonomyFile(state, state / "pause", Autonomy("act", {"host": 1}))
    own = {str(os.getpid()): "stead's agent"}
    found = plugins.load("stead.actuators", host=host, autonomy=autonomy, drivers={}, protected=(), own=lambda: own)
    return found.plugins


def target(host: LocalHost, kind: str, name: str) -> Target:
    """The thing that is there now, with its identity."""
    if kind == "cgroup":
        found = Groups.of(host).target(name)
        assert found is not None, f"there is no group {name}"
        return found
    if kind == "process":
        return Target(kind, name, {"start_ticks": str(host.start_ticks(int(name))), "boot_id": host.boot_id})
    if kind in ("kernel", "sysctl", "unit"):
        return Target(kind, name, {"boot_id": host.boot_id})
    return Target(kind, name)


def record(state: Any) -> Any:
    return None if isinstance(state, Absent) else {key: v for key, v in msgspec.to_builtins(state).items() if v is not None}


async def read(ask: Answer) -> Answer:
    """The state as it is: {"state"}."""
    host, actuator, thing = opened(ask)
    return {"state": record(await actuator.read(host, thing))}


async def apply(ask: Answer) -> Answer:
    """Plan and write a state: what the plan said, what is read afterwards, what was really done. `back`: then undo it."""
    host, actuator, thing = opened(ask)
    want = msgspec.convert(ask["state"], actuator.state, strict=False)
    step = actuator.plan(thing, await actuator.read(host, thing), want)
    told: Answer = {"before": step.before, "want": step.want, "undo": step.undo, "note": step.note}
    for name, values in (("", step.want), *([("undo_", step.before)] if ask.get("back") else [])):
        door = NotedHost(host)
        await actuator.write(door, thing, ABSENT if values is None else msgspec.convert(values, actuator.state))
        after = await actuator.read(host, thing)
        wanted = ABSENT if values is None else msgspec.convert(values, actuator.state)
        told |= {f"{name}after": record(after), f"{name}met": actuator.met(after, wanted), f"{name}operations": door.operations}
    return told


async def sweep(ask: Answer) -> Answer:
    """Each of many states, set and put back: rows with what was planned and done, and what `files` say before, then and after."""
    host, actuator, thing = opened(ask)
    rows = []
    for state in ask["states"]:
        want = msgspec.convert(state, actuator.state, strict=False)
        step = actuator.plan(thing, await actuator.read(host, thing), want)
        row: Answer = {"state": state, "undo": step.undo, "first": texts(ask)}
        door = NotedHost(host)
        await actuator.write(door, thing, msgspec.convert(step.want, actuator.state))
        row |= {"met": actuator.met(await actuator.read(host, thing), want), "set": texts(ask), "operations": door.operations}
        await actuator.write(host, thing, msgspec.convert(step.before, actuator.state))
        rows.append({**row, "back": texts(ask)})
    return {"rows": rows}


def texts(ask: Answer) -> dict[str, str]:
    """What the files that are asked for say; "" where there is none."""
    found = {}
    for name in ask["files"]:
        path = Path("/sys/fs/cgroup", ask["name"].lstrip("/"), name)
        found[name] = ";".join(path.read_text().splitlines()) if path.exists() else ""
    return found


async def write(ask: Answer) -> Answer:
    """Write a state as it is, without a plan, as an undo does: to the target, or to the very `thing` that was told earlier."""
    host, actuator, thing = opened(ask)
    thing = msgspec.convert(ask["thing"], Target) if "thing" in ask else thing
    await actuator.write(host, thing, msgspec.convert(ask["state"], actuator.state))
    return {}


async def identify(ask: Answer) -> Answer:
    """A target with its identity: {"thing"}."""
    return {"thing": msgspec.to_builtins(target(LocalHost(), ask["kind"], ask["name"]))}


async def conform(ask: Answer) -> Answer:
    """stead's own conformance suite on a real target: {"failures": {check: why}}. Each check begins where the last ended."""
    host, actuator, thing = opened(ask)
    states = tuple(msgspec.convert(state, actuator.state, strict=False) for state in ask["states"])
    successor = msgspec.structs.replace(thing, identity={**thing.identity, "id": "1"})
    nowhere = Target(thing.kind, "/nowhere.slice", thing.identity)
    case = Case(actuator, host, thing, states, nowhere, successor, outlives=ask.get("outlives", False))
    first = await actuator.read(host, thing)
    failures = {}
    for check in CHECKS:
        try:
            await check(case)
        except (AssertionError, SteadError, OSError) as error:
            failures[check.__name__] = str(error) or repr(error)
        step = actuator.plan(thing, await actuator.read(host, thing), first)
        await actuator.write(host, thing, msgspec.convert(step.want, actuator.state))
    return {"failures": failures}


async def crash(ask: Answer) -> Answer:
    """Kill a run on real settings at every mark that is asked for, and recover: {"rows": [...]}. See `crashes`."""
    host = LocalHost()
    wishes = [crashes.Wish(one["actuator"], target(host, one["kind"], one["name"]), one["state"]) for one in ask["settings"]]
    return {"rows": await crashes.kill_at_each(host, loaded, wishes, ask["marks"], ask.get("meanwhile", ""))}


ASKED: dict[str, Callable[[Answer], Awaitable[Answer]]] = {
    each.__name__: each for each in (read, apply, sweep, write, identify, conform, crash)
}


def opened(ask: Answer) -> tuple[LocalHost, Any, Target]:
    host = LocalHost()
    actuator = loaded(host, Path("/run/steadtest"))[ask["actuator"]]
    return host, actuator, target(host, ask["kind"], ask["name"]) if "kind" in ask else Target("", "")


def answered(line: bytes) -> Answer:
    ask = json.loads(line)
    try:
        return asyncio.run(ASKED[ask["do"]](ask))  # type: ignore[arg-type]
    except (SteadError, OSError) as error:
        code = error.problem.code if isinstance(error, SteadError) else type(error).__name__
        return {"error": str(error), "code": code}
    except BaseException:
        return {"error": traceback.format_exc(), "code": "broken"}


def main(path: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(4)
        while True:
            asker, _ = door.accept()
            if os.fork():
                asker.close()
                continue
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with asker, asker.makefile("rwb") as lines, contextlib.suppress(BrokenPipeError):
                lines.write(json.dumps(answered(lines.readline())).encode() + b"\n")
                lines.flush()
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
