from __future__ import annotations

from pathlib import Path

from stead.probes.network import Traffic, busiest, parse_net_dev, probe
from stead.probes.reading import RESET
from stead.testing import FakeClock
from tests.probes.hosts import CAPTURED, captured, change, debian, one, two_frames, values


def test_parses_interfaces_that_ever_carried_anything() -> None:
    interfaces = parse_net_dev((CAPTURED / "debian12/proc/net/dev").read_text())
    assert interfaces == {"ens3": Traffic(812033120, 120331203, 4, 1, 12, 2)}


def test_names_with_colons_and_numbers_glued_to_them() -> None:
    text = "h\nh\neth0:1:12 1 0 0 0 0 0 0 34 1 0 0 0 0 0 0\n"
    assert parse_net_dev(text) == {"eth0:1": Traffic(12, 34, 0, 0, 0, 0)}


def test_many_interfaces_are_cut_to_the_busiest() -> None:
    interfaces = {f"veth{n}": Traffic(n, 0, 0, 0, 0, 0) for n in range(100)}
    assert list(busiest(interfaces, 2)) == ["veth99", "veth98"]
    assert len(busiest(interfaces)) == 32
    assert busiest({"a": interfaces["veth1"]}) == {"a": interfaces["veth1"]}


def test_rates_of_an_interface(tmp_path: Path) -> None:
    host, clock, network = debian(tmp_path), FakeClock(), probe()
    network.read(host, clock.now())
    change(host, "/proc/net/dev", lambda text: text.replace("812033120 912033    4   12", "812043120 912033    6   12"))
    rates = values(network.read(host, clock.advance(2000)))
    assert rates["network.received_bytes_per_second", "network:ens3"] == 5000
    assert rates["network.receive_errors_per_second", "network:ens3"] == 1
    assert rates["network.sent_bytes_per_second", "network:ens3"] == 0
    assert {subject for _, subject in rates} == {"network:ens3"}
    change(host, "/proc/net/dev", lambda text: text.replace("812043120", "5"))
    assert one(network.read(host, clock.advance(1000)), "network.received_bytes_per_second", "network:ens3").reason == RESET


def test_macos_and_windows_without_their_loopbacks() -> None:
    mac = values(two_frames(probe(), captured("macos14")))
    assert mac["network.received_bytes_per_second", "network:en0"] == 100_000
    windows = values(two_frames(probe(), captured("windows11")))
    assert {subject for _, subject in windows} == {"network:Ethernet0"}
    assert windows["network.receive_drops_per_second", "network:Ethernet0"] == 0
