"""Other controllers: who runs here, and what is theirs."""

from __future__ import annotations

import pytest

from stead.cgroups.knobs import KNOBS
from stead.cgroups.rivals import RIVALS, claimant, killers, running
from stead.host import LocalHost
from stead.probes.rivals import probe
from stead.testing import FakeClock
from tests.cgroups.recorded import RecordedHost


def test_those_that_run_are_known_by_their_processes(tmp_path):
    host = RecordedHost(tmp_path)
    for pid, name in {900: "dockerd", 20: "systemd-oomd", 21: "tuned", 22: "power-profiles-", 23: "tunedesque"}.items():
        host.process(pid, name)
    assert running(host) == {"systemd-oomd": 20, "TuneD": 21, "power-profiles": 22, "Docker": 900}
    assert killers(running(host)) == ("systemd-oomd",)
    assert running(LocalHost(tmp_path / "none")) == {}


@pytest.mark.parametrize(
    ("knob", "path", "name"),
    [
        ("process.nice", "", "ananicy"),
        ("cgroup.memory_low_bytes", "/user.slice/user-1000.slice", "uresourced"),
        ("cgroup.memory_low_bytes", "/system.slice/x.service", None),
        ("cgroup.cpu_weight", "/kubepods/besteffort", "kubelet"),
        ("cgroup.cpu_weight", "/batch", None),
        ("sysctl.vm.swappiness", "", "TuneD"),
        ("kernel.ksm", "", "TuneD"),
    ],
)
def test_what_is_whose(knob, path, name):
    rival = claimant([one.name for one in RIVALS], knob, path)
    assert (rival and rival.name) == name and claimant([], knob, path) is None


def test_names_are_as_the_kernel_keeps_them_and_knobs_are_a_limits():
    for rival in RIVALS:
        assert all(0 < len(name) <= 15 for name in rival.processes), rival
        for knob in (knob.partition(".")[2] for knob in rival.knobs if knob.startswith("cgroup.")):
            assert knob == "*" or knob in KNOBS, rival


def test_a_fact_for_each_and_none_once_it_is_gone(tmp_path):
    host, clock, watched = RecordedHost(tmp_path), FakeClock(), probe()
    host.process(20, "earlyoom")
    first = watched.read(host, clock.now())
    assert [(fact.name, fact.subject) for fact in first.facts] == [("rival.earlyoom", "host")]
    assert str(first.facts[0].value).startswith("kills when little memory")
    host.remove("/proc/20/comm")
    assert [(fact.name, fact.value) for fact in watched.read(host, clock.now()).facts] == [("rival.earlyoom", None)]
    assert watched.read(host, clock.now()).facts == ()
