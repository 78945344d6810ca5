"""A remedy that is to slow a group never gives it more than its owner does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stead.actuators.limit import Limit, actuator
from stead.catalog import load_catalog
from stead.cgroups.devices import tighter
from stead.flow.plan import plan
from stead.flow.propose import ProposeContext, Wish, bind
from stead.model.find import Finding
from stead.model.observe import Now
from stead.model.policy import Policy
from tests.cgroups.recorded import RecordedHost
from tests.flow.kit import POLICY_ACTOR, counter


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (["8:0 rbps=5 wbps=max riops=50 wiops=max"], ["8:0 rbps=9 wbps=9"], ["8:0 rbps=5 wbps=9 riops=50 wiops=max"]),
        (
            ["8:0 wbps=100"],
            ["8:16 rbps=9"],
            ["8:0 rbps=max wbps=100 riops=max wiops=max", "8:16 rbps=9 wbps=max riops=max wiops=max"],
        ),
        ([], ["8:0 rbps=9"], ["8:0 rbps=9 wbps=max riops=max wiops=max"]),
        ([], [], []),
    ],
)
def test_of_io_the_tighter_of_both_counts(one: list[str], other: list[str], both: list[str]) -> None:
    assert tighter(one, other) == tighter(other, one) == both


def test_a_tighter_limit_of_the_owners_stays(tmp_path: Path) -> None:
    limit: Any = actuator(RecordedHost(tmp_path))
    now = Limit(cpu_weight=3, io_weight=10, cpu_idle=False, io_max=["254:0 rbps=1000000 wbps=1000000 riops=50 wiops=max"])
    wide, narrow = ["* rbps=10000000 wbps=10000000"], ["* rbps=500000 wbps=10000000"]
    assert limit.slowing(now, {"cpu_weight": 10, "io_weight": 20, "io_max": wide}) == {}
    assert limit.slowing(now, {"cpu_weight": 1, "io_weight": 1}) == {"cpu_weight": 1, "io_weight": 1}
    assert limit.slowing(now, {"io_max": narrow}) == {"io_max": ["254:0 rbps=500000 wbps=1000000 riops=50 wiops=max"]}
    assert limit.slowing(Limit(io_max=[]), {"io_max": wide}) == {"io_max": wide}
    assert limit.slowing(Limit(cpu_idle=True), {"cpu_weight": 10, "cpu_idle": True}) == {}


@pytest.mark.parametrize("playbook", ["let-others-first", "slow-io", "cap-io"])
@pytest.mark.parametrize("profile", ["conservative", "balanced", "aggressive"])
@pytest.mark.parametrize("owners", [False, True], ids=["nobody", "owner"])
async def test_no_shipped_remedy_gives_a_contender_more(tmp_path: Path, playbook: str, profile: Any, owners: bool) -> None:
    host = RecordedHost(tmp_path)
    host.group("/batch")
    folder = host.group("/batch/hog", pids=[4711])
    host.process(4711, "hog", "/batch/hog")
    if owners:
        host.put(f"{folder}/cpu.weight", "3\n")
        host.put(f"{folder}/io.weight", "default 3\n")
        host.put(f"{folder}/io.bfq.weight", "default 3\n")
        host.put(f"{folder}/io.max", "254:0 rbps=1000000 wbps=2000000 riops=50 wiops=max\n")
    limit: Any = actuator(host)
    thing = limit.groups.target("/batch/hog")
    subject = f"cgroup:/batch/hog@{thing.identity['id']}"
    finding = Finding("i", "f", "band", "infra.cpu_contention", subject, "critical", "t", 50.0, 5.0, "percent", 0, 0, 0)
    context = ProposeContext(latest=lambda metric, one: 50e6, boot_id=host.boot_id, profile=profile)
    shipped = load_catalog("").playbooks[playbook]
    settings = bind(shipped, finding, context)
    assert not isinstance(settings, str)
    now = await limit.read(host, thing)
    made = await plan(
        Wish(shipped, finding, POLICY_ACTOR, settings), {"limit": limit}, host, context.latest, Policy(), Now(1, 1), counter()
    )
    for step in made.steps:
        for key, value in (step.want or {}).items():
            if key == "io_max":
                assert tighter(now.io_max, value) == value, made
            elif getattr(now, key) not in (None, "max"):
                assert value is True or value < getattr(now, key), made
    assert bool(made.steps) or owners, made.impossible
