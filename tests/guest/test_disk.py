"""Cleaning by the agent under its own hardened unit, as packaged: what it may not write it says, what it did outlives a cut."""

from __future__ import annotations

from collections.abc import Iterator
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
QUARANTINE = "/var/log/.stead-quarantine"
UNITS = "/etc/systemd/system/stead-agent.service.d"
MADE_AT_BOOT = "/etc/tmpfiles.d/stead.conf"
GRANT = f"""
install -D -m 0644 /opt/stead/deploy/systemd/stead-agent.service.d/clean.conf {UNITS}/clean.conf
install -D -m 0644 /opt/stead/deploy/tmpfiles.d/stead.conf {MADE_AT_BOOT}
systemctl daemon-reload
sync
"""
MAKE = f"""
mkdir -p {LOGS}
for n in 1 2 3; do yes "GET /index.html 200 $n" | head -c 2000000 > {LOGS}/app.log.$n; done
head -c 3000000 /dev/urandom > {LOGS}/old.bin
chown nobody {LOGS}/app.log.2 {LOGS}/old.bin; chmod 640 {LOGS}/app.log.2
touch -d '2026-01-02 03:04:05.678901234' {LOGS}/*
sync
"""
TOLD = f"cd {LOGS} && stat -c '%n %s %a %u %y' * && sha256sum *"


def catalog(*rules: dict[str, Any]) -> dict[str, Any]:
    """The shipped playbook with spans of seconds, for that folder alone, on a disk that is found full; it quarantines, too."""
    shipped = yaml.safe_load((ROOT / "src/stead/catalog/disk.yaml").read_text())
    metrics = yaml.safe_load((ROOT / "src/stead/catalog/metrics.yaml").read_text())["metrics"]
    (usage,) = (one for one in metrics if one["metric_id"] == "infra.disk_usage")
    full = {"thresholds": {"good": {"upper": 1}, "warning": {"lower": 1}}, "exit": {"warning": 0.5}}
    (found,) = (one for one in shipped["playbooks"] if one["playbook_id"] == PLAYBOOK)
    moves = {"actuator": "files", "target": "each:quarantine", "state": {"place": "quarantine"}}
    found = {**found, "settings": [*found["settings"], moves], "verify": {"window_s": 20, "good_readings": 1}, "chain": []}
    found.pop("predict", None)
    off = [{"category": one["category"], "enabled": False} for one in shipped["cleaning"]]
    return {
        "metrics": [{**usage, **full, "for": 1, "recommended_interval_seconds": 1, "playbooks": [PLAYBOOK]}],
        "playbooks": [found],
        "cleaning": [*off, *rules],
    }


ONES = {"folders": [LOGS], "min_age_s": 0, "quarantine_in": "/var/log", "owners": ["root", "daemon"]}
RULES = (
    {"category": "mine", "do": "compress", "names": ["app.log.*"], **ONES},
    {"category": "old", "do": "quarantine", "names": ["old.*"], **ONES},
)


def configuration(*rules: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The agent's configuration, catalogue and policy: it may do with that folder what these rules say."""
    rule = {"name": "clean-disk", "then": "allow", "when": {"actuator": ["files"]}}
    probes = {name: {"interval_s": 1} for name in ("disk_space", "cleanable")}
    policy = {"rules": [rule], "budget": {"actions_per_hour": 1000}}
    return {"safety": {"mode": "act"}, "agent": {"probes": probes}}, catalog(*rules), policy


def refusals(agent: Stead, *folders: str) -> dict[str, str]:
    """What it says of folders that it may not write, once it has looked at all of these."""

    def said() -> dict[str, str] | None:
        refused: dict[str, str] = agent.ask(ListFiles()).refused
        return refused if set(folders) <= refused.keys() else None

    return wait_until(said, f"it says that it may not write {folders}", 90) or {}


@pytest.fixture
def logs(agent: Stead) -> Iterator[Stead]:
    """The agent, not started, and a folder of logs of another user; the guest is as before afterwards."""
    agent.configure(*configuration(*RULES))
    agent.machine.run(MAKE)
    yield agent
    agent.machine.run(f"systemctl stop stead-agent; rm -rf {UNITS} {MADE_AT_BOOT} {LOGS} {QUARANTINE}; systemctl daemon-reload")


def test_what_was_cleaned_outlives_a_power_cut_and_what_is_read_only_is_said_beforehand(logs: Stead) -> None:
    agent, guest = logs, logs.machine
    before = guest.out(TOLD)
    agent.start()
    assert "ReadWritePaths" in refusals(agent, LOGS)[LOGS]
    assert not [run for run in agent.runs(PLAYBOOK) if run.attempts] and guest.out(TOLD) == before
    agent.stop()
    guest.run(GRANT)
    agent.start()
    run = agent.run_in(PLAYBOOK, "verifying", timeout_s=120)
    assert len(run.proposal.steps) == 4 and {step.undo for step in run.proposal.steps} == {"exact"}
    guest.cut()
    guest.boot()
    assert guest.out("stat -c '%a %U' /tmp/.stead-quarantine /var/tmp/.stead-quarantine").split("\n") == ["700 root"] * 2
    assert guest.out(f"ls -A {LOGS}").split() == [f"app.log.{number}.gz" for number in (1, 2, 3)]
    assert guest.out(f"find {QUARANTINE} -type f | wc -l") == "2", "the file, and where it came from"
    agent.start()
    kept = agent.run_in(PLAYBOOK, "kept", timeout_s=120)
    assert kept.id == run.id and kept.verdict is not None and kept.verdict.result == "helped", kept.verdict
    (undone,) = agent.ask(m.Undo(run.id)).runs
    assert undone.state == "undone", (undone.reason, undone.receipts)
    assert guest.run(TOLD, check=False).out.strip() == before, guest.out("stead ledger tail --limit 12")
    assert guest.out(f"find {QUARANTINE} -type f | wc -l") == "0"


def test_without_its_grant_the_undo_says_what_is_missing_and_with_it_needs_no_rule(logs: Stead) -> None:
    agent, guest = logs, logs.machine
    before = guest.out(TOLD)
    guest.run(GRANT)
    agent.start()
    run = agent.run_in(PLAYBOOK, "kept", timeout_s=150)
    agent.stop()
    moved = guest.out(f"ls -A {LOGS} {QUARANTINE}")
    guest.run(f"rm {UNITS}/clean.conf; chown daemon {LOGS}; systemctl daemon-reload")
    agent.start()
    said = refusals(agent, LOGS, QUARANTINE)
    assert "ReadWritePaths" in said[LOGS] and "nothing can be put back" in said[QUARANTINE]
    (failed,) = agent.ask(m.Undo(run.id)).runs
    assert failed.state == "undo_failed" and "ReadWritePaths" in failed.reason, failed.reason
    assert guest.out(f"ls -A {LOGS} {QUARANTINE}") == moved
    agent.stop()
    agent.configure(*configuration())
    guest.run(GRANT)
    agent.start()
    assert agent.run_in(PLAYBOOK, "undone", timeout_s=150).id == run.id, "of itself, as soon as it can"
    assert guest.out(TOLD) == before and guest.out(f"find {QUARANTINE} -type f | wc -l") == "0"
