from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stead.catalog import load_catalog, load_policy
from stead.config import check_config
from stead.demo.scene import Scene, overlay
from stead.demo.script import table
from stead.demo.story import Healing
from stead.host import LocalHost
from stead.model.errors import SteadError
from stead.probes.workload import SHORT_MS
from stead.workloads.children import find_marked

DEMO = [sys.executable, "-P", "-m", "stead.demo"]


def left_behind(state: Path) -> list[int]:
    """Processes of this demo that still run: workers by their status file, the agent by its argument."""
    host = LocalHost()
    found = [pid for path, pids in find_marked(host, "STEAD_STATUS").items() if Path(path).is_relative_to(state) for pid in pids]
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"stead.agent" in words and str(state).encode() in words:
                found.append(int(name))
    return found


@pytest.mark.timeout(200)
@pytest.mark.alone
def test_every_fault_is_healed_and_verified_and_nothing_is_left(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = subprocess.run([*DEMO, "--state", str(state), "-o", "json"], capture_output=True, text=True, timeout=180)
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["healed"] and report["cleaned_up"] and report["took_s"] <= 120
    assert [(one["playbook"], one["verdict"]) for one in report["faults"]] == [
        ("calm-cpu-hog", "helped"),
        ("scale-workers", "helped"),
        ("restart-workers", "helped"),
    ]
    for one in report["faults"]:
        assert one["found_s"] is not None and one["after"] < one["before"]
        assert "rule:demo-workload-only" in one["decided_by"]
    assert not left_behind(state)
    assert (state / "ledger.db").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "state"
    demo = subprocess.Popen([*DEMO, "--state", str(state)], stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "CPU hog" in line:
            break
    time.sleep(0.5)
    assert left_behind(state)
    demo.send_signal(number)
    rest = demo.stdout.read()
    assert demo.wait(40) == 1 and "cleaning up" in rest
    assert not left_behind(state)


def test_what_the_agent_is_given_is_valid(tmp_path: Path) -> None:
    scene = Scene(str(tmp_path / "state"))
    (scene.folder / "policy.yaml").write_text(scene._policy())
    (scene.folder / "stead.yaml").write_text(scene._config())
    assert [str(problem) for problem in check_config([str(scene.folder / "stead.yaml")])] == []
    [rule] = load_policy(str(scene.folder / "policy.yaml")).rules
    assert rule.when.target == (scene.hog_name, "workload:demo-web", "workload:demo-queue")
    (tmp_path / "demo.yaml").write_text(overlay(autogroups=True))
    catalog = load_catalog(str(tmp_path / "demo.yaml"))
    assert catalog.metrics["executor.queue_depth"].for_s <= 6
    for name, window_s in (("calm-cpu-hog", 1.0), ("restart-workers", SHORT_MS / 1000)):
        predict = catalog.playbooks[name].predict
        assert predict is not None and predict.within_s is not None
        for metric in (one for one in catalog.metrics.values() if name in one.playbooks):
            assert window_s + predict.within_s <= metric.for_s <= 15, "what is compared is of the fault alone, not of its onset"
    assert catalog.playbooks["calm-cpu-hog"].tier == 1 and catalog.playbooks["restart-workers"].tier == 2


def test_without_autogroups_nice_decides_at_tier_2(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(overlay(autogroups=False))
    playbooks = load_catalog(str(tmp_path / "demo.yaml")).playbooks
    calm = playbooks["calm-cpu-hog"]
    assert (calm.tier, calm.settings[0].state) == (2, {"nice": 19})
    assert playbooks["scale-workers"].tier == 1


def test_a_state_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(SteadError, match="directory of its own"):
        Scene(str(tmp_path))
    assert subprocess.run([*DEMO, "--state", str(tmp_path)], capture_output=True).returncode == 1
    assert os.listdir(tmp_path) == ["precious"]


def test_the_table_shows_what_did_not_come_to_be_as_missing() -> None:
    lines = table(
        [Healing("hog", "calm", True, 3.0, 4.0, 9.0, before=100.0, after=2.0, unit="ms/s"), Healing("surge", "scale", False, 8.0)]
    )
    assert "100 ms/s" in lines[1] and lines[1].endswith("✓")
    assert "8.0 s" in lines[2] and lines[2].count("–") == 4 and lines[2].endswith("✗")
