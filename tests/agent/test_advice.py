"""Advice of a wired agent: what it leaves out, and one command that applies it to a real process, on the road of all else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml

from stead.agent import advice
from stead.agent.wiring import Wired, wire
from stead.config import find_paths
from stead.host import LocalHost
from stead.model.advice import ApplyAdvice, GetAdvice
from stead.model.change import Proposal, Run, Step, Target
from stead.model.config import Config, SafetyConfig
from stead.model.errors import SteadError
from stead.model.intent import Protect
from stead.model.observe import MetricsSnapshot, ProcessUse, Top
from stead.model.policy import Actor
from tests.actuators.children import child

DAY_MS, ANN = 86_400_000, Actor("user", "ann")
CORES, CAP = "infra.process_cpu_cores", "cgroup.cpu_cores"
root = pytest.mark.skipif(os.geteuid() != 0, reason="raising a priority again needs CAP_SYS_NICE")


class Bench:
    """A wired agent that has measured what a test says, in mode act, with a policy for the test's own process alone."""

    def __init__(self, tmp_path: Path, pid: int, **intent: Any) -> None:
        policy = {"rules": [{"name": "own", "then": "allow", "when": {"target": [f"process:{pid}"]}}], "solo": True}
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
        config = Config(safety=SafetyConfig(mode="act"), policy=str(tmp_path / "policy.yaml"), **intent)
        paths = msgspec.structs.replace(find_paths(str(tmp_path / "state")), policy=config.policy)
        self.wired: Wired = wire(config, paths, environ={})
        self.rows: list[MetricsSnapshot] = []
        self.pid = pid

        async def merged(*what: Any) -> list[MetricsSnapshot]:
            return self.rows

        self.wired.raw.merged = merged  # type: ignore[method-assign]

    def measured(self, metric: str, subject: str, mean: float) -> None:
        now_ms = self.wired.clock.now().unix_ms
        self.rows.append(MetricsSnapshot(metric, subject, now_ms - 2 * DAY_MS, now_ms, 100, 0, 0.0, *[mean] * 5, 0, *[0.0] * 4))

    def busy(self, *pids: int) -> None:
        host = LocalHost()
        top = [ProcessUse(pid, host.start_ticks(pid) or 0, f"p{pid}", f"p{pid} -x", 0, 1.0, 1, None, 1, 3) for pid in pids]
        for one in top:
            self.measured(CORES, one.subject, 0.9)
        self.wired.road.top = Top(0, len(top), 1, *[tuple(top)] * 3)

    async def advice(self) -> list[Any]:
        return list((await advice.advice(self.wired, GetAdvice())).advice)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with child() as pid:
        made = Bench(tmp_path, pid)
        await made.wired.road.start(made.wired.clock.now())
        yield made
        await made.wired.road.stop(made.wired.clock.now())
        made.wired.close()


@root
async def test_one_command_applies_it_and_an_undo_takes_it_back(bench: Bench) -> None:
    os.setpriority(os.PRIO_PROCESS, bench.pid, 0)
    bench.busy(bench.pid)
    (one,) = await bench.advice()
    assert one.kind == "consumer" and one.title == f"Let others go before p{bench.pid} (pid {bench.pid})"
    run = await advice.apply(bench.wired, ApplyAdvice(one.id), ANN)
    assert run.state == "verifying" and os.getpriority(os.PRIO_PROCESS, bench.pid) == 10
    assert run.proposal.requester == ANN and run.proposal.playbook == "right-size"
    undone = await bench.wired.orders.undo(run.id, ANN)
    assert undone.state == "undone" and os.getpriority(os.PRIO_PROCESS, bench.pid) == 0


@root
async def test_who_waits_for_others_already_is_not_brought_forward(bench: Bench) -> None:
    os.setpriority(os.PRIO_PROCESS, bench.pid, 19)
    bench.busy(bench.pid)
    (one,) = await bench.advice()
    run = await advice.apply(bench.wired, ApplyAdvice(one.id), ANN)
    assert run.state == "moot" and "already so" in run.reason
    assert os.getpriority(os.PRIO_PROCESS, bench.pid) == 19


async def test_an_id_that_is_none_by_now_is_refused(bench: Bench) -> None:
    bench.busy(bench.pid)
    for wrong in ("", "00000000"):
        with pytest.raises(SteadError) as refused:
            await advice.apply(bench.wired, ApplyAdvice(wrong), ANN)
        assert refused.value.problem.code == "advice.unknown"


async def test_neither_stead_nor_what_is_protected_is_advised_to_give_way(tmp_path: Path) -> None:
    with child() as pid:
        made = Bench(tmp_path, pid, protect=(Protect((f"process:*{pid}*",), "shop"),), best_effort=("nothing-of-this-name",))
        made.busy(pid, os.getpid())
        found = await made.advice()
        assert [one.subject.partition("@")[0] for one in found] == [f"process:{pid}"], "stead itself is none"
        task = SimpleNamespace(subject=found[0].subject)
        made.wired.members.protected[0].tasks = [task]  # type: ignore[list-item]
        assert await made.advice() == []
        made.wired.close()


async def test_what_stead_holds_for_now_is_no_limit_of_the_owners(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("cgroup", "/batch", {"id": "7", "boot_id": bench.wired.host.boot_id})
    values = {"cpu_max_percent": 400.0, "memory_high_bytes": "max"}

    class Limits:
        async def read(self, *what: Any) -> Any:
            return msgspec.defstruct("Limit", [(name, Any) for name in values])(**values)

    monkeypatch.setitem(bench.wired.road.plugged.actuators, "limit", Limits())  # type: ignore[arg-type]
    bench.measured(CAP, "cgroup:/batch@7", 0.5)
    (wide,) = await bench.advice()
    assert wide.kind == "limit" and wide.state == {"cpu_max_percent": 60.0}
    held = Step("limit", target, {"cpu_max_percent": "max"}, {"cpu_max_percent": 400.0}, "exact")
    proposal = Proposal("p", "cap-cpu", "t", None, ANN, "low", 1, 0.5, (held,), None, 1.0, "h", 0, 1)
    for state, told in (("held", 0), ("verifying", 0), ("undone", 1)):
        bench.wired.road.runs["p"] = Run("p", proposal, state)  # type: ignore[arg-type]
        assert len(await bench.advice()) == told, state
    del bench.wired.road.runs["p"]


async def test_advice_of_another_value_has_another_id(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Limits:
        async def read(self, *what: Any) -> Any:
            return msgspec.defstruct("Limit", [("cpu_max_percent", float)])(400.0)

    monkeypatch.setitem(bench.wired.road.plugged.actuators, "limit", Limits())  # type: ignore[arg-type]
    bench.measured(CAP, "cgroup:/batch@7", 0.5)
    (first,) = await bench.advice()
    bench.rows.clear()
    bench.measured(CAP, "cgroup:/batch@7", 1.0)
    (second,) = await bench.advice()
    assert first.state != second.state and first.id != second.id
