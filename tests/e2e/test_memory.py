"""A leaking process beside a protected one, for real, in groups of version 1 here: it is stopped before either of them dies."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.cgroups.tree import Groups
from stead.model import messages as m
from stead.model.change import Run
from tests.cgroups.groups import group, put, real_groups
from tests.e2e.place import Agent, agent, wait_until
from tests.e2e.relief import relief_ms, told

LEAK, SHOP = f"leak{os.getpid()}", f"shop{os.getpid()}"
LIMIT_MB, SHOP_MB, STEP_MB = 700, 60, 4
GROWS = f"""
import sys, time
held = []
for line in sys.stdin:
    due = time.monotonic()
    while True:
        held.append(bytearray({STEP_MB} << 20)); held[-1][::4096] = b"x" * len(held[-1][::4096])
        due = max(due + float(line), time.monotonic())
        time.sleep(max(0, due - time.monotonic()))
"""
PARENT = f"import os, signal\nwhile os.fork():\n    os.wait()\n{GROWS}"
WORKS = f"""
import sys, time
held = bytearray({SHOP_MB} << 20); held[::4096] = b"x" * len(held[::4096])
print(flush=True)
while True:
    for place in range(0, len(held), 4096):
        held[place] ^= 1
    time.sleep(0.05)
"""


class Program:
    """A process under a name of its own."""

    def __init__(self, folder: Path, name: str, code: str) -> None:
        program = folder / name
        program.symlink_to(sys.executable)
        argv = [str(program), "-S", "-c", code]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.pid = self.process.pid

    def go(self, pause_s: float) -> None:
        """Begin to grow: so many MiB each so many seconds."""
        assert self.process.stdin
        self.process.stdin.write(f"{pause_s}\n")
        self.process.stdin.flush()

    def heard(self) -> None:
        assert self.process.stdout
        self.process.stdout.readline()

    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096 / 1e6

    def state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 18)
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Place:
    """A group with a limit that a protected program and a leaking one share; the leaking one has a group in it if `apart`."""

    def __init__(self, groups: Groups, shared: str, hog: str, leak: Program, shop: Program) -> None:
        self.groups, self.shared, self.hog, self.leak, self.shop = groups, shared, hog, leak, shop

    def frozen(self) -> bool:
        return Path(f"{self.groups.folder(self.hog, 'freezer')}/freezer.state").read_text().strip() == "FROZEN"

    def used_mb(self) -> float:
        return int(Path(f"{self.groups.folder(self.shared, 'memory')}/memory.usage_in_bytes").read_text()) / 1e6

    def kills(self) -> int:
        control = Path(f"{self.groups.folder(self.shared, 'memory')}/memory.oom_control").read_text()
        return int(control.split()[-1])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    _, groups = real_groups()
    trees = ("memory", "freezer")
    with contextlib.closing(Program(tmp_path, LEAK, GROWS)) as leak, contextlib.closing(Program(tmp_path, SHOP, WORKS)) as shop:
        shop.heard()
        with group(groups, trees) as shared, group(groups, trees, shared) as hog:
            Path(f"{groups.folder(shared, 'memory')}/memory.limit_in_bytes").write_text(str(LIMIT_MB << 20))
            put(groups, shared, shop.pid, trees)
            yield Place(groups, shared, hog, leak, shop)


def config(tmp_path: Path, *best_effort: str, **more: Any) -> dict[str, Any]:
    """Shipped remedies, and a policy for this test's own things alone."""
    targets = [f"process:{LEAK}", "cgroup:/steadtest-*"]
    rules = [
        {"name": "own", "then": "allow", "when": {"target": targets, "undo": ["exact"]}},
        {"name": "autonomy", "then": "allow", "when": {"actuator": ["autonomy"]}},
    ]
    policy = {"rules": rules, "budget": {"actions_per_hour": 1000}, "solo": True}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "mine.yaml").write_text(yaml.safe_dump(more))
    return {
        "policy": str(tmp_path / "policy.yaml"),
        "catalog": str(tmp_path / "overlay"),
        "protect": [{"name": "shop", "match": [f"process:{SHOP}"]}],
        "best_effort": list(best_effort),
    }


