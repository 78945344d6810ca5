"""Runs inside the guest where systemd is hidden: `placement` on a real tree of version 2, at whose root a process is.

    python -m tests.guest.inside.placing

Prints JSON: what failed of the conformance suite, and how long two busy processes on one CPU ran, one of them placed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stead.actuators.placement import Placement, actuator
from stead.cgroups.tree import Groups
from stead.host import LocalHost
from stead.model.change import Target
from stead.testing.actuators import CHECKS, Case

ROOT = Path("/sys/fs/cgroup")
BUSY = "while True: pass"
STATES = (
    Placement(group="best-effort"),
    Placement(group="best-effort", cpu_max_percent=30.0),
    Placement(group="best-effort", frozen=True, cpu_max_percent=20.0),
)


@contextlib.contextmanager
def busy() -> Iterator[int]:
    """A busy process at the root of the tree."""
    child = subprocess.Popen([sys.executable, "-S", "-c", BUSY], start_new_session=True)
    os.sched_setaffinity(child.pid, {0})
    (ROOT / "cgroup.procs").write_text(str(child.pid))
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def target(host: LocalHost, pid: int) -> Target:
    return Target("process", str(pid), {"start_ticks": str(host.start_ticks(pid)), "boot_id": host.boot_id})


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def failures(host: LocalHost) -> dict[str, str]:
    """What the conformance suite found, each check on a process of its own."""
    found = {}
    for check in CHECKS:
        with busy() as pid:
            mine = target(host, pid)
            successor = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
            absent = msgspec.structs.replace(mine, identity={**mine.identity, "boot_id": "another"})
            try:
                await check(Case(actuator(host), host, mine, STATES, absent, successor))
            except Exception as error:
                found[check.__name__] = repr(error)
            await actuator(host).write(host, mine, Placement(group="/", made=False))
    return found


async def shares(host: LocalHost) -> tuple[int, int]:
    """Ticks of the one that is placed, and of the other, in three seconds on one CPU."""
    with busy() as hog, busy() as other:
        placement: Any = actuator(host)
        step = placement.plan(target(host, hog), await placement.read(host, target(host, hog)), Placement(group="best-effort"))
        await placement.write(host, step.target, msgspec.convert(step.want, Placement))
        began = ticks(hog), ticks(other)
        time.sleep(3.0)
        ran = ticks(hog) - began[0], ticks(other) - began[1]
        await placement.write(host, step.target, msgspec.convert(step.before, Placement))
    return ran


async def main() -> None:
    host = LocalHost()
    groups = Groups.of(host)
    told = {"version": groups.version, "systemd": groups.systemd, "failures": await failures(host), "shares": await shares(host)}
    told["left"] = (ROOT / "stead").exists()
    print(json.dumps(told))


if __name__ == "__main__":
    os.chdir("/")
    asyncio.run(main())
