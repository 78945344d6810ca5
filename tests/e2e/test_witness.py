"""Two hosts on this machine, over real HTTP: one cosigns the other's record, and names it when an old state comes back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.model import messages as m
from stead.model import witness_messages as w
from stead.model.ledger_messages import GetCheckpoint
from tests.e2e.place import HOG, Agent, hog, overlay, policy_for, wait_until

root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def stead(agent: Agent, *words: str, cwd: Path | None = None) -> tuple[int, Any, str]:
    """A verb on this agent's state: exit code, its JSON, and what it said to people."""
    argv = [sys.executable, "-m", "stead", "--state", str(agent.state), *words, "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=cwd)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


class Pair:
    """`box`, whose record is cosigned, and `eye`, an agent with a hub that cosigns it."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, **config: Any) -> None:
        for name in ("box", "eye"):
            (folder / name).mkdir()
        self.policy, self.box_config = folder / "ledger.tlog-policy", {"agent": {"host_name": "box"}, **config}
        self.box = self._agent(folder / "box", stack, self.box_config)
        (vkey,) = self.box.start().ask(GetCheckpoint()).vkeys
        assert self.box.stop() == 0
        self.eye = self._agent(folder / "eye", stack, {"agent": {"host_name": "eye"}, "witness": {"logs": [vkey]}})
        self.eye.start()
        self.port = free_port()
        argv = [sys.executable, "-m", "stead.hub", "--state", str(self.eye.state), "--port", str(self.port)]
        with (folder / "hub.err").open("wb") as err:
            self.hub = subprocess.Popen(argv, stderr=err)
        stack.callback(self.hub.wait, 20)
        stack.callback(self.hub.terminate)
        key = self.eye.ask(w.GetWitnesses()).vkey
        self.policy.write_text(f"witness eye {key} http://127.0.0.1:{self.port}/witness\nquorum eye\n")
        self.box.config.write_text(yaml.safe_dump({**self.box_config, "ledger": {"policy": str(self.policy)}}))
        wait_until(self.serves, "the hub serves", 20)

    @staticmethod
    def _agent(folder: Path, stack: contextlib.ExitStack, config: dict[str, Any]) -> Agent:
        one = Agent(folder, config=config, mode="act")
        stack.callback(one.kill)
        return one

    def serves(self) -> bool:
        """Does the hub listen?"""
        assert self.hub.poll() is None
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def station(self, agent: Agent, name: str) -> m.Station:
        """One station's health."""
        return next(one for one in agent.ask(m.GetStatus()).stations if one.name == name)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as one:
        yield one


def test_a_proof_carries_the_witness(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    pair = Pair(tmp_path, stack)
    pair.box.start()
    assert [stead(pair.box, verb)[0] for verb in ("pause", "resume")] == [0, 0]
    recorded = stead(pair.box, "ledger", "search")[1]["entries"]
    hosts = {one["type"]: json.loads(one["leaf"])["host"] for one in recorded}
    assert "attempt.made" in hosts and set(hosts.values()) == {"box"}, "every entry names the host as its operator does"
    code, cosigned, said = stead(pair.box, "ledger", "witness")
    assert (code, cosigned["quorum"], said) == (0, True, "")
    assert [(one["name"], one["ok"]) for one in cosigned["witnesses"]] == [("eye", True)]
    assert pair.station(pair.box, "witness eye").ok is True
    logs = pair.eye.ask(w.GetWitnesses()).logs
    assert [(log.origin, log.size) for log in logs] == [("box/ledger", cosigned["cosigned"])]

    entry = pair.box.ask(m.ListEntries(50)).entries[-1]
    _, written, _ = stead(pair.box, "proof", entry.id, cwd=tmp_path)
    assert [name for name, _ in written["witnesses"]] == ["eye"]
    proof, policy = (tmp_path / f"{entry.id}.tlog-proof").read_text(), (tmp_path / "policy.tlog-policy").read_text()
    assert "\n— eye/witness " in proof and "\nquorum eye\n" in policy and policy.startswith("log box/ledger+")
    assert pair.box.stop() == 0
    code, verified, said = stead(pair.box, "proof", "verify", entry.id, cwd=tmp_path)
    assert (code, said) == (0, "") and "eye" in json.dumps(verified)
    (tmp_path / f"{entry.id}.tlog-proof").write_text("".join(x for x in proof.splitlines(True) if "eye/witness" not in x))
    code, verified, _ = stead(pair.box, "proof", "verify", entry.id, cwd=tmp_path)
    assert code == 1 and "no witness of the policy cosigned it" in json.dumps(verified)


@root
def test_a_restored_backup_is_refused_by_name_and_nothing_acts(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    rules = {"catalog": str(overlay(tmp_path)), "policy": str(policy_for(tmp_path, (HOG,)))}
    pair = Pair(tmp_path, stack, **rules)
    box = pair.box.start()
    assert box.stop() == 0
    shutil.copytree(box.state, tmp_path / "backup", ignore=shutil.ignore_patterns("run"))
    box.start()
    assert stead(box, "ledger", "witness")[0] == 0
    assert box.stop() == 0
    shutil.rmtree(box.state)
    shutil.copytree(tmp_path / "backup", box.state)

    box.start()
    record = pair.station(box, "record")
    assert record.ok is False and "rolled back: a checkpoint that the witness eye holds" in record.detail
    assert pair.station(box, "act").ok is False and pair.station(box, "observe").ok is True
    size = box.ask(GetCheckpoint()).size
    with hog(tmp_path) as one:
        wait_until(lambda: one.cpu_s() > 3, "the hog burns", 60)
        assert (one.nice(), one.autogroup(), box.runs()) == (0, 0, [])
    code, _, said = stead(box, "mode", "act")
    assert code == 1 and "rolled back" in said and "stead ledger renew" in said
    assert box.ask(GetCheckpoint()).size == size
    assert any("rolled-back" in entry.leaf for entry in pair.eye.ask(m.ListEntries(50)).entries)
    assert pair.station(pair.eye, "witness of box/ledger").ok is False
    code, _, said = stead(box, "ledger", "renew", "--reason", "a test", "--yes", "--config", str(box.config))
    assert code == 1 and "another stead agent" in said

    assert box.stop() == 0
    code, done, _ = stead(box, "ledger", "renew", "--reason", "a test", "--yes", "--config", str(box.config))
    assert (code, done["origin"], done["former"]) == (0, "box/ledger/2", "box/ledger")
    box.start()
    assert pair.station(box, "record").ok is not False and box.ask(GetCheckpoint()).origin == "box/ledger/2"
    assert "does not know this log" in pair.station(box, "witness eye").detail, "its operator has to be told the new key"
    with hog(tmp_path) as one:
        wait_until(lambda: one.autogroup() == 19, "it acts again", 60)
    assert box.stop() == 0
