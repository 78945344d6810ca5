"""Other controllers in the guest, the real ones: TuneD sets a sysctl that stead holds; oomd only ends processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.bench import Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.units import unit

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
SWAPPINESS = {"actuator": "kernel", "kind": "sysctl", "name": "vm.swappiness", "state": {"value": 35}}
TUNED = "systemctl start tuned && tuned-adm profile throughput-performance && cat /proc/sys/vm/swappiness"


@pytest.fixture
def tuned(guest: Machine) -> Iterator[Machine]:
    """A guest in which TuneD may be started, and is ended."""
    yield guest
    guest.run("tuned-adm off; systemctl stop tuned; sysctl -qw vm.swappiness=60", check=False)


def test_when_tuned_comes_in_between_it_is_yielded_to(tuned: Machine, bench: Bench) -> None:
    (row,) = bench.ask("crash", settings=[SWAPPINESS], marks=["act.kernel.forward.after_write"], meanwhile=TUNED)["rows"]
    assert row["killed"] and row["state"] == "conflict", row
    assert row["after"][0]["value"] not in (35, 60), row
    with pytest.raises(RefusedError, match="TuneD"):
        bench.apply("vm.swappiness", actuator="kernel", kind="sysctl", value=35)


def test_a_killer_for_want_of_memory_is_no_owner_of_limits(guest: Machine, bench: Bench) -> None:
    guest.run("systemctl start systemd-oomd")
    try:
        with unit(guest, "steadtest-oomd", "sleep infinity", "ManagedOOMMemoryPressure=kill") as path:
            told = bench.apply(path, memory_high_bytes=200 << 20)
            assert told["met"]
            bench.undo(path, told)
            assert guest.out("systemctl show -P ManagedOOMMemoryPressure steadtest-oomd") == "kill"
    finally:
        guest.run("systemctl stop systemd-oomd.service systemd-oomd.socket")
