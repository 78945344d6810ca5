"""A stranger's road: an entry of a real agent, proven by files, checked when host, agent and state are gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from stead.model.change import Run
from tests.cli.test_command import STEAD
from tests.e2e.place import HOG, Agent, agent, hog, overlay, policy_for, wait_until


def stead(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Say a verb as a person would, from a shell."""
    return subprocess.run([*STEAD, "--state", str(state), *words], capture_output=True, text=True, timeout=60)


def good(state: Path, *words: str) -> str:
    done = stead(state, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(state: Path, *words: str) -> dict[str, object]:
    answer = json.loads(good(state, *words, "-o", "json"))
    assert isinstance(answer, dict)
    return answer


def recorded(one: Agent, count: int) -> int:
    """Wait until so many entries are on record; give how many there are."""

    def size() -> int:
        found = int(str(told(one.state, "ledger", "checkpoint")["size"]))
        return found if found >= count else 0

    return wait_until(size, f"{count} entries are on record", 60)


def test_an_entry_is_proven_and_checked_without_host_agent_or_state(tmp_path: Path) -> None:
    proofs, gone = tmp_path / "proofs", tmp_path / "gone"
    with agent(tmp_path) as one:
        recorded(one, 1)
        vkey = good(one.state, "ledger", "key").splitlines()[0]
        entries = json.loads(good(one.state, "ledger", "tail", "-o", "json"))["entries"]
        assert entries[0]["type"] == "agent.started"
        row = good(one.state, "ledger", "tail").splitlines()[2].split()
        good(one.state, "proof", row[2], "--dir", str(proofs))
        assert one.stop() == 0
    shutil.rmtree(one.state)
    (done,) = json.loads(good(gone, "proof", "verify", "--dir", str(proofs), "--key", vkey, "-o", "json"))
    assert done["ok"] and done["pinned"] and done["id"] == entries[0]["id"] and not gone.exists()
    leaf = proofs / f"{entries[0]['id']}.json"
    assert leaf.read_bytes() == entries[0]["leaf"].encode()
    leaf.write_bytes(leaf.read_bytes().replace(b"agent.started", b"agent.stopped"))
    assert stead(gone, "proof", "verify", "--dir", str(proofs)).returncode == 1


def test_the_whole_record_is_recomputed_through_the_socket_and_from_the_file_also_after_a_kill(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept.note", tmp_path / "export"
    with agent(tmp_path, config={"agent": {"interval_s": 0.2, "snapshot_s": 1.0}}) as one:
        first = recorded(one, 3)
        vkey = good(one.state, "ledger", "key").splitlines()[0]
        kept.write_text(good(one.state, "ledger", "checkpoint"))
        good(one.state, "ledger", "export", str(folder))
        new = good(one.state, "ledger", "key", "--rotate").splitlines()[0]
        assert new != vkey
        recorded(one, first + 3)
        live = told(one.state, "ledger", "verify", "--deep", "--against", str(kept), "--key", vkey)
        assert live["rotations"] == 1 and set(live["signed_by"]) == {vkey, new}  # type: ignore[call-overload]
        added = told(one.state, "ledger", "export", str(folder))
        assert int(str(added["added"])) >= 3
        one.kill()
    after = told(one.state, "ledger", "verify", "--deep", "--against", str(kept), "--against", str(folder), "--key", vkey)
    assert int(str(after["size"])) >= int(str(live["size"]))
    exported = told(tmp_path / "none", "ledger", "verify", "--export", str(folder), "--against", str(kept), "--key", vkey)
    assert exported["size"] == added["size"]
    refused_when_changed(one.state, folder)


def refused_when_changed(state: Path, folder: Path) -> None:
    """The same state with one entry less, and with one that says something else."""
    for statement, name in (
        ("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)", "truncated"),
        ("UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'agent', 'agenT') AS BLOB) WHERE seq = 1", "altered"),
    ):
        copy = folder.with_name(name)
        shutil.copytree(state, copy, ignore=shutil.ignore_patterns("*.sock"))
        db = sqlite3.connect(copy / "ledger.db")
        db.execute(statement)
        db.commit()
        db.close()
        done = stead(copy, "ledger", "verify")
        assert done.returncode == 1 and done.stderr.startswith(f"stead: {name}:"), done.stderr


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)
def test_what_stead_did_to_a_process_is_proven_by_its_receipt(tmp_path: Path) -> None:
    config = {"catalog": str(overlay(tmp_path)), "policy": str(policy_for(tmp_path, (HOG,)))}
    proofs = tmp_path / "proofs"
    with hog(tmp_path) as one_hog, agent(tmp_path, config=config, mode="act") as one:

        def judged() -> Run | None:
            mine = [run for run in one.runs("calm-cpu-hog") if run.proposal.steps[0].target.name == str(one_hog.pid)]
            return next((run for run in mine if run.verdict is not None), None)

        run = wait_until(judged, "the run has its verdict", 60)
        assert run is not None
        said = good(one.state, "proof", run.id[:13], "--dir", str(proofs))
        good(one.state, "proof", run.proposal.finding_id or "", "--dir", str(proofs))
        assert one.stop(signal.SIGTERM) == 0
    words = " ".join(said.split())
    assert "receipt: calm-cpu-hog (low risk, tier 1)" in words and f"setpriority(process {one_hog.pid}, 19)" in words
    assert f"priority of process:{one_hog.pid}: autogroup nice 0 → 19, nice 0 → 19" in words and "verdict:" in words
    (leaf,) = proofs.glob("*.json")
    receipt = json.loads(leaf.read_bytes())
    assert receipt["type"] == "receipt.issued" and receipt["body"]["about"] == run.id
    assert receipt["body"]["plan_hash"] == run.proposal.plan_hash and len(receipt["body"]["entries"]) >= 5
    assert "1 proof: all proven" in good(tmp_path / "none", "proof", "verify", "--dir", str(proofs))
