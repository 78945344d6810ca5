"""The demo's load generator: requests to the service and jobs into the queue, at the rates that a control file says.

The control file holds {"http_per_s": …, "jobs_per_s": …} and is looked at twice a second. What the clients see (latency,
errors of the last five seconds) is written beside it, as `load.seen.json`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections import deque
from pathlib import Path

CLIENTS = 3
SEEN_S = 5.0


class Load:
    """Clients that share one pace, and what they saw."""

    def __init__(self, control: Path, queue: Path, ports: list[int]) -> None:
        self.control, self.queue, self.ports = control, queue, ports
        self.rates = {"http_per_s": 0.0, "jobs_per_s": 0.0}
        self.seen: deque[tuple[float, float, bool]] = deque(maxlen=5000)
        self.number = 0

    def pace(self) -> None:
        """Follow the control file, and write down what was seen."""
        while True:
            with contextlib.suppress(OSError, ValueError):
                self.rates.update(json.loads(self.control.read_text()))
            now = time.monotonic()
            recent = [one for one in list(self.seen) if now - one[0] <= SEEN_S]
            latencies = sorted(ms for _, ms, _ in recent)
            seen = {
                "requests": len(recent),
                "errors": sum(failed for _, _, failed in recent),
                "p95_ms": latencies[int(0.95 * (len(latencies) - 1))] if latencies else None,
            }
            fresh = self.control.with_name("load.seen.new")
            fresh.write_text(json.dumps(seen))
            fresh.replace(self.control.with_name("load.seen.json"))
            time.sleep(0.5)

    def client(self, index: int) -> None:
        """Ask at this client's share of the pace, one server after the other."""
        turn, due = index, time.monotonic()
        while True:
            rate = self.rates["http_per_s"] / CLIENTS
            due = max(due + (1 / rate if rate else 0.2), time.monotonic() - 0.5)
            time.sleep(max(0.0, due - time.monotonic()))
            if rate:
                turn += 1
                self.ask(turn)

    def ask(self, turn: int) -> None:
        """One request; a server that is not there is an error only if no other is, as behind a balancer."""
        began, code = time.monotonic(), 599
        for attempt in range(len(self.ports)):
            connection = http.client.HTTPConnection("127.0.0.1", self.ports[(turn + attempt) % len(self.ports)], timeout=2)
            try:
                connection.request("GET", "/work")
                code = connection.getresponse().status
                break
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()
        now = time.monotonic()
        self.seen.append((now, (now - began) * 1000, code >= 500))

    def produce(self) -> None:
        """Put jobs into the queue."""
        self.queue.mkdir(parents=True, exist_ok=True)
        due = time.monotonic()
        while True:
            rate = self.rates["jobs_per_s"]
            due = max(due + (1 / rate if rate else 0.2), time.monotonic() - 0.5)
            time.sleep(max(0.0, due - time.monotonic()))
            if rate:
                self.number += 1
                (self.queue / f"{time.time_ns()}-{self.number}").touch()


def main() -> None:
    """Run for ever."""
    environment = os.environ
    ports = [int(port) for port in environment["STEAD_DEMO_PORTS"].split(",")]
    load = Load(Path(environment["STEAD_DEMO_LOAD"]), Path(environment["STEAD_DEMO_QUEUE"]), ports)
    for index in range(CLIENTS):
        threading.Thread(target=load.client, args=(index,), daemon=True).start()
    threading.Thread(target=load.produce, daemon=True).start()
    load.pace()


if __name__ == "__main__":
    main()
