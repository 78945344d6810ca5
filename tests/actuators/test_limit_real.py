"""What limits do to real processes in real groups of this machine (version 1): shares, caps, freezing, refusals."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.limit import Limit, actuator
from stead.cgroups.tree import Groups
from stead.host import LocalHost
from stead.model.change import Step
from stead.model.errors import SteadError
from tests.cgroups.groups import group, put, real_groups, sleeper

BUSY = "\nwhile True: pass"
HELD = "x = bytearray(48 << 20); print(2, flush=True); import time; time.sleep(600)"


async def made(limit: Any, host: LocalHost, groups: Groups, path: str, **want: Any) -> Step:
    target = groups.target(path)
    assert target is not None
    step: Step = limit.plan(target, await limit.read(host, target), Limit(**want))
    await limit.write(host, target, msgspec.convert(step.want, Limit))
    return step


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.alone
async def test_a_cap_is_what_it_gets_and_an_idle_group_gets_what_others_leave() -> None:
    host, groups = real_groups()
    limit, cpu = actuator(host), max(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}}){BUSY}"
    with sleeper(code) as hog, sleeper(code) as other, group(groups, ("cpu",)) as slow, group(groups, ("cpu",)) as fast:
        put(groups, slow, hog, ("cpu",))
        put(groups, fast, other, ("cpu",))
        ran = []
        for want in ({"cpu_idle": True}, {"cpu_idle": False, "cpu_max_percent": 20.0}):
            step = await made(limit, host, groups, slow, **want)
            began = ticks(hog), ticks(other)
            time.sleep(2.0)
            ran.append((ticks(hog) - began[0], ticks(other) - began[1]))
            await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert ran[0][1] > 10 * ran[0][0], f"idle: {ran[0]}"
    assert 0 < ran[1][0] <= 0.2 * 200 * 1.2, f"capped at a fifth of a core for two seconds: {ran[1]}"


async def test_a_frozen_group_stands_still_and_goes_on() -> None:
    host, groups = real_groups()
    limit = actuator(host)
    with sleeper(BUSY) as pid, group(groups, ("cpu", "freezer")) as path:
        put(groups, path, pid, ("cpu", "freezer"))
        step = await made(limit, host, groups, path, frozen=True)
        assert Path(f"{groups.folder(path, 'freezer')}/freezer.state").read_text() == "FROZEN\n"
        used = ticks(pid)
        time.sleep(0.3)
        assert ticks(pid) == used
        await limit.write(host, step.target, msgspec.convert(step.before, Limit))
        until = time.monotonic() + 20
        while ticks(pid) == used:
            assert time.monotonic() < until, "it does not run again"
            time.sleep(0.02)


async def test_what_is_in_use_can_not_be_taken_away() -> None:
    """48 MiB of anonymous memory, and no swap to put it into."""
    host, groups = real_groups()
    limit = actuator(host)
    with group(groups, ("memory",)) as path, sleeper("import sys; sys.stdin.readline()") as pid:
        put(groups, path, pid, ("memory",))
        with sleeper(f"import os; open('{groups.folder(path, 'memory')}/cgroup.procs', 'w').write(str(os.getpid())); {HELD}"):
            usage = Path(f"{groups.folder(path, 'memory')}/memory.usage_in_bytes")
            until = time.monotonic() + 20
            while int(usage.read_text()) < 48 << 20:
                assert time.monotonic() < until, "it does not fill its memory"
                time.sleep(0.02)
            if "SwapFree:              0 kB" not in Path("/proc/meminfo").read_text():
                pytest.skip("there is swap here")
            with pytest.raises(SteadError, match=r"below the .* MiB that it uses and can't give back"):
                await made(limit, host, groups, path, memory_max_bytes=32 << 20)
            target = groups.target(path)
            assert target is not None
            with pytest.raises(SteadError, match="can't give back"):
                await limit.write(host, target, Limit(memory_max_bytes=32 << 20))
            assert (await limit.read(host, target)).memory_max_bytes == "max"
