"""The actuator limit on a real cgroup v2 tree: what the kernel says then, through systemd for units and straight elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.guest.bench import Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.units import FILES, delegated, files_of, installed, left_behind, unit

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
FIELDS = [  # field, value, the kernel's file, and what it says then
    ("cpu_weight", 37, "cpu.weight", "37"),
    ("cpu_max_percent", 35.0, "cpu.max", "35000 100000"),
    ("cpu_idle", True, "cpu.idle", "1"),
    ("memory_high_bytes", 300_000_001, "memory.high", "299999232"),
    ("memory_low_bytes", 20 << 20, "memory.low", str(20 << 20)),
    ("memory_max_bytes", 400 << 20, "memory.max", str(400 << 20)),
    ("io_max", ["254:0 rbps=max wbps=2097152 riops=max wiops=300"], "io.max", "254:0 rbps=max wbps=2097152 riops=max wiops=300"),
    ("pids_max", 77, "pids.max", "77"),
    ("frozen", True, "cgroup.freeze", "1"),
]


@pytest.fixture(scope="module", params=[unit, installed], ids=["transient", "installed"])
def some(guest: Machine, request: pytest.FixtureRequest) -> Iterator[str]:
    """A unit's group: of one that systemd-run made, and of one from a file."""
    with request.param(guest, f"steadtest-{request.param.__name__}") as path:
        yield path


@pytest.fixture(scope="module")
def tenant(guest: Machine) -> Iterator[str]:
    """A group in a delegated subtree."""
    with delegated(guest, "steadtest-tenant") as path:
        yield path


def swept(bench: Bench, path: str) -> list[dict[str, Any]]:
    """Every field set and put back, one after the other; what the kernel said then and says afterwards is checked."""
    states = [{field: value} for field, value, *_ in FIELDS]
    rows = bench.ask("sweep", actuator="limit", kind="cgroup", name=path, states=states, files=FILES)["rows"]
    assert len(rows) == len(FIELDS)
    for row, (field, _, file, text) in zip(rows, FIELDS, strict=True):
        assert row["met"] and row["undo"] == "exact", row
        assert row["set"][file] == text, field
        assert {**row["first"], **{k: v for k, v in row["back"].items() if row["first"][k]}} == row["first"], field
    return list(rows)


def test_a_delegated_group_is_set_straight(bench: Bench, tenant: str) -> None:
    for row in swept(bench, tenant):
        assert row["first"] == row["back"]
        assert not [each for each in row["operations"] if "systemctl" in each], row["operations"]


def test_a_unit_is_set_through_systemd_and_undo_leaves_nothing(guest: Machine, bench: Bench, some: str) -> None:
    for row in swept(bench, some):
        assert any("systemctl" in each for each in row["operations"]), row["operations"]
    assert left_behind(guest, PurePosixPath(some).name) == ""


def test_systemd_keeps_what_was_set_and_forgets_what_was_put_back(guest: Machine, bench: Bench, some: str) -> None:
    before = bench.read(some)
    told = bench.apply(some, **{field: value for field, value, *_ in FIELDS if field not in ("cpu_idle", "frozen")})
    guest.run("systemctl daemon-reload")
    said = files_of(guest, some)
    assert all(said[file] == text for field, _, file, text in FIELDS if field not in ("cpu_idle", "frozen")), said
    bench.undo(some, told)
    guest.run("systemctl daemon-reload")
    assert bench.read(some) == before


def test_it_conforms_on_a_unit(bench: Bench, some: str) -> None:
    states = [{"cpu_weight": 20, "pids_max": 50}, {"cpu_max_percent": 50.0, "memory_high_bytes": 200 << 20}]
    assert bench.ask("conform", actuator="limit", kind="cgroup", name=some, states=states, outlives=True) == {"failures": {}}


def test_it_conforms_on_a_delegated_group(bench: Bench, tenant: str) -> None:
    states = [{"cpu_weight": 20, "pids_max": 50}, {"cpu_max_percent": 50.0, "memory_high_bytes": 200 << 20}, {"frozen": True}]
    assert bench.ask("conform", actuator="limit", kind="cgroup", name=tenant, states=states) == {"failures": {}}


@pytest.mark.parametrize("path", ["/", "/init.scope", "/system.slice"])
def test_what_holds_the_system_is_refused(guest: Machine, bench: Bench, path: str) -> None:
    before = files_of(guest, path)
    with pytest.raises(RefusedError) as refused:
        bench.apply(path, cpu_max_percent=20.0, pids_max=5000)
    assert refused.value.code.startswith("limit."), refused.value
    assert files_of(guest, path) == before


def test_what_holds_stead_is_refused(guest: Machine, bench: Bench) -> None:
    path = guest.out("systemctl show -P ControlGroup steadtest-bench")
    with pytest.raises(RefusedError, match="stead"):
        bench.apply(path, cpu_max_percent=20.0)


def test_less_than_it_needs_is_refused(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-full", "exec stress-ng --vm 1 --vm-bytes 60M --vm-keep --vm-hang 0 -q") as path:
        guest.run(f"until [ $(cat /sys/fs/cgroup{path}/memory.current) -gt 60000000 ]; do sleep 0.2; done")
        for state in ({"memory_high_bytes": 20 << 20}, {"memory_max_bytes": 20 << 20}, {"pids_max": 1}, {"cpu_max_percent": 0.5}):
            with pytest.raises(RefusedError) as refused:
                told = bench.apply(path, **state)
                pytest.fail(f"{state} was taken: {told}, {guest.out(f'cat /sys/fs/cgroup{path}/memory.stat')}")
            assert refused.value.code == "limit.refused"


def test_a_group_that_vanishes_is_gone_and_its_successor_is_left_alone(guest: Machine, bench: Bench) -> None:
    state = {"cpu_max_percent": 20.0, "frozen": True}
    with unit(guest, "steadtest-gone") as path:
        thing = bench.ask("identify", kind="cgroup", name=path)["thing"]
    with pytest.raises(RefusedError) as refused:
        bench.ask("write", actuator="limit", thing=thing, state=state)
    assert refused.value.code == "FileNotFoundError"
    with unit(guest, "steadtest-gone") as path:
        before = files_of(guest, path)
        with pytest.raises(RefusedError) as refused:
            bench.ask("write", actuator="limit", thing=thing, state=state)
        assert refused.value.code == "FileNotFoundError" and files_of(guest, path) == before
