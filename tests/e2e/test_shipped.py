"""What the README promises, with the shipped catalogue and its real spans: a hog by hand, under `stead up`, then in act mode."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stead.model import messages as m
from tests.e2e.place import HOG, Hog, agent, hog, policy_for, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
    ),
]


@pytest.fixture
def by_hand() -> Iterator[subprocess.Popen[bytes]]:
    """`sh -c 'while :; do :; done'` in a session of its own, as from another terminal."""
    process = subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True)
    yield process
    process.kill()
    process.wait(10)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def stead(state: Path, *arguments: str) -> Any:
    """One verb's JSON."""
    argv = [sys.executable, "-m", "stead", "--state", str(state), *arguments, "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout) if done.stdout.strip() else {}


def test_under_stead_up_a_hog_shows_within_40_s_with_what_would_be_done(tmp_path: Path, by_hand: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    argv = [sys.executable, "-m", "stead", "--state", str(tmp_path / "state"), "up", "--port", str(free_port())]
    up = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        pid = str(by_hand.pid)

        def proposal() -> Any:
            runs = stead(tmp_path / "state", "proposals").get("runs", [])
            return next(
                (r for r in runs if r["proposal"].get("steps") and r["proposal"]["steps"][0]["target"]["name"] == pid), None
            )

        found = wait_until(proposal, "the hog is proposed", 45)
        assert time.monotonic() - began <= 40
        findings = stead(tmp_path / "state", "findings")["findings"]
        assert any(f["title"].startswith(f"sh (pid {pid})") for f in findings), findings
        assert found["state"] == "advised" and any(rule.startswith("rule:") for rule in found["decision"]["rules"])
        step = found["proposal"]["steps"][0]
        assert step["before"]["autogroup_nice"] == 0 and step["want"]["autogroup_nice"] == 19
        assert os.getpriority(os.PRIO_PROCESS, by_hand.pid) == 0
        assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "0"
    finally:
        up.send_signal(signal.SIGINT)
        told, _ = up.communicate(timeout=30)
    assert up.returncode == 0, told
    assert pid in told and "nothing was changed" in told


def test_in_act_mode_it_gives_way_is_verified_holds_and_is_undone_for_good(tmp_path: Path) -> None:
    config = {"policy": str(policy_for(tmp_path, (HOG,)))}
    with hog(tmp_path) as greedy, agent(tmp_path, config=config, mode="act") as one:
        wait_until(lambda: greedy.autogroup() == 19, "it is calmed", 60)
        assert greedy.nice() == 19
        with hog(tmp_path, "victim") as victim:
            assert share(victim, greedy, 10) >= 0.9
            wait_until(lambda: [r for r in one.runs("calm-cpu-hog") if r.state == "held"], "the verdict is in", 60)
            undone = one.ask(m.Undo("latest")).runs[0]
            assert undone.state == "undone" and (greedy.nice(), greedy.autogroup()) == (0, 0)
            time.sleep(40)
            assert (greedy.nice(), greedy.autogroup()) == (0, 0)
        one.stop()


def share(first: Hog, second: Hog, seconds: float) -> float:
    """The first's share of what both got over some seconds."""
    before = first.cpu_s(), second.cpu_s()
    time.sleep(seconds)
    got, took = first.cpu_s() - before[0], second.cpu_s() - before[1]
    return got / (got + took)
