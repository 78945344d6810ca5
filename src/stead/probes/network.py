"""Traffic, errors and drops of each network interface but the loopback."""

from __future__ import annotations

from typing import Final, NamedTuple

from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.reading import Rates, Source, SystemProbe, unknown
from stead.protocols import Host

_MOST_INTERFACES: Final = 32  # by traffic since boot: a host of containers has hundreds


class Traffic(NamedTuple):
    """One interface's counters since it came up."""

    received_bytes: int
    sent_bytes: int
    receive_errors: int
    send_errors: int
    receive_drops: int
    send_drops: int


def parse_net_dev(text: str) -> dict[str, Traffic]:
    """Parse /proc/net/dev: every interface that ever carried anything, but the loopback."""
    interfaces = {}
    for line in text.splitlines()[2:]:
        name, colon, rest = line.rpartition(":")
        fields = rest.split()
        name = name.strip()
        if colon and len(fields) >= 12 and name != "lo":
            traffic = Traffic(*(int(fields[i]) for i in (0, 8, 2, 10, 3, 11)))
            if any(traffic):
                interfaces[name] = traffic
    return interfaces


def busiest(interfaces: dict[str, Traffic], most: int = _MOST_INTERFACES) -> dict[str, Traffic]:
    """Choose the interfaces with the most traffic since boot."""
    if len(interfaces) <= most:
        return interfaces
    names = sorted(interfaces, key=lambda name: interfaces[name].received_bytes + interfaces[name].sent_bytes, reverse=True)
    return {name: interfaces[name] for name in names[:most]}


class Network(SystemProbe):
    """Rates of each interface."""

    name = "network"
    metrics = (
        MetricSpec("network.received_bytes_per_second", "bytes_per_second", "Bytes received by an interface"),
        MetricSpec("network.sent_bytes_per_second", "bytes_per_second", "Bytes sent by an interface"),
        MetricSpec("network.receive_errors_per_second", "per_second", "Packets received broken"),
        MetricSpec("network.send_errors_per_second", "per_second", "Packets that could not be sent"),
        MetricSpec("network.receive_drops_per_second", "per_second", "Packets received and dropped"),
        MetricSpec("network.send_drops_per_second", "per_second", "Packets dropped before they were sent"),
    )

    def __init__(self) -> None:
        self._dev = Source("/proc/net/dev")
        self._rates = Rates()

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc/net/dev."""
        return self._read(parse_net_dev(self._dev.text(host)), now)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read net_io_counters; the loopback goes by its names there."""
        counters = host.psutil.net_io_counters(pernic=True)
        interfaces = {
            name: Traffic(one.bytes_recv, one.bytes_sent, one.errin, one.errout, one.dropin, one.dropout)
            for name, one in counters.items()
            if not name.startswith(("lo0", "Loopback"))
        }
        return self._read({name: traffic for name, traffic in interfaces.items() if any(traffic)}, now)

    def _read(self, interfaces: dict[str, Traffic], now: Now) -> Reading:
        if not interfaces:
            return unknown(self.metrics, "no interface ever carried anything")
        chosen = busiest(interfaces)
        samples: list[Sample] = []
        for name, traffic in chosen.items():
            for metric, counter in zip(self.metrics, traffic, strict=True):
                samples.append(self._rates.sample(metric.id, f"network:{name}", counter, now.mono_ms))
        self._rates.keep({f"network:{name}" for name in chosen})
        return Reading(tuple(samples))


def probe() -> Network:
    """Make the probe."""
    return Network()
