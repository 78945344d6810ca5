"""kill -9 of the real agent at every named point of every actuator's steps, then a restart.

Whatever the moment, each touched setting is afterwards verified (as wanted, with a run that says so) or restored (as before),
and the ledger holds one receipt for every attempt. 50 kills here; `make test-long` repeats them to 500.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from stead.flow.write import POINTS
from stead.host import LocalHost
from stead.model import messages as m
from stead.model.change import Run
from stead.model.errors import SteadError
from stead.workloads.children import find_marked
from tests.e2e.place import HOG, SHORT, Agent, Hog, hog, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)

REACH_S = 80.0  # beside other tests a greedy process may get too little of the CPU to be found at first
T = TypeVar("T")
WAYS = [("priority", "forward"), ("priority", "undo"), ("autonomy", "forward")]
WAYS += [("workload", "forward"), ("workload", "undo"), ("service", "forward")]
SPOTS = [(actuator, way, point) for actuator, way in WAYS for point in POINTS]
EXTRA = [("priority", way, point) for way in ("forward", "undo") for point in POINTS]
EXTRA += [("workload", "undo", "after_write"), ("service", "forward", "after_write")]
KILLS = SPOTS + EXTRA
LONG = [(number, spot) for number in range(10) for spot in KILLS]

QUEUE = {
    "metric_id": "executor.queue_depth",
    "category": "executor",
    "description": "jobs that wait",
    "unit": "count",
    "aggregation": "max",
    "recommended_interval_seconds": 1,
    "thresholds": {"good": {"upper": 25}, "warning": {"lower": 25}},
    "playbooks": ["scale-workers"],
}
OLDEST = {**QUEUE, "metric_id": "executor.task_latency", "unit": "seconds", "playbooks": ["restart-workers"]}
SCALE = {
    "playbook_id": "scale-workers",
    "title": "one more worker",
    "risk": "low",
    "tier": 1,
    "settings": [{"actuator": "workload", "state": {"count": {"add": 1}}, "lease_s": 60}],
    "verify": {"window_s": 2, "good_readings": 0},
}
RESTART = {
    "playbook_id": "restart-workers",
    "title": "restart the workers",
    "risk": "medium",
    "tier": 2,
    "settings": [{"actuator": "service", "state": {"generation": {"add": 1}}}],
    "verify": {"window_s": 2, "good_readings": 0},
}


class Scene:
    """One state directory with a hog or a workload, and how to reach each crash point on it."""

    def __init__(self, folder: Path, actuator: str, way: str) -> None:
        self.folder, self.actuator, self.way = folder, actuator, way
        self.control = folder / "control.json"
        self.hog: Hog | None = None
        metrics, playbooks = [*SHORT["metrics"], QUEUE, OLDEST], [*SHORT["playbooks"], SCALE, RESTART]
        (folder / "short.yaml").write_text(yaml.safe_dump({"metrics": metrics, "playbooks": playbooks}))
        rules = [{"name": "ours", "then": "allow", "when": {"target": [f"process:{HOG}", "workload:jobs", "autonomy:*"]}}]
        (folder / "policy.yaml").write_text(yaml.safe_dump({"rules": rules, "budget": {"actions_per_hour": 1000}}))
        config: dict[str, Any] = {
            "catalog": str(folder / "short.yaml"),
            "policy": str(folder / "policy.yaml"),
            "safety": {"profile": "aggressive"},
        }
        if actuator in ("workload", "service"):
            worker = str(Path(__file__).with_name("worker.py"))
            config["workloads"] = [
                {"name": "jobs", "argv": [sys.executable, worker, str(self.control)], "workers": 1, "start_grace_s": 0.5}
            ]
        self.agent = Agent(folder, config=config, mode="act")

    def provoke(self) -> None:
        """Bring about what makes the actuator write forward."""
        if self.actuator == "autonomy":
            self.order(m.SetAutonomy(ceiling=0))
        elif self.actuator != "priority":
            self.control.write_text(json.dumps({"queue_depth": 99} if self.actuator == "workload" else {"oldest_job_s": 99}))

    def calm(self) -> None:
        """End what provoked it, so that after the crash nothing new begins."""
        if self.actuator in ("workload", "service"):
            self.control.write_text("{}")

    def order(self, body: Any) -> None:
        """An order whose answer may never come: the agent dies of it."""
        try:
            self.agent.ask(body)
        except SteadError:
            return

    def to_crash(self) -> None:
        """Reach the crash point: forward by provoking, undo by a person's order on what is held."""
        self.provoke()
        if self.way == "undo":
            run = reach(self, lambda: self.mine("verifying", "held", "kept"), "it has acted")
            self.calm()
            self.order(m.Undo(run[0].id))

    def mine(self, *states: str) -> list[Run]:
        """This actuator's runs in these states (all, if none are named), newest first."""
        runs = [r for r in self.agent.runs() if r.proposal.steps and r.proposal.steps[0].actuator == self.actuator]
        return [r for r in runs if not states or r.state in states]

    def seen(self) -> dict[str, Any]:
        """The setting as the system itself says it is."""
        status = self.agent.ask(m.GetStatus())
        if self.actuator == "priority":
            assert self.hog is not None
            return {"nice": self.hog.nice(), "autogroup_nice": self.hog.autogroup()}
        if self.actuator == "autonomy":
            return {"ceiling": status.autonomy.ceiling("host", 2)}
        workload = status.workloads[0]
        running = sum(1 for w in workload.workers if Path(f"/proc/{w.pid}").exists())
        return {"count": running} if self.actuator == "workload" else {"generation": min(w.generation for w in workload.workers)}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[[str, str], Scene]]:
    made: list[Scene] = []

    def make(actuator: str, way: str) -> Scene:
        made.append(Scene(tmp_path, actuator, way))
        return made[-1]

    yield make
    for one in made:
        process = one.agent.process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(20)
    for status, pids in find_marked(LocalHost(), "STEAD_STATUS").items():
        for pid in pids if Path(status).is_relative_to(tmp_path) else ():
            os.kill(pid, signal.SIGKILL)


