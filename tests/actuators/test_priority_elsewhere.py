"""`priority` where levers are missing: macOS and Windows as psutil is documented there, and kernels without clamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.priority import Priority, actuator
from stead.model.change import Target
from stead.model.errors import SteadError
from stead.testing import FakeHost
from stead.testing.actuators import CHECKS, Case
from tests.actuators.test_priority import fake, process
from tests.host.elsewhere import PID, ElsewhereHost

__all__ = ["fake"]
STATES = {
    "windows": (
        Priority(nice=19),
        Priority(nice=12),
        Priority(nice=-7, ionice_class="best_effort", ionice_level=6),
        Priority(ionice_class="idle"),
        Priority(cpus="1-2"),
    ),
    "darwin": (Priority(nice=19), Priority(nice=-5)),
}


def target(host: FakeHost) -> Target:
    return Target("process", str(PID), {"start_ticks": str(host.start_ticks(PID)), "boot_id": host.boot_id})


@pytest.mark.parametrize("system", STATES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_conforms_there_too(tmp_path: Path, system: str, check: Any) -> None:
    host = ElsewhereHost(tmp_path, system)
    mine = target(host)
    absent = msgspec.structs.replace(mine, name="7")
    successor = msgspec.structs.replace(mine, identity={**mine.identity, "start_ticks": "1"})
    await check(Case(actuator(host), host, mine, STATES[system], absent, successor))


@pytest.mark.parametrize(
    ("system", "want", "planned", "note"),
    [
        (
            "windows",
            Priority(nice=19, autogroup_nice=19, policy="idle"),
            {"nice": 19},
            "windows has no autogroups; windows has no scheduling classes",
        ),
        (
            "darwin",
            Priority(nice=10, ionice_class="idle", cpus="0"),
            {"nice": 10},
            "darwin has no IO priority; darwin has no CPU affinity",
        ),
    ],
)
async def test_what_a_system_lacks_is_left_out_and_said(
    tmp_path: Path, system: str, want: Priority, planned: dict[str, object], note: str
) -> None:
    host = ElsewhereHost(tmp_path, system)
    levers, mine = actuator(host), target(host)
    step = levers.plan(mine, await levers.read(host, mine), want)
    assert (step.want, step.note, step.undo) == (planned, note, "exact")
    await levers.write(host, mine, msgspec.convert(step.want, Priority))
    assert levers.met(await levers.read(host, mine), want)


@pytest.mark.parametrize(
    ("system", "want", "why"),
    [
        ("darwin", Priority(ionice_class="idle"), "darwin has no IO priority"),
        ("windows", Priority(policy="idle"), "windows has no scheduling classes"),
    ],
)
async def test_a_wish_for_nothing_but_what_is_missing_is_refused_by_name(
    tmp_path: Path, system: str, want: Priority, why: str
) -> None:
    host = ElsewhereHost(tmp_path, system)
    levers, mine = actuator(host), target(host)
    seen = await levers.read(host, mine)
    assert not levers.met(seen, want), "it is not so already"
    with pytest.raises(SteadError, match=why):
        levers.plan(mine, seen, want)


async def test_clamps_are_set_and_put_back(fake: FakeHost) -> None:
    levers, ten = actuator(fake), process(fake, 10)
    before = await levers.read(fake, ten)
    step = levers.plan(ten, before, Priority(uclamp_max=256))
    assert (step.before, step.want, step.undo) == ({"uclamp_max": 1024}, {"uclamp_max": 256}, "exact")
    await levers.write(fake, ten, Priority(uclamp_max=256))
    assert fake.scheduler.uclamp(10) == (0, 256)
    await levers.write(fake, ten, Priority(uclamp_max=1024))
    assert await levers.read(fake, ten) == before


@pytest.mark.parametrize("want", [Priority(uclamp_max=2000), Priority(uclamp_min=600, uclamp_max=500), Priority(uclamp_max=-1)])
async def test_clamps_that_cross_or_are_out_of_range_are_refused(fake: FakeHost, want: Priority) -> None:
    levers, ten = actuator(fake), process(fake, 10)
    with pytest.raises(SteadError, match="can't be"):
        levers.plan(ten, await levers.read(fake, ten), want)


async def test_a_kernel_without_clamps_is_said(fake: FakeHost) -> None:
    fake.scheduler.missing["uclamp"] = "this kernel has no utilisation clamps"
    levers, ten = actuator(fake), process(fake, 10)
    seen = await levers.read(fake, ten)
    step = levers.plan(ten, seen, Priority(nice=5, uclamp_max=256))
    assert (step.want, step.note) == ({"nice": 5}, "this kernel has no utilisation clamps")
    with pytest.raises(SteadError, match="no utilisation clamps"):
        levers.plan(ten, seen, Priority(uclamp_max=256))
