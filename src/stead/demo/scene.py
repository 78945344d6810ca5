"""The demo's own little world: a state directory, its configuration, a real agent, and an end that leaves nothing behind.

Everything is found again by identity: the agent is a child, and its workers are stopped by the same driver that adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import yaml

from stead.config import find_paths
from stead.host import LocalHost, SystemClock
from stead.model.errors import EXIT_TIMEOUT, SteadError
from stead.model.messages import GetStatus, Status
from stead.model.workload import Health, WorkloadSpec
from stead.wire import Door
from stead.workloads.process import ProcessWorkloads

HERE = Path(__file__).parent
WEB, QUEUE, LOAD = "demo-web", "demo-queue", "demo-load"
WEB_WORKERS = 2
CALM = {"http_per_s": 45.0, "jobs_per_s": 4.0}
READY_S = 20.0
STOP_S = 15.0


class Scene:
    """Where the demo plays. `open` starts the agent; `close` ends everything, in any state, more than once if need be."""

    def __init__(self, state: str | None) -> None:
        self.kept = state is not None
        self.folder = _empty(state) if state else Path(tempfile.mkdtemp(prefix="stead-demo-"))
        self.paths = find_paths(str(self.folder), {})
        self.door = Door(self.paths.socket)
        self.hog_name = f"demo-hog-{os.getpid() % 100_000}"
        cores = sorted(os.sched_getaffinity(0))
        self.core, self.others = cores[-1], tuple(cores[:-1])
        self.specs = self._specs(_free_ports(WEB_WORKERS))
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def control(self) -> Path:
        """The load generator's control file."""
        return self.folder / "load.json"

    @property
    def fault(self) -> Path:
        """Holds the generation whose web workers are spoilt."""
        return self.folder / "fault"

    @property
    def queue(self) -> Path:
        """The job queue."""
        return self.folder / "jobs" / "queue"

    def open(self) -> None:
        """Write the configuration, start the agent and wait until every worker runs. Raises SteadError when it does not."""
        self.queue.mkdir(parents=True)
        self.set_load()
        (self.folder / "catalog").mkdir()
        (self.folder / "catalog" / "demo.yaml").write_text(overlay(_autogroups()))
        (self.folder / "policy.yaml").write_text(self._policy())
        (self.folder / "stead.yaml").write_text(self._config())
        argv = ["-m", "stead.agent", "--state", str(self.folder), "--config", str(self.folder / "stead.yaml")]
        agent = self.start([sys.executable, "-P", *argv], self.folder / "agent.out")
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if agent.poll() is not None:
                said = (self.folder / "agent.out").read_text(errors="replace").strip().splitlines()
                raise SteadError("the demo's agent did not start", str(self.folder), said[-1] if said else "see stead.log")
            with contextlib.suppress(SteadError):
                if all(one.running >= one.wanted and one.reached for one in self.status().workloads):
                    return
            time.sleep(0.2)
        raise SteadError("the demo's workload did not come up", str(self.folder), "see its logs", exit_code=EXIT_TIMEOUT)

    def status(self) -> Status:
        """The agent in one look."""
        return self.door.ask(GetStatus(), Status)

    def set_load(self, **rates: float) -> None:
        """Set the load generator's pace; what is not named is calm."""
        fresh = self.control.with_suffix(".new")
        fresh.write_text(json.dumps(CALM | rates))
        fresh.replace(self.control)

    def start(self, argv: list[str], output: Path) -> subprocess.Popen[bytes]:
        """Start a process of the demo's own, in a session of its own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
        with output.open("ab") as sink:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        self._children.append(child)
        return child

    def close(self) -> bool:
        """End the hog, the agent, then its workers, by identity. False: something is still there."""
        self.door.close()
        ended = [_end(child) for child in reversed(self._children)]
        workers_ended = asyncio.run(self._stop_workers()) if (self.folder / "workloads").exists() else True
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        return all(ended) and workers_ended

    async def _stop_workers(self) -> bool:
        driver = ProcessWorkloads(self.specs, self.folder, LocalHost(), SystemClock())
        try:
            return await driver.stop_all()
        finally:
            await driver.close()

    def _specs(self, port: int) -> tuple[WorkloadSpec, ...]:
        ports = ",".join(str(port + index) for index in range(WEB_WORKERS))
        shared = {
            "STEAD_DEMO_FAULT": str(self.fault),
            "STEAD_DEMO_QUEUE": str(self.queue),
            "STEAD_DEMO_LOAD": str(self.control),
            "STEAD_DEMO_PORTS": ports,
        }
        health = Health(http="http://127.0.0.1:{port}/healthz", interval_s=1.0, timeout_s=2.0)
        quick = WorkloadSpec("", (), env=shared, stop_grace_s=2.0, start_grace_s=0.5, backoff_s=0.5, backoff_max_s=2.0)
        changed = msgspec.structs.replace
        web = changed(quick, name=WEB, argv=_program("web"), workers=WEB_WORKERS, port=port, health=health, start_grace_s=8.0)
        queue = changed(quick, name=QUEUE, argv=_program("queue_worker"), workers=2, cpus=self.others)
        load = changed(quick, name=LOAD, argv=_program("load"), cpus=self.others)
        return (changed(web, cpus=(self.core,)), queue, load)

    def _config(self) -> str:
        config = {
            "safety": {"mode": "act", "profile": "aggressive"},
            "catalog": str(self.folder / "catalog"),
            "policy": str(self.folder / "policy.yaml"),
            "workloads": msgspec.to_builtins(self.specs),
        }
        return yaml.safe_dump(config, sort_keys=False)

    def _policy(self) -> str:
        rule = {
            "name": "demo-workload-only",
            "then": "allow",
            "when": {
                "playbook": ["calm-cpu-hog", "scale-workers", "restart-workers"],
                "target": [self.hog_name, f"workload:{WEB}", f"workload:{QUEUE}"],
            },
            "why": "the demo may act on its own workload and hog, and on nothing else",
        }
        return yaml.safe_dump({"rules": [rule], "budget": {"actions_per_hour": 20}}, sort_keys=False)


def overlay(autogroups: bool) -> str:
    """The demo's catalogue. Where no autogroups are in force, nice decides, which not everybody can raise again: tier 2."""
    text = (HERE / "catalog" / "demo.yaml").read_text()
    if autogroups:
        return text
    return text.replace("{autogroup_nice: 19}", "{nice: 19}").replace("tier: 1", "tier: 2", 1)


def _autogroups() -> bool:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1"
    return False


def _program(name: str) -> tuple[str, ...]:
    return (sys.executable, "-P", str(HERE / "programs" / f"{name}.py"))


def _empty(state: str) -> Path:
    folder = Path(state).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SteadError("the demo keeps its state in a directory of its own", str(folder), "name a new or an empty one")
    except OSError as error:
        raise SteadError(f"the demo's state can't be kept: {error.strerror}", str(folder), "name a writable place") from error
    return folder


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row on loopback. Raises SteadError when there are none."""
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for offset in range(1, count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except (OSError, OverflowError):
                continue
            return port
    raise SteadError(f"no {count} free ports in a row", "127.0.0.1", "close something that listens there")


def _end(child: subprocess.Popen[bytes]) -> bool:
    """SIGTERM, wait, SIGKILL: a child of ours, not reaped yet, so its pid is its own."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_S)
    return child.returncode is not None
