"""What a limit does to real processes under cgroup v2: IO at its rate, memory held by pressure, forks refused, all stopped."""

from __future__ import annotations

import pytest

from tests.guest.bench import Bench
from tests.guest.machine import Machine
from tests.guest.units import unit

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
WRITER = "while :; do dd if=/dev/zero of=/var/tmp/steadtest-io bs=256k count=8 oflag=direct 2>/dev/null; done"
GROWING = "exec python3 -c 'import time\nkept = []\nwhile True: kept.append(bytearray(1 << 20)); time.sleep(0.2)'"


def test_io_is_slowed_to_its_rate_and_freed_again(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-writer", WRITER, "IOAccounting=yes") as path:
        free = written(guest, path, 4)
        told = bench.apply(path, io_max=["* wbps=1048576"])
        limited = written(guest, path, 8)
        assert 0 < limited / 8 <= 1.5 * (1 << 20) < free / 4, (free, limited)
        assert "some avg10=0.00" not in guest.get(f"/sys/fs/cgroup{path}/io.pressure")
        bench.undo(path, told)
        assert written(guest, path, 4) / 4 > 2 * (1 << 20)


def written(guest: Machine, path: str, seconds: int) -> int:
    """The bytes that a group writes in a while."""
    count = f"grep -o 'wbytes=[0-9]*' /sys/fs/cgroup{path}/io.stat | cut -d= -f2 | awk '{{n += $1}} END {{print n + 0}}'"
    return int(guest.out(f"a=$({count}); sleep {seconds}; b=$({count}); echo $((b - a))"))


def test_memory_high_holds_what_grows_by_pressure_and_ends_nothing(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-growing", GROWING, "MemoryAccounting=yes") as path:
        group = f"/sys/fs/cgroup{path}"
        high = int(guest.get(f"{group}/memory.current")) + (60 << 20)
        told = bench.apply(path, memory_high_bytes=high)
        guest.run(f"until grep -q '^high [1-9]' {group}/memory.events; do sleep 0.3; done; sleep 4")
        assert int(guest.get(f"{group}/memory.current")) < high * 1.5
        assert "some avg10=0.00" not in guest.get(f"{group}/memory.pressure")
        assert "oom_kill 0" in guest.get(f"{group}/memory.events")
        assert guest.out("systemctl is-active steadtest-growing") == "active"
        assert told["before"]["memory_high_bytes"] == "max"


def test_no_more_processes_than_allowed(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-forks", "while :; do sleep 30 & sleep 0.3; done 2>/run/steadtest/forks.err") as path:
        bench.apply(path, pids_max=40)
        guest.run(f"until grep -q '^max [1-9]' /sys/fs/cgroup{path}/pids.events; do sleep 0.3; done")
        assert int(guest.get(f"/sys/fs/cgroup{path}/pids.current")) <= 40


def test_a_frozen_group_uses_nothing_and_goes_on_after_the_undo(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-busy", "exec stress-ng -q --cpu 1") as path:
        told = bench.apply(path, frozen=True)
        assert "frozen 1" in guest.get(f"/sys/fs/cgroup{path}/cgroup.events")
        assert used_us(guest, path) == used_us(guest, path)
        bench.undo(path, told)
        first = used_us(guest, path)
        guest.run("sleep 1")
        assert used_us(guest, path) > first


def used_us(guest: Machine, path: str) -> int:
    return int(guest.get(f"/sys/fs/cgroup{path}/cpu.stat").split()[1])
