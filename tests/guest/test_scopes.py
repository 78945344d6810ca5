"""stead's own workers under systemd: each in a scope of its own, adopted by the next agent, and to be limited like any unit."""

from __future__ import annotations

import pytest

from stead.model import messages as m
from tests.guest.bench import Bench
from tests.guest.machine import Machine
from tests.guest.stead import Stead, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(600)]
WEB = {"name": "web", "argv": ["/bin/sleep", "6000"], "workers": 2, "start_grace_s": 1.0}


def pids(agent: Stead) -> list[int]:
    found = agent.ask(m.GetStatus()).workloads
    return sorted(worker.pid for status in found for worker in status.workers if worker.state == "healthy")


def test_workers_have_scopes_of_their_own(guest: Machine, agent: Stead, bench: Bench) -> None:
    agent.configure({"workloads": [WEB]})
    agent.start()
    first = wait_until(lambda: found if len(found := pids(agent)) == 2 else None, "two workers", 60.0, agent.journal)
    assert first is not None
    groups = [guest.out(f"cut -d: -f3 /proc/{pid}/cgroup") for pid in first]
    try:
        assert all(group.startswith("/system.slice/stead-worker-web-") and group.endswith(".scope") for group in groups), groups
        assert len(set(groups)) == 2 and guest.out(f"tr '\\0' ' ' < /proc/{first[0]}/cmdline") == "/bin/sleep 6000"
        told = bench.apply(groups[0], cpu_max_percent=20.0, pids_max=50)
        assert told["met"] and guest.out(f"cat /sys/fs/cgroup{groups[0]}/cpu.max") == "20000 100000"
        bench.undo(groups[0], told)
        guest.run("systemctl kill -s KILL stead-agent", check=False)
        agent.start()
        assert wait_until(lambda: pids(agent) == first, "the same workers, adopted", 60.0, agent.journal)
    finally:
        agent.stop()
        guest.run(f"kill -9 {' '.join(map(str, first))}", check=False)
    wait_until(lambda: not guest.out("ls -d /sys/fs/cgroup/system.slice/stead-worker-* 2>/dev/null || true"), "scopes go")
