"""Real agents for the end-to-end tests: their own state, a catalogue with short spans, real hogs, ended by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stead.model import messages as m
from stead.model.change import Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.wire.door import Door

T = TypeVar("T")
PATIENCE = 3  # how often a limit is waited for: it is for what hangs, and other tests take of the machine what they need
HOG = f"hog{os.getpid()}"  # this test process's own: agents of tests that run side by side leave it alone

SHORT = {
    "metrics": [
        {
            "metric_id": "infra.process_cpu_cores",
            "category": "infra",
            "description": "cores that one process takes",
            "unit": "cores",
            "aggregation": "avg",
            "recommended_interval_seconds": 1,
            "thresholds": {"good": {"upper": 0.15}, "warning": {"lower": 0.15}},
            "exit": {"warning": 0.05},
            "for": 1,
            "clear_s": 2,
            "finding": "{process} (pid {pid}) has used {value} cores for {for}",
            "playbooks": ["calm-cpu-hog"],
        }
    ],
    "playbooks": [
        {
            "playbook_id": "calm-cpu-hog",
            "title": "lower the priority of a CPU hog",
            "risk": "low",
            "tier": 1,
            "settings": [{"actuator": "priority", "state": {"autogroup_nice": 19, "nice": 19}, "lease_s": 60}],
            "predict": {
                "metric": "infra.others_run_delay",
                "direction": "down",
                "at_least": 0.1,
                "within_s": 4,
                "meaningful": 0.05,
            },
            "verify": {"window_s": 4, "good_readings": 1},
            "cooldown_s": 5,
        }
    ],
}


def overlay(folder: Path, for_s: float = 1, **playbook: Any) -> Path:
    """A catalogue laid over the shipped one, with spans of seconds. `for_s`: how long a hog must be one, to be compared with."""
    metrics = [{**SHORT["metrics"][0], "for": for_s}]
    document = {**SHORT, "metrics": metrics, "playbooks": [{**SHORT["playbooks"][0], **playbook}]}
    path = folder / "short.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def policy_for(folder: Path, names: tuple[str, ...]) -> Path:
    """A policy that lets stead act only on processes of these names: the machine's other processes are not ours to touch."""
    rules = [
        {"name": "only-the-tests-own", "then": "allow", "when": {"target": [f"process:{name}" for name in names]}},
        {"name": "stead-itself", "then": "allow", "when": {"actuator": ["autonomy"]}},
    ]
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump({"rules": rules, "budget": {"actions_per_hour": 1000}}))
    return path


def own_core() -> int:
    """A core for this test process's hogs: tests that run side by side don't contend."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(cores)]


class Agent:
    """One agent process on one state directory."""

    def __init__(
        self,
        folder: Path,
        *,
        config: dict[str, Any] | None = None,
        mode: str = "advise",
        environ: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.folder, self.before, self.pass_fds = folder, before, pass_fds
        self.state = folder / "state"
        self.config = folder / "stead.yaml"
        if not self.config.exists() or config is not None:
            self.config.write_text(yaml.safe_dump(config or {}))
        self.mode = mode
        self.environ = {**os.environ, **(environ or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.err = folder / "agent.err"

    @property
    def door(self) -> Door:
        """A fresh connection each time: an agent may have been killed since the last."""
        return Door(str(self.state / "run" / "agent.sock"), timeout_s=60)

    def launch(self, **environ: str) -> subprocess.Popen[bytes]:
        """Start the process and do not wait."""
        argv = [
            *self.before,
            sys.executable,
            "-m",
            "stead.agent",
            "--state",
            str(self.state),
            "--config",
            str(self.config),
            "--mode",
            self.mode,
        ]
        with self.err.open("ab") as err:
            self.process = subprocess.Popen(argv, stderr=err, env={**self.environ, **environ}, pass_fds=self.pass_fds)
        return self.process

    def start(self, **environ: str) -> Agent:
        """Start it and wait until it answers."""
        process = self.launch(**environ)
        wait_until(lambda: process.poll() is not None or self.answers(), "the agent answers", 20)
        assert process.poll() is None, self.err.read_text()
        return self

    def answers(self) -> bool:
        """Does it answer?"""
        try:
            self.ask(m.GetStatus())
        except SteadError:
            return False
        return True

    def ask(self, body: Any) -> Any:
        """One question."""
        return self.door.ask(body)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and say how it ended."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)

    def findings(self, metric: str = "") -> list[Finding]:
        """Open findings."""
        return [f for f in self.ask(m.ListFindings()).findings if not metric or f.metric == metric]

    def runs(self, playbook: str = "") -> list[Run]:
        """Runs and proposals, newest first."""
        return [r for r in self.ask(m.ListRuns()).runs if not playbook or r.proposal.playbook == playbook]


@contextlib.contextmanager
def agent(folder: Path, **options: Any) -> Iterator[Agent]:
    """A running agent that is ended whatever happens."""
    one = Agent(folder, **options)
    try:
        yield one.start()
    finally:
        one.kill()


class Hog:
    """A process that burns CPU in a session of its own, on one core, under a name of its own."""

    def __init__(self, folder: Path, name: str, cpu: int) -> None:
        self.name = name
        program = folder / name
        if not program.exists():
            program.symlink_to(Path("/bin/sh").resolve())
        self.process = subprocess.Popen([str(program), "-c", "while :; do :; done"], start_new_session=True)
        os.sched_setaffinity(self.process.pid, {cpu})
        self.pid = self.process.pid

    def cpu_s(self) -> float:
        """CPU seconds used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def autogroup(self) -> int:
        """The nice of its session's autogroup."""
        return int(Path(f"/proc/{self.pid}/autogroup").read_text().split()[-1])

    def nice(self) -> int:
        """Its own nice."""
        return os.getpriority(os.PRIO_PROCESS, self.pid)

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def hog(folder: Path, name: str = HOG, cpu: int | None = None) -> Iterator[Hog]:
    """A hog that is ended whatever happens."""
    one = Hog(folder, name, own_core() if cpu is None else cpu)
    try:
        yield one
    finally:
        one.end()


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = 30.0) -> T:
    """Wait for something true and return it: for `timeout_s` on a quiet machine, three times as long beside other tests."""
    deadline = time.monotonic() + PATIENCE * timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {PATIENCE * timeout_s:g} s until {what}"
        time.sleep(0.05)
