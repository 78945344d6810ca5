"""The three faults: how each is caused, which remedy should answer it, and what its effect is measured by."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec

from stead.demo.scene import HERE, QUEUE, WEB, Scene
from stead.model.change import Run
from stead.model.find import Finding

HOG_S = 90.0
SURGE_PER_S = 18.0


class Fault(msgspec.Struct, frozen=True):
    """One fault. `effect` names a value of `gauge.Look`; it must fall to `at_most` times what it was while the fault ruled."""

    name: str
    words: str
    metrics: tuple[str, ...]
    playbook: str
    effect: str
    effect_words: str
    at_most: float
    scale: float
    unit: str
    subject: Callable[[], str]
    cause: Callable[[], None]
    end: Callable[[], None]
    settle_s: float = 3.0

    def is_of(self, finding: Finding, since_ms: int) -> bool:
        """Is this the finding of this fault?"""
        mine = finding.metric in self.metrics and finding.subject.startswith(self.subject())
        return mine and finding.opened_ms >= since_ms

    def is_answer(self, run: Run, since_ms: int) -> bool:
        """Is this the run that answers it?"""
        proposal = run.proposal
        targets = {str(step.target) for step in proposal.steps}
        wanted = self.subject().partition("@")[0]
        return proposal.playbook == self.playbook and wanted in targets and proposal.created_ms >= since_ms


def faults(scene: Scene) -> tuple[Fault, ...]:
    """All faults of the demo, in the order in which they are caused."""
    return (_hog(scene), _surge(scene), _spoilt(scene))


def _hog(scene: Scene) -> Fault:
    hogs: list[subprocess.Popen[bytes]] = []

    def cause() -> None:
        program = str(HERE / "programs" / "hog.py")
        argv = [sys.executable, "-P", program, scene.hog_name, str(scene.core), str(HOG_S)]
        hogs.append(scene.start(argv, scene.folder / "hog.out"))

    def end() -> None:
        for hog in hogs:
            hog.terminate()
            hog.wait(10)

    return Fault(
        name="CPU hog",
        words=f"{scene.hog_name} spins on core {scene.core}, which {WEB} is pinned to",
        metrics=("infra.process_cpu_cores",),
        playbook="calm-cpu-hog",
        effect="run_delay",
        effect_words=f"{WEB} waited for a CPU",
        at_most=0.75,
        scale=1000.0,
        unit="ms/s",
        subject=lambda: f"process:{hogs[-1].pid}@" if hogs else "process:",
        cause=cause,
        end=end,
    )


def _surge(scene: Scene) -> Fault:
    return Fault(
        name="load outgrows the workers",
        words=f"{SURGE_PER_S:g} jobs a second for 2 workers that can do 13",
        metrics=("executor.queue_depth",),
        playbook="scale-workers",
        effect="queue_depth",
        effect_words=f"jobs waiting in {QUEUE}",
        at_most=0.7,
        scale=1.0,
        unit="jobs",
        subject=lambda: f"workload:{QUEUE}",
        cause=lambda: scene.set_load(jobs_per_s=SURGE_PER_S),
        end=scene.set_load,
        settle_s=1.0,
    )


def _spoilt(scene: Scene) -> Fault:
    def cause() -> None:
        generation = next(one.generation for one in scene.status().workloads if one.name == WEB)
        scene.fault.write_text(str(generation))

    return Fault(
        name="a worker that crashes",
        words=f"the workers of {WEB} answer with errors, and one crashes again and again, until they are restarted",
        metrics=("workload.crashes", "api.error_rate"),
        playbook="restart-workers",
        effect="error_share",
        effect_words="clients saw errors",
        at_most=0.5,
        scale=100.0,
        unit="%",
        subject=lambda: f"workload:{WEB}",
        cause=cause,
        end=lambda: scene.fault.unlink(missing_ok=True),
        settle_s=4.0,
    )
