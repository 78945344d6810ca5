"""Intent on this machine: a real server that answers requests, a real hog, and an agent that was told which of them matters."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.catalog.files import FOLDER
from stead.model import messages as m
from stead.model.change import Run
from tests.cgroups.groups import group, put, real_groups
from tests.e2e.place import HOG, Agent, Hog, agent, hog, own_core, policy_for, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)

SHOP = f"shop{os.getpid()}"
NOISY = 15.0
ANSWERS = """
import socket
at = socket.create_server(("127.0.0.1", 0))
print(at.getsockname()[1], flush=True)
while True:
    one, _ = at.accept()
    while one.recv(64):
        sum(range(60_000))
        one.sendall(b"done")
"""


def ahead_of_the_machine(pid: int) -> None:
    """A test's own session before all others of the machine, so that what contends is the test's own."""
    Path(f"/proc/{pid}/autogroup").write_text("-19")


class Shop:
    """A server that answers each request with about a millisecond of work, asked a hundred times a second."""

    def __init__(self, folder: Path, cpu: int) -> None:
        program = folder / SHOP
        program.symlink_to(sys.executable)
        argv = [str(program), "-c", ANSWERS]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        os.sched_setaffinity(self.process.pid, {cpu})
        ahead_of_the_machine(self.process.pid)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        self.took_s: list[float] = []
        self.over = threading.Event()
        self.customer = threading.Thread(target=self._ask)
        self.customer.start()

    def _ask(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as at:
            while not self.over.wait(0.01):
                began = time.perf_counter()
                at.sendall(b"please")
                at.recv(64)
                self.took_s.append(time.perf_counter() - began)

    def median_ms(self, for_s: float) -> float:
        """The median latency of the requests of the next so many seconds."""
        seen = len(self.took_s)
        time.sleep(for_s)
        return 1000 * statistics.median(self.took_s[seen:])

    def close(self) -> None:
        self.over.set()
        self.customer.join(30)
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with contextlib.closing(Shop(tmp_path, own_core())) as one:
        yield one


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """The shipped remedies, with leases of seconds, and seconds of contention before them, so that their effect can be told."""
    shipped = yaml.safe_load((FOLDER / "contention.yaml").read_text())
    slow = [{**one, "for": 8} for one in shipped["metrics"] if one["metric_id"] == "infra.cpu_contention"]
    short = [{**one, "verify": {"window_s": 8, "good_readings": 3}, "cooldown_s": 2} for one in shipped["playbooks"]]
    for one in short:
        one["settings"] = [{**setting, "lease_s": 8} for setting in one["settings"]]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({"metrics": slow, "playbooks": short}))
    return {
        "catalog": str(tmp_path / "short.yaml"),
        "policy": str(policy_for(tmp_path, (HOG,))),
        "protect": [{"name": "shop", "match": [f"process:{SHOP}"]}],
        "best_effort": [f"process:{HOG}"],
    }


def runs_of(one: Agent, target: str) -> list[Run]:
    return [run for run in one.runs() if any(step.target.name == target for step in run.proposal.steps)]


def waits(one: Agent) -> float | None:
    """Percent of the time that the shop waits for a CPU, as the agent sees it now."""
    (told,) = [each for each in one.ask(m.GetStatus()).intent if each.role == "protect"]
    lost: float | None = told.lost["cpu"]
    return lost


def skip_when_noisy(one: Agent) -> None:
    """The machine is not the test's alone: what others take nobody here can give back."""
    seen = []
    for _ in range(5):
        seen.append(waits(one) or 0.0)
        time.sleep(1)
    if statistics.mean(seen) > NOISY:
        pytest.skip("somebody else contends on this machine")