def newest(one: Agent, playbook: str) -> Run | None:
    return next(iter(one.runs(playbook)), None)


def settled(one: Agent, place: Place, playbook: str) -> Run:
    """The run of a rung once its verdict is in."""
    held = wait_until(lambda: (run := newest(one, playbook)) and run.verdict and run, f"{playbook} has its verdict", 40)
    assert held.state == "held", (held.state, held.reason, held.verdict)
    assert place.kills() == 0 and place.shop.state() in "SRD"
    return held


def begin(one: Agent, place: Place) -> None:
    """Let it be watched for a while, then grow by 60 MB a second."""
    wait_until(lambda: one.ask(m.GetStatus()).ticks >= 4, "it has seen how things were")
    place.leak.go(STEP_MB / 60)


def test_a_leaking_group_is_frozen_before_anybody_dies_and_thawed_when_a_person_says_so(tmp_path: Path, place: Place) -> None:
    put(place.groups, place.hog, place.leak.pid, ("memory", "freezer"))
    with agent(tmp_path, config=config(tmp_path, f"cgroup:{place.hog}"), mode="act") as one:
        begin(one, place)
        wait_until(place.frozen, "it is frozen")
        frozen_mb = place.used_mb()
        assert frozen_mb < LIMIT_MB * 0.8, "long before it is full"
        held = settled(one, place, "freeze-hog")
        assert held.verdict and held.verdict.result == "helped" and held.undo_reason == ""
        tried = newest(one, "hold-memory")
        assert tried and tried.state == "unsupported" and "memory" in tried.reason, "what the kernel lacks is said"
        assert abs(place.used_mb() - frozen_mb) < 20, "it takes no more"
        (finding,) = one.findings("infra.memory_time_to_full")
        assert "lasts" in finding.title and finding.open, "it still wants what it wanted"
        one.ask(m.Undo(held.id))
        wait_until(lambda: not place.frozen(), "it is thawed")
        undone = newest(one, "freeze-hog")
        assert undone and undone.state == "undone"
        one.stop()


@pytest.mark.long  # the same rung for a process without a group of its own; and that a finding ends with its contender
def test_a_leaking_process_is_stopped_and_put_back_when_the_agent_says_so(tmp_path: Path, place: Place) -> None:
    put(place.groups, place.shared, place.leak.pid, ("memory",))
    with agent(tmp_path, config=config(tmp_path, f"process:{LEAK}"), mode="act") as one:
        begin(one, place)
        wait_until(lambda: place.leak.state() == "T", "it is stopped")
        stopped_mb = place.leak.resident_mb()
        held = settled(one, place, "freeze-hog")
        assert held.proposal.steps[0].actuator == "process" and held.proposal.steps[0].undo == "exact"
        assert abs(place.leak.resident_mb() - stopped_mb) < 1
        one.ask(m.Undo(held.id))
        wait_until(lambda: place.leak.state() != "T", "it goes on")
        place.leak.process.kill()
        wait_until(lambda: not one.findings("infra.memory_time_to_full"), "the finding clears", 40)
        one.stop()


@pytest.mark.long  # the rung after that: what a process started goes on growing while it is stopped itself
def test_what_grows_in_a_child_is_frozen_with_its_whole_family(tmp_path: Path, place: Place) -> None:
    (tmp_path / "family").mkdir()
    with contextlib.closing(Program(tmp_path / "family", LEAK, PARENT)) as leak:
        put(place.groups, place.shared, leak.pid, ("memory",))
        (child,) = wait_until(lambda: children(leak.pid), "it has a child")
        put(place.groups, place.shared, child, ("memory",))
        with agent(tmp_path, config=config(tmp_path, f"process:{LEAK}"), mode="act") as one:
            wait_until(lambda: one.ask(m.GetStatus()).ticks >= 4, "it has seen how things were")
            leak.go(STEP_MB / 30)
            wait_until(lambda: newest(one, "freeze-hog"), "it is stopped itself")
            wait_until(lambda: (run := newest(one, "freeze-family")) and run.state != "acting", "its family is frozen", 40)
            held = settled(one, place, "freeze-family")
            before = newest(one, "freeze-hog")
            assert before and before.verdict and before.verdict.result == "no_help" and before.state == "undone"
            one.ask(m.Undo(held.id))
            wait_until(lambda: (run := newest(one, "freeze-family")) and run.state == "undone", "it is put back")
            one.stop()
        os.kill(child, 9)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


