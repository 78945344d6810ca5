from __future__ import annotations

from pathlib import Path

import pytest

from stead.actuators.autonomy import AutonomyState, actuator
from stead.actuators.autonomy_file import AutonomyFile
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.model.policy import Autonomy
from stead.testing import FakeHost

HOST, WEB = Target("autonomy", "host"), Target("autonomy", "web")


@pytest.fixture
def kept(tmp_path: Path) -> AutonomyFile:
    return AutonomyFile(tmp_path, tmp_path / "pause", Autonomy("act", {"host": 2}))


async def test_only_what_is_wanted_changes(kept: AutonomyFile, tmp_path: Path) -> None:
    autonomy, host = actuator(kept), FakeHost(tmp_path)
    await autonomy.write(host, HOST, AutonomyState(ceiling=0))
    assert kept.read() == Autonomy("act", {"host": 0})
    await autonomy.write(host, HOST, AutonomyState(locked=True, paused=True))
    assert kept.read() == Autonomy("act", {"host": 0}, locked=True, paused=True)
    await autonomy.write(host, HOST, AutonomyState(mode="observe", paused=False))
    assert kept.read() == Autonomy("observe", {"host": 0}, locked=True)


async def test_a_scope_has_its_own_ceiling_else_the_hosts(kept: AutonomyFile, tmp_path: Path) -> None:
    autonomy, host = actuator(kept), FakeHost(tmp_path)
    assert await autonomy.read(host, WEB) == AutonomyState("act", 2, False, False)
    await autonomy.write(host, WEB, AutonomyState(ceiling=1))
    assert await autonomy.read(host, WEB) == AutonomyState("act", 1, False, False)
    assert await autonomy.read(host, HOST) == AutonomyState("act", 2, False, False)


async def test_the_plan_is_the_difference_and_has_no_lease(kept: AutonomyFile, tmp_path: Path) -> None:
    autonomy = actuator(kept)
    now = await autonomy.read(FakeHost(tmp_path), HOST)
    step = autonomy.plan(HOST, now, AutonomyState("act", 1))
    assert step.diff == {"ceiling": (2, 1)} and step.undo == "exact" and step.lease_s is None


@pytest.mark.parametrize("ceiling", [-1, 3])
async def test_ceilings_have_their_range(kept: AutonomyFile, tmp_path: Path, ceiling: int) -> None:
    with pytest.raises(SteadError, match="0 to 2"):
        actuator(kept).plan(HOST, AutonomyState("act", 1), AutonomyState(ceiling=ceiling))


async def test_what_is_not_autonomy(kept: AutonomyFile, tmp_path: Path) -> None:
    autonomy, host = actuator(kept), FakeHost(tmp_path)
    assert await autonomy.read(host, Target("process", "1")) == ABSENT
    with pytest.raises(SteadError):
        await autonomy.write(host, Target("process", "1"), AutonomyState(ceiling=1))
    with pytest.raises(SteadError):
        autonomy.plan(HOST, AutonomyState(), ABSENT)
