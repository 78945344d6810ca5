"""The agent in a guest as it is deployed: its own unit under systemd, on a host with the whole cgroup v2 tree."""

from __future__ import annotations

import pytest

from stead.model import messages as m
from tests.guest.machine import Machine
from tests.guest.stead import Stead, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]


def test_the_guest_has_what_the_suite_is_for(guest: Machine) -> None:
    assert guest.out("cat /proc/1/comm") == "systemd"
    assert {"cpu", "io", "memory", "pids"} <= set(guest.get("/sys/fs/cgroup/cgroup.controllers").split())
    assert guest.get("/proc/pressure/memory").startswith("some ")
    failed = guest.out("systemctl list-units --failed --no-legend --plain")
    assert not failed, failed


def test_the_agent_comes_up_under_systemd_and_ticks(agent: Stead) -> None:
    agent.configure({"safety": {"mode": "advise"}})
    agent.start()
    wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 5, "five ticks", 60)
    assert agent.machine.out("systemctl is-active stead-agent") == "active"
    status = agent.ask(m.GetStatus())
    assert status.mode == "advise"
    agent.stop()
    assert "Traceback" not in agent.journal()
