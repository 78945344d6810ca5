"""systemd with control groups of version 1, as older distributions boot: limits of units, and what is not to be had there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.guest.bench import Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.units import left_behind

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
NAME = "steadtest-old"
UNIT = f"/system.slice/{NAME}.service"
FIELDS = [  # field, value, the kernel's file, what it says then, and what at first
    ("cpu_weight", 37, "cpu/{}/cpu.shares", "378", "1024"),
    ("cpu_max_percent", 35.0, "cpu/{}/cpu.cfs_quota_us", "35000", "-1"),
    ("memory_max_bytes", 400 << 20, "memory/{}/memory.limit_in_bytes", str(400 << 20), "9223372036854771712"),
    ("pids_max", 77, "pids/{}/pids.max", "77", ""),
    (
        "io_max",
        ["254:0 rbps=max wbps=2097152 riops=max wiops=max"],
        "blkio/{}/blkio.throttle.write_bps_device",
        "254:0 2097152",
        "",
    ),
]


@pytest.fixture(scope="module")
def guest(start: Callable[..., Machine]) -> Iterator[Machine]:
    """A guest that was booted with version 1."""
    with start(kernel="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1") as machine:
        machine.run(f"systemd-run -q --unit={NAME} sleep 6000")
        yield machine


@pytest.fixture(scope="module")
def bench(guest: Machine) -> Bench:
    """The actuators in that guest."""
    return Bench(guest)


def text(guest: Machine, file: str) -> str:
    path = "/sys/fs/cgroup/" + file.format(UNIT.lstrip("/"))
    return guest.out(f"cat {path} 2>/dev/null || true")


@pytest.mark.parametrize(("field", "value", "file", "then", "first"), FIELDS, ids=[row[0] for row in FIELDS])
def test_a_units_limit_is_set_and_put_back(
    guest: Machine, bench: Bench, field: str, value: Any, file: str, then: str, first: str
) -> None:
    before = text(guest, file)
    told = bench.apply(UNIT, **{field: value})
    assert told["met"] and told["undo"] == "exact", told
    assert text(guest, file) == then and any("systemctl" in each for each in told["operations"])
    bench.undo(UNIT, told)
    assert text(guest, file) in (before, first) and left_behind(guest, f"{NAME}.service") == ""
    assert bench.read(UNIT)[field] == told["before"][field]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"memory_high_bytes": 100 << 20}, r"no memory\.high"),
        ({"cpu_idle": True}, "makes no group idle in version 1"),
        ({"frozen": True}, "in no tree with the freezer controller"),
    ],
)
def test_what_is_not_to_be_had_is_said(bench: Bench, state: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        bench.apply(UNIT, **state)


def test_processes_are_not_moved_there_either(guest: Machine, bench: Bench) -> None:
    pid = guest.out(f"systemctl show -P MainPID {NAME}")
    with pytest.raises(RefusedError, match="systemd is the manager here"):
        bench.apply(pid, "placement", "process", group="best-effort")
