"""What a process had started before it was placed goes with it, but for what is protected, and comes back with it: really."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stead.actuators.placement import OWN, Placement, PlacementActuator
from stead.cgroups.insiders import Shield
from stead.model.change import Target
from stead.model.intent import Intent, Protect
from tests.cgroups.groups import real_groups

PARENT = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", "input()", name]) for name in sys.argv[1:]]
print(*(one.pid for one in children), flush=True)
input()
"""
DEAR = f"dear{os.getpid()}"


@pytest.fixture
def family() -> Iterator[tuple[int, int, int]]:
    """A process and two that it started, the second of them dear to its owner."""
    argv = [sys.executable, "-c", PARENT, "plain", DEAR]
    one = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert one.stdout
    plain, dear = map(int, one.stdout.readline().split())
    try:
        yield one.pid, plain, dear
    finally:
        os.killpg(one.pid, signal.SIGKILL)
        one.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="needs control groups")
async def test_a_family_is_placed_together_but_for_what_is_protected(family: tuple[int, int, int]) -> None:
    host, groups = real_groups()
    parent, plain, dear = family
    if groups.systemd or groups.path_of(parent, "cpu") != "/":
        pytest.skip("this test's processes are not at the root of the cpu tree")
    intent = Intent((Protect((f"process:*-c input() {DEAR}",)),))
    actuator = PlacementActuator(host, Shield(intent=intent))
    target = Target("process", str(parent), {"start_ticks": str(host.start_ticks(parent)), "boot_id": host.boot_id})
    before = await actuator.read(host, target)
    await actuator.write(host, target, Placement(group=OWN))
    try:
        own = groups.path_of(parent, "cpu")
        assert own is not None and own.startswith("/stead/")
        assert groups.path_of(plain, "cpu") == own
        assert groups.path_of(dear, "cpu") == "/"
    finally:
        await actuator.write(host, target, Placement(group="/"))
    assert {groups.path_of(pid, "cpu") for pid in family} == {"/"}
    assert await actuator.read(host, target) == before
