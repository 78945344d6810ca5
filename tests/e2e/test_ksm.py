"""tune-ksm on this machine: real equal pages, a real agent, and what the kernel says of it. Buys that it pays or is undone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.catalog.files import FOLDER as CATALOG
from stead.host import LocalHost
from stead.model import messages as m
from stead.model.change import Run
from tests.actuators.ksm import FOLDER as KSM
from tests.actuators.ksm import KNOBS, ksm_as_found, number, read, write
from tests.e2e.place import Agent, agent, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.alone,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0 or not (KSM / "general_profit").exists(), reason="needs root and KSM of Linux 6.4"),
]
MIB, WORKERS = 64, 4
EQUAL = f"import random, time; held = random.Random(7).randbytes({MIB} << 20); time.sleep(9999)"
OWN = f"import os, time; held = os.urandom({MIB} << 20); time.sleep(9999)"


def config(folder: Path, code: str, lease_s: float = 3600.0) -> dict[str, Any]:
    """The shipped catalogue of KSM with short spans: all is seen every ten seconds, and judged by the last fifteen of 100."""
    document = yaml.safe_load((CATALOG / "ksm.yaml").read_text())
    for metric in document["metrics"]:
        metric["recommended_interval_seconds"] = 2
    document["metrics"][0]["for"] = 1
    tune = document["playbooks"][0]
    tune["verify"], tune["predict"]["within_s"] = {"window_s": 100}, 15
    tune["settings"][0]["lease_s"] = lease_s
    tune["settings"][0]["state"]["advisor_target_scan_time"] = 10
    for name in ("advisor_min_pages_to_scan", "advisor_max_pages_to_scan"):
        tune["settings"][0]["state"][name] = {"from_metric": "infra.ksm_pages_to_scan", "multiply": 2, "at_least": 20}
    (folder / "ksm.yaml").write_text(yaml.safe_dump(document))
    rule = {"name": "ksm", "then": "allow", "when": {"target": ["kernel:ksm"]}}
    (folder / "policy.yaml").write_text(yaml.safe_dump({"rules": [rule]}))
    argv = [sys.executable, "-S", "-c", code]
    workload = {"name": "image", "argv": argv, "workers": WORKERS, "merge_memory": True}
    return {
        "workloads": [workload],
        "agent": {"probes": {"ksm": {"interval_s": 1.0}}},
        "catalog": str(folder / "ksm.yaml"),
        "policy": str(folder / "policy.yaml"),
    }


@contextlib.contextmanager
def merging(folder: Path, **settings: Any) -> Iterator[Agent]:
    """An agent in act mode with workers that may be merged; KSM as it was, and the workers ended, whatever happens."""
    host, workers = LocalHost(), list[tuple[int, int]]()
    with ksm_as_found():
        try:
            with agent(folder, config=config(folder, **settings), mode="act") as one:

                def started() -> bool:
                    workers[:] = [(w.pid, w.start_ticks) for w in one.ask(m.GetStatus()).workloads[0].workers if w.pid]
                    return len(workers) == WORKERS

                wait_until(started, "the workers run", 30)
                yield one
        finally:
            for pid, start_ticks in workers:
                if host.start_ticks(pid) == start_ticks:
                    os.kill(pid, signal.SIGKILL)


def run_in(one: Agent, *states: str, timeout_s: float = 240) -> Run:
    found: list[Run] = []

    def look() -> bool:
        found[:] = one.runs("tune-ksm")[:1]
        return bool(found) and found[0].state in states

    wait_until(look, f"tune-ksm is {' or '.join(states)}", timeout_s)
    return found[0]


def knobs() -> dict[str, str]:
    return {name: read(name) for name in ("run", *KNOBS)}


def test_equal_pages_are_merged_and_what_only_a_lease_holds_is_put_back(tmp_path: Path) -> None:
    with merging(tmp_path, code=EQUAL) as one:
        run = run_in(one, "held", "undone")
        assert run.verdict is not None and run.verdict.result == "helped", run.verdict
        assert number("pages_sharing") >= 0.9 * (WORKERS - 1) * MIB * 256
        assert read("advisor_mode") == "none [scan-time]"
        why = one.ask(m.Why(run.id))
        assert any("infra.ksm_net_bytes" in link.words for link in why.chain), [link.words for link in why.chain]
        assert one.stop() == 0
        argv = [sys.executable, "-m", "stead.agent", "--state", str(one.state), "--config", str(one.config), "--restore"]
        subprocess.run(argv, check=True, timeout=60)
        assert number("pages_shared") == 0 and read("run") == "0"
        assert knobs()["advisor_mode"] == "[none] scan-time" and knobs()["pages_to_scan"] == "100"


def test_pages_that_differ_do_not_pay_and_everything_is_undone(tmp_path: Path) -> None:
    with ksm_as_found():
        found = knobs()
    with merging(tmp_path, code=OWN) as one:
        run = run_in(one, "undone", "held", "failed", "undo_failed")
        assert (run.state, run.verdict and run.verdict.result) == ("undone", "no_help"), run.reason
        assert knobs() == found
        assert (number("pages_shared"), number("general_profit")) == (0, 0), "nothing is kept to merge them either"


def test_another_hand_is_yielded_to_once(tmp_path: Path) -> None:
    with merging(tmp_path, code=EQUAL, lease_s=60.0) as one:
        run_in(one, "held")
        write("sleep_millisecs", "33")
        write("run", "0")
        run = run_in(one, "conflict", "undone", "failed", "undo_failed")
        assert run.state == "conflict", run.reason
        assert (read("run"), read("sleep_millisecs")) == ("0", "33"), "left as the other one set it"
        assert number("pages_sharing") > 0
        entries = one.ask(m.ListEntries(limit=100, subject=run.id)).entries
        assert sum(entry.type == "conflict.seen" for entry in entries) == 1
