"""`placement` on a real tree of version 2: where systemd is not the manager it works, where it is nothing is moved."""

from __future__ import annotations

import json

import pytest

from tests.guest.bench import PYTHON, Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.units import unit

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(600)]
HIDDEN = "mount -t tmpfs none /run/systemd && exec env"


def test_without_systemd_a_process_leaves_the_cpu_to_others(guest: Machine) -> None:
    guest.run("echo +cpu > /sys/fs/cgroup/cgroup.subtree_control")
    said = guest.out(f"unshare --mount --propagation private sh -c '{HIDDEN} {PYTHON} -m tests.guest.inside.placing'")
    told = json.loads(said.splitlines()[-1])
    assert (told["version"], told["systemd"], told["failures"], told["left"]) == ("v2", False, {}, False)
    placed, other = told["shares"]
    assert other > 10 * placed, told["shares"]


def test_systemds_processes_stay_where_they_are(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-stays") as path:
        pid = guest.out(f"head -1 /sys/fs/cgroup{path}/cgroup.procs")
        with pytest.raises(RefusedError, match="systemd is the manager here"):
            bench.apply(pid, "placement", "process", group="best-effort")
        assert guest.out(f"cut -d: -f3 /proc/{pid}/cgroup") == path
