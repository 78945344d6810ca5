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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.catalog.files import FOLDER
from stead.model import messages as m
from stead.model.change import Run
from tests.e2e.place import HOG, Agent, agent, hog, own_core, policy_for, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)

SHOP = f"shop{os.getpid()}"
NOISY = 20.0
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


class Shop:
    """A server that answers each request with about a millisecond of work, asked a hundred times a second."""

    def __init__(self, folder: Path, cpu: int) -> None:
        program = folder / SHOP
        program.symlink_to(sys.executable)
        argv = [str(program), "-c", ANSWERS]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        os.sched_setaffinity(self.process.pid, {cpu})
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
    """The shipped remedies, with leases of seconds."""
    shipped = yaml.safe_load((FOLDER / "contention.yaml").read_text())["playbooks"]
    short = [{**one, "verify": {"window_s": 5, "good_readings": 3}, "cooldown_s": 2} for one in shipped]
    for one in short:
        one["settings"] = [{**setting, "lease_s": 8} for setting in one["settings"]]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({"playbooks": short}))
    return {
        "catalog": str(tmp_path / "short.yaml"),
        "policy": str(policy_for(tmp_path, (HOG,))),
        "protect": [{"name": "shop", "match": [f"process:{SHOP}"]}],
        "best_effort": [f"process:{HOG}"],
    }


def runs_of(one: Agent, pid: int) -> list[Run]:
    return [run for run in one.runs() if any(step.target.name == str(pid) for step in run.proposal.steps)]


def waits(one: Agent) -> float | None:
    """Percent of the time that the shop waits for a CPU, as the agent sees it now."""
    (told,) = [each for each in one.ask(m.GetStatus()).intent if each.role == "protect"]
    lost: float | None = told.lost["cpu"]
    return lost


@pytest.mark.alone
def test_a_hog_gives_way_to_what_is_protected_while_it_wants_the_cpu_and_no_longer(
    tmp_path: Path, config: dict[str, Any], shop: Shop
) -> None:
    with agent(tmp_path, config=config, mode="act") as one:
        alone_ms = shop.median_ms(4)
        if (waits(one) or 0.0) > NOISY:
            pytest.skip("somebody else contends on this machine")
        with hog(tmp_path) as greedy:
            found = wait_until(lambda: one.findings("infra.cpu_contention"), "contention is found")
            assert found[0].subject.startswith(f"process:{greedy.pid}@") and "shop" in found[0].title
            held = wait_until(lambda: [r for r in runs_of(one, greedy.pid) if r.state in ("held", "undone")], "it is held")[0]
            if held.state == "undone" and (waits(one) or 0.0) > NOISY:
                pytest.skip("somebody else contends on this machine")
            assert held.state == "held" and held.proposal.labels["protected"] == "shop"
            assert shop.median_ms(3) < 2 * alone_ms + 2
            wait_until(lambda: not one.findings("infra.cpu_contention"), "the finding clears", 40)
            until_ms = held.lease_until_ms or 0
            time.sleep(max(0.0, until_ms / 1000 - time.time()) + 2)
            (still,) = [r for r in runs_of(one, greedy.pid) if not r.final]
            assert (still.id, still.state) == (held.id, "held"), "it wants the CPU as before, so it is held on"
            greedy.process.send_signal(signal.SIGSTOP)
            back = wait_until(
                lambda: [r for r in runs_of(one, greedy.pid) if r.id == held.id and r.state == "undone"], "it is put back"
            )
            assert back[0].undo_reason == "lease"
            assert (greedy.nice(), greedy.autogroup()) == (0, 0)
        one.stop()