def gives_way(one: Agent, shop: Shop, greedy: Hog, target: str, is_back: Callable[[], bool]) -> None:
    """The whole story of one contender: found, held for as long as it wants the CPU, and put back."""
    alone_ms = shop.median_ms(4)
    skip_when_noisy(one)
    greedy.process.send_signal(signal.SIGCONT)
    found = wait_until(lambda: one.findings("infra.cpu_contention"), "contention is found")
    assert found[0].subject.partition(":")[2].startswith(f"{target}@") and "shop" in found[0].title
    (run, *_) = wait_until(lambda: [r for r in runs_of(one, target) if r.state in ("held", "undone")], "its verdict")
    if run.verdict is None or run.verdict.result != "helped":
        greedy.process.send_signal(signal.SIGSTOP)
        skip_when_noisy(one)
    assert run.verdict is not None and run.verdict.result == "helped", run.verdict
    assert run.state == "held" and run.proposal.labels["protected"] == "shop"
    assert run.proposal.playbook == "let-others-first" and not is_back()
    assert shop.median_ms(3) < 2 * alone_ms + 2
    wait_until(lambda: not one.findings("infra.cpu_contention"), "the finding clears: it hurts nobody now", 40)
    time.sleep(max(0.0, (run.lease_until_ms or 0) / 1000 - time.time()) + 2)
    (still,) = [r for r in runs_of(one, target) if not r.final]
    assert (still.id, still.state) == (run.id, "held"), "it wants the CPU as before, so it is held on"
    greedy.process.send_signal(signal.SIGSTOP)
    ended = [run.id, "undone"]
    (back,) = wait_until(lambda: [r for r in runs_of(one, target) if [r.id, r.state] == ended], "it is put back")
    assert back.undo_reason in ("cleared", "lease") and is_back()


@pytest.fixture
def greedy(tmp_path: Path) -> Iterator[Hog]:
    """A hog that stands still until it is let go."""
    with hog(tmp_path) as one:
        one.process.send_signal(signal.SIGSTOP)
        ahead_of_the_machine(one.pid)
        yield one


@pytest.mark.alone
@pytest.mark.long
def test_a_process_gives_way_while_it_wants_the_cpu_and_no_longer(  # long: two leases and two windows, on real time
    tmp_path: Path, config: dict[str, Any], shop: Shop, greedy: Hog
) -> None:
    _, groups = real_groups()
    if groups.systemd or groups.path_of(greedy.pid, "cpu") != "/":
        pytest.skip("this test's processes are not at the root of the cpu tree")
    with agent(tmp_path, config=config, mode="act") as one:
        gives_way(one, shop, greedy, str(greedy.pid), lambda: groups.path_of(greedy.pid, "cpu") == "/")
        one.stop()


@pytest.mark.alone
@pytest.mark.long
def test_a_control_group_gives_way_while_it_wants_the_cpu_and_no_longer(
    tmp_path: Path, config: dict[str, Any], shop: Shop, greedy: Hog
) -> None:
    _, groups = real_groups()
    with group(groups, ("cpu",)) as path:
        put(groups, path, greedy.pid, ("cpu",))
        rules = [{"name": "the-tests-own", "then": "allow", "when": {"target": [f"cgroup:{path}"]}}]
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump({"rules": rules, "budget": {"actions_per_hour": 1000}}))
        idle, shares = (Path(str(groups.folder(path, "cpu")), name) for name in ("cpu.idle", "cpu.shares"))
        if not idle.exists():
            pytest.skip("this kernel has no cpu.idle")
        shares.write_text("80000")  # as much as a session that is ahead of the machine: the kernel forgets it with idle
        with agent(tmp_path, config={**config, "best_effort": [f"cgroup:{path}"]}, mode="act") as one:
            gives_way(one, shop, greedy, path, lambda: (idle.read_text(), shares.read_text()) == ("0\n", "80000\n"))
            one.stop()


def test_an_agent_tells_what_its_intent_stands_for(tmp_path: Path, config: dict[str, Any], shop: Shop, greedy: Hog) -> None:
    aim = {"pressure": "cpu", "below": 90, "window_s": 5, "statistic": "mean"}
    protect = [{**config["protect"][0], "objective": aim}]
    with agent(tmp_path, config={**config, "protect": protect}) as one:
        wait_until(lambda: waits(one) is not None, "what the shop waits is known")
        told = {each.role: each for each in one.ask(m.GetStatus()).intent}
        assert told["protect"].found == (f"{SHOP} (pid {shop.process.pid})",)
        assert told["protect"].objective == "mean of CPU pressure below 90 % over 5 s" and told["protect"].miss is not None
        assert told["best_effort"].found == (f"{HOG} (pid {greedy.pid})",)
        assert one.stop() == 0


def test_an_agent_whose_intent_would_slow_ssh_does_not_start(tmp_path: Path, config: dict[str, Any]) -> None:
    one = Agent(tmp_path, config={**config, "best_effort": ["process:ssh*"]})
    assert one.launch().wait(20) == 2
    assert "ssh* covers sshd: the way in by ssh is never slowed" in one.err.read_text()
    assert f"{one.config}, line " in one.err.read_text()