FREEZES_S = 12.0  # of memory left: what can't be held here is frozen then
ROUNDS = int(os.environ.get("STEAD_LEAKS", "100"))


@pytest.mark.long  # a hundred leaks of every pace: the protected program outlives them all, and nothing is killed
@pytest.mark.timeout(1800)
def test_the_protected_survives_a_hundred_leaks(tmp_path: Path, place: Place) -> None:
    paces, took_s, full = random.Random(5), [], []
    with agent(tmp_path, config=config(tmp_path, f"cgroup:{place.shared}/*"), mode="act") as one:
        wait_until(lambda: one.ask(m.GetStatus()).ticks >= 4, "it has seen how things were")
        for number in range(ROUNDS):
            (tmp_path / str(number)).mkdir()
            leak = Program(tmp_path / str(number), LEAK, GROWS)
            with contextlib.closing(leak), group(place.groups, ("memory", "freezer"), place.shared) as hog:
                put(place.groups, hog, leak.pid, ("memory", "freezer"))
                state = Path(f"{place.groups.folder(hog, 'freezer')}/freezer.state")
                time.sleep(1.2)
                leak.go(STEP_MB / paces.uniform(20, 150))
                began = time.monotonic()
                wait_until(lambda at=state: at.read_text().strip() == "FROZEN", f"leak {number} is frozen", 90)  # type: ignore[misc]
                took_s.append(time.monotonic() - began)
                full.append(place.used_mb() / LIMIT_MB)
                assert place.kills() == 0 and place.shop.process.poll() is None and leak.process.poll() is None, number
                wait_until(lambda: (run := newest(one, "freeze-hog")) and run.state != "acting", "it is recorded")
        findings, runs = one.ask(m.ListFindings(cleared=True, limit=500)).findings, one.ask(m.ListRuns(limit=500)).runs
        one.stop()
    took_s.sort()
    took_ms = relief_ms(findings, runs, FREEZES_S)
    assert len(took_ms) == ROUNDS, "each leak has a finding, and a rung that answered it"
    print(told(took_ms))
    print(f"first relief: median {took_s[ROUNDS // 2]:.2f} s, last {took_s[-1]:.2f} s; at most {max(full):.0%} full")


ONLY_ASK = {
    "metrics": [
        {
            "metric_id": "infra.memory_time_to_full",
            "category": "infra",
            "description": "how long memory lasts",
            "unit": "seconds",
            "aggregation": "min",
            "recommended_interval_seconds": 1,
            "thresholds": {"good": {"lower": 60}, "critical": {"upper": 60}},
            "playbooks": ["end-hog"],
        }
    ]
}


def test_an_end_waits_for_a_person_who_sees_what_it_gives_and_then_what_it_gave(tmp_path: Path, place: Place) -> None:
    put(place.groups, place.hog, place.leak.pid, ("memory", "freezer"))
    with agent(tmp_path, config=config(tmp_path, f"cgroup:{place.hog}", **ONLY_ASK), mode="act") as one:
        begin(one, place)
        asked = wait_until(lambda: newest(one, "end-hog"), "a person is asked")
        assert asked.state == "waiting" and place.leak.process.poll() is None
        (step,) = asked.proposal.steps
        assert step.target.kind == "process" and step.target.name == str(place.leak.pid) and "gives back" in step.note
        assert any("always asked" in reason for reason in asked.decision.reasons)  # type: ignore[union-attr]
        one.ask(m.Approve(asked.id, asked.proposal.plan_hash))
        assert place.leak.process.wait(20) == -15
        done = wait_until(lambda: (run := newest(one, "end-hog")) and run.receipts and run, "there is a receipt")
        assert done.receipts[0].outcome == "done" and "MemAvailable went from" in done.receipts[0].operations[-1]
        assert place.kills() == 0 and place.shop.process.poll() is None
        one.stop()
