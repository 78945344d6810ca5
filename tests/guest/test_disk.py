"""Cleaning by the agent under its own hardened unit: what it may not write it says, what it did outlives a power cut."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from stead.model import messages as m
from stead.model.cleaning import ListFiles
from tests.guest.stead import Stead, wait_until
from tests.style.repository import ROOT

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
LOGS = "/var/log/steadtest"
PLAYBOOK = "compress-logs"
DROP_IN = "/etc/systemd/system/stead-agent.service.d/disk.conf"
MAKE = f"""
mkdir -p {LOGS}
for n in 1 2 3; do yes "GET /index.html 200 $n" | head -c 2000000 > {LOGS}/app.log.$n; done
chown nobody {LOGS}/app.log.2; chmod 640 {LOGS}/app.log.2
touch -d '2026-01-02 03:04:05.678901234' {LOGS}/app.log.*
sync
"""
TOLD = f"cd {LOGS} && stat -c '%n %s %a %u %y' * && sha256sum *"


def catalog() -> dict[str, Any]:
    """The shipped playbook with spans of seconds, for that folder alone, on a disk that is found full."""
    shipped = yaml.safe_load((ROOT / "src/stead/catalog/disk.yaml").read_text())
    metrics = yaml.safe_load((ROOT / "src/stead/catalog/metrics.yaml").read_text())["metrics"]
    (usage,) = (one for one in metrics if one["metric_id"] == "infra.disk_usage")
    full = {"thresholds": {"good": {"upper": 1}, "warning": {"lower": 1}}, "exit": {"warning": 0.5}}
    (found,) = (one for one in shipped["playbooks"] if one["playbook_id"] == PLAYBOOK)
    found = {**found, "verify": {"window_s": 20, "good_readings": 1}, "chain": []}
    found.pop("predict", None)
    off = [{"category": one["category"], "enabled": False} for one in shipped["cleaning"]]
    mine = {"category": "mine", "do": "compress", "folders": [LOGS], "names": ["app.log.*"], "min_age_s": 0, "owners": ["root"]}
    return {
        "metrics": [{**usage, **full, "for": 1, "recommended_interval_seconds": 1, "playbooks": [PLAYBOOK]}],
        "playbooks": [found],
        "cleaning": [*off, mine],
    }


def configuration() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The agent's configuration, catalogue and policy: it may compress that folder's logs."""
    rule = {"name": "clean-disk", "then": "allow", "when": {"actuator": ["files"]}}
    probes = {name: {"interval_s": 1} for name in ("disk_space", "cleanable")}
    policy = {"rules": [rule], "budget": {"actions_per_hour": 1000}}
    return {"safety": {"mode": "act"}, "agent": {"probes": probes}}, catalog(), policy


def test_what_is_read_only_is_said_and_what_was_compressed_outlives_a_power_cut(agent: Stead) -> None:
    guest = agent.machine
    agent.configure(*configuration())
    guest.run(MAKE)
    before = guest.out(TOLD)
    agent.start()
    listed = wait_until(lambda: found if (found := agent.ask(ListFiles())).refused else None, "it says what it may not write", 90)
    assert "ReadWritePaths" in listed.refused[LOGS]
    assert not [run for run in agent.runs(PLAYBOOK) if run.attempts] and guest.out(TOLD) == before
    agent.stop()
    guest.put(DROP_IN, "[Service]\nReadWritePaths=/var/log\n")
    guest.run("systemctl daemon-reload")
    agent.start()
    run = agent.run_in(PLAYBOOK, "verifying", timeout_s=120)
    assert len(run.proposal.steps) == 3 and {step.undo for step in run.proposal.steps} == {"exact"}
    guest.cut()
    guest.boot()
    assert guest.out(f"ls -A {LOGS}").split() == [f"app.log.{number}.gz" for number in (1, 2, 3)]
    agent.start()
    kept = agent.run_in(PLAYBOOK, "kept", timeout_s=120)
    assert kept.id == run.id and kept.verdict is not None and kept.verdict.result == "helped", kept.verdict
    (undone,) = agent.ask(m.Undo(run.id)).runs
    assert undone.state == "undone", (undone.reason, undone.receipts)
    assert guest.out(TOLD) == before
    assert guest.out("find /var/log/.stead-quarantine -type f | wc -l") == "0"
    guest.run(f"rm -rf {DROP_IN} {LOGS} /var/log/.stead-quarantine")
