"""KSM in guests: Linux 6.12 and systemd 257, which merge units, and Linux 6.1 and systemd 252, which say what they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.bench import PYTHON, Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.recipe import Recipe
from tests.guest.stead import wait_until

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(1800)]
KSM = "/sys/kernel/mm/ksm"
UNIT = "steadtest-image.service"
CODE = "import random, time; held = random.Random(7).randbytes(4 << 20); print(1, flush=True); time.sleep(9e9)"
SERVICE = f"[Service]\nExecStart=/usr/bin/python3 -S -c '{CODE}'\n"


@pytest.fixture(scope="module")
def newer(start: Callable[..., Machine]) -> Iterator[Machine]:
    """Debian 13."""
    with start(Recipe(suite="trixie")) as machine:
        yield machine


@pytest.fixture(scope="module")
def actuators(newer: Machine) -> Bench:
    """The actuators there."""
    return Bench(newer)


@pytest.fixture
def service(newer: Machine) -> Iterator[str]:
    """A service that holds 4 MiB."""
    newer.put(f"/etc/systemd/system/{UNIT}", SERVICE)
    newer.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
    yield UNIT
    newer.run(
        f"systemctl stop {UNIT}; rm -r /etc/systemd/system/{UNIT} /run/systemd/system/{UNIT}.d; systemctl daemon-reload; true"
    )


def merges(machine: Machine) -> bool:
    """Has the first mapping of the service's process the flag?"""
    pid = machine.out(f"systemctl show -P MainPID {UNIT}")
    return "mg" in machine.out(f"grep -m1 VmFlags /proc/{pid}/smaps").split()


def number(machine: Machine, name: str) -> int:
    return int(machine.out(f"cat {KSM}/{name}"))


def test_a_unit_is_merged_from_its_next_start_and_not_after_the_undo(newer: Machine, actuators: Bench, service: str) -> None:
    told = actuators.apply(service, actuator="kernel", kind="unit", memory_ksm=True)
    assert (told["undo"], told["after"]) == ("exact", {"memory_ksm": True, "drop_in": True}) and told["met"]
    assert "next started" in told["note"] and not merges(newer)
    newer.run(f"systemctl restart {UNIT}")
    assert merges(newer)
    actuators.undo(service, told, actuator="kernel", kind="unit")
    assert actuators.read(service, actuator="kernel", kind="unit") == {"memory_ksm": False, "drop_in": False}
    assert newer.out(f"ls /run/systemd/system/ | grep {UNIT} | wc -l") == "0"
    newer.run(f"systemctl restart {UNIT}")
    assert not merges(newer)


def test_a_service_of_many_alike_is_seen_until_it_opts_in(newer: Machine, actuators: Bench) -> None:
    name = "steadtest-many.service"
    program = f"/usr/bin/python3 -S -c '{CODE.replace('4 << 20', '20 << 20')}'"
    newer.put("/etc/steadtest-many.sh", f"for i in 1 2 3 4; do {program} & done; wait\n")
    newer.put(f"/etc/systemd/system/{name}", "[Service]\nExecStart=/bin/bash /etc/steadtest-many.sh\n")
    look = (
        "from stead.host import LocalHost as H; from stead.probes.ksm_alike import alike_bytes as a; "
        f"print(a(H(), 4096).get('{name}', 0) >> 20)"
    )
    seen = f'{PYTHON} -c "{look}"'
    newer.run(f"systemctl daemon-reload; systemctl start {name}")
    try:
        wait_until(lambda: int(newer.out(seen)) >= 60, "three of four hold 20 MiB each", 120)
        told = actuators.apply(name, actuator="kernel", kind="unit", memory_ksm=True)
        newer.run(f"systemctl restart {name}")
        wait_until(lambda: newer.out(f"systemctl show -P TasksCurrent {name}") == "5", "they run again", 60)
        assert int(newer.out(seen)) == 0
        actuators.undo(name, told, actuator="kernel", kind="unit")
    finally:
        newer.run(f"systemctl stop {name}; rm /etc/systemd/system/{name} /etc/steadtest-many.sh; systemctl daemon-reload; true")


def test_pages_of_units_are_merged_and_unmerged(newer: Machine, actuators: Bench) -> None:
    names = [f"steadtest-twin{index}.service" for index in range(2)]
    for name in names:
        newer.put(f"/etc/systemd/system/{name}", SERVICE)
    newer.run("systemctl daemon-reload")
    try:
        for name in names:
            actuators.apply(name, actuator="kernel", kind="unit", memory_ksm=True)
        newer.run(f"systemctl start {' '.join(names)}")
        before = actuators.read("ksm", actuator="kernel", kind="kernel")
        told = actuators.apply(
            "ksm", actuator="kernel", kind="kernel", run=1, advisor_mode="scan-time", advisor_min_pages_to_scan=4000
        )
        assert told["met"] and told["undo"] == "exact"
        wait_until(lambda: number(newer, "pages_sharing") > 1000, "4 MiB of two are held once", 120)
        actuators.undo("ksm", told, actuator="kernel", kind="kernel")
        assert actuators.read("ksm", actuator="kernel", kind="kernel") == before
        assert number(newer, "pages_shared") == 0
    finally:
        newer.run(f"systemctl stop {' '.join(names)}; rm /etc/systemd/system/steadtest-twin*; systemctl daemon-reload; true")


def test_a_sysctl_is_set_and_put_back(newer: Machine, actuators: Bench) -> None:
    told = actuators.apply("vm.dirty_bytes", actuator="kernel", kind="sysctl", back=True, value=64 << 20)
    assert told["met"] and told["undo_met"]
    assert newer.out("cat /proc/sys/vm/dirty_bytes /proc/sys/vm/dirty_ratio").split() == ["0", "20"]


def test_what_tuned_sets_is_left_to_it(newer: Machine, actuators: Bench) -> None:
    slow = "/run/systemd/system/tuned.service.d/slow.conf"  # systemd's own 90 s are short for Python in an emulated machine
    patience = f"mkdir -p {Path(slow).parent}; printf '[Service]\\nTimeoutStartSec=600\\n' > {slow}; systemctl daemon-reload"
    newer.run(f"{patience}; systemctl start tuned; tuned-adm profile throughput-performance", timeout_s=900)
    try:
        with pytest.raises(RefusedError, match=r"TuneD sets vm\.swappiness here"):
            actuators.apply("vm.swappiness", actuator="kernel", kind="sysctl", value=42)
        assert actuators.apply("vm.page-cluster", actuator="kernel", kind="sysctl", back=True, value=2)["met"]
    finally:
        newer.run("tuned-adm off; systemctl stop tuned", timeout_s=600)


def test_an_older_system_says_what_it_lacks(guest: Machine, bench: Bench) -> None:
    with pytest.raises(RefusedError, match=r"no MemoryKSM for it \(systemd 254\)"):
        bench.apply("systemd-journald.service", actuator="kernel", kind="unit", memory_ksm=True)
    told = bench.apply("ksm", actuator="kernel", kind="kernel", back=True, run=1, advisor_mode="scan-time", smart_scan=True)
    assert told["want"] == {"run": 1} and told["met"] and told["undo_met"]
    assert "advisor_mode (Linux 6.8)" in told["note"] and "smart_scan (Linux 6.7)" in told["note"]