def settled(scene: Scene) -> Run | None:
    """The run that the crash hit, once nothing acts any more and what it says is what the system says."""
    runs = scene.mine()
    if any(run.state in ("acting", "undoing", "approved") for run in runs):
        return None
    hit = next((run for run in runs if run.attempts), None)
    if hit is None:
        return runs[0] if runs else None
    step, seen = hit.proposal.steps[0], scene.seen()
    expected = step.want if hit.state in ("verifying", "held", "kept") else step.before
    if scene.actuator == "service":
        return hit if hit.state in ("verifying", "kept", "failed", "undo_failed") and seen["generation"] in (0, 1, 2) else None
    return hit if all((expected or {}).get(key) == value for key, value in seen.items()) else None


def reach(scene: Scene, condition: Callable[[], T], what: str) -> T:
    """Wait for something; a failure tells what the agent has seen and done."""
    try:
        return wait_until(condition, what, REACH_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; {story(scene)}") from None


def story(scene: Scene) -> str:
    """What the agent has seen and done, for a failure's message."""
    findings = [(f.title, f.open) for f in scene.agent.ask(m.ListFindings(cleared=True)).findings]
    runs = [(r.proposal.labels.get("process"), r.state, r.reason, r.proposal.impossible) for r in scene.agent.runs()]
    bad = [(s.name, s.detail) for s in scene.agent.ask(m.GetStatus()).stations if not s.ok]
    return f"findings {findings}; runs {runs}; stations {bad}"


def kill_and_recover(scene: Scene, actuator: str, way: str, point: str) -> None:
    process = scene.agent.launch(STEAD_CRASH_AT=f"act.{actuator}.{way}.{point}")
    wait_until(lambda: process.poll() is not None or scene.agent.answers(), "the agent answers")
    scene.to_crash()
    reach(scene, lambda: process.poll() is not None, f"the agent dies at {point}")
    assert process.returncode == -signal.SIGKILL, scene.agent.err.read_text()
    scene.calm()
    scene.agent.start()
    run = reach(scene, lambda: settled(scene), "every touched setting is verified or restored")
    assert run is not None
    receipts = {receipt.attempt_id for receipt in run.receipts}
    assert all(attempt.id in receipts for attempt in run.attempts), run
    assert scene.agent.stop() == 0


@pytest.mark.parametrize(("actuator", "way", "point"), KILLS)
def test_after_a_kill_each_setting_is_verified_or_restored(
    scene: Callable[[str, str], Scene], tmp_path: Path, actuator: str, way: str, point: str
) -> None:
    one = scene(actuator, way)
    if actuator != "priority":
        kill_and_recover(one, actuator, way, point)
        return
    with hog(tmp_path) as one.hog:
        kill_and_recover(one, actuator, way, point)


@pytest.mark.long
@pytest.mark.parametrize(("number", "spot"), LONG)
def test_many_more_kills(scene: Callable[[str, str], Scene], tmp_path: Path, number: int, spot: tuple[str, str, str]) -> None:
    test_after_a_kill_each_setting_is_verified_or_restored(scene, tmp_path, *spot)
