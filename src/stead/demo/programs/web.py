"""One worker of the demo's HTTP service: some real work per request, an honest report, and, when told so, a real fault.

While the file STEAD_DEMO_FAULT holds this worker's generation, what it would have cached is spoilt: every third answer is an
error, and worker 0 dies of it again and again. Only a restart into a new generation gets rid of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

WORK_ROUNDS = 10_000  # some 5 ms of CPU
CRASH_AFTER = 50
WEIGHT = -10  # nice, where it may (as root): what else a busy machine does then disturbs the measurement less
REPORT_S = 0.5
LATENCY_S = 5.0


class Service(HTTPServer):
    """Answers one request after the other, and reports twice a second."""

    def __init__(self, port: int, index: int, generation: str, fault: Path, status: Path) -> None:
        super().__init__(("127.0.0.1", port), Requests)
        self.index, self.generation, self.fault, self.status = index, generation, fault, status
        self.requests = self.errors = self.spoilt_answers = 0
        self.busy_s, self.reported = 0.0, time.monotonic()
        self.latencies: deque[tuple[float, float]] = deque(maxlen=1000)

    def spoilt(self) -> bool:
        """Does the fault hold for this generation?"""
        try:
            return self.fault.read_text().strip() == self.generation
        except OSError:
            return False

    def service_actions(self) -> None:
        """Between requests: report, if it is time."""
        now = time.monotonic()
        if now - self.reported < REPORT_S:
            return
        recent = [ms for at, ms in self.latencies if now - at <= LATENCY_S]
        report = {
            "requests_total": self.requests,
            "errors_total": self.errors,
            "busy": round(self.busy_s / (now - self.reported), 3),
            "capacity": 1,
            "latency_ms": recent,
        }
        self.busy_s, self.reported = 0.0, now
        fresh = self.status.with_suffix(".new")
        fresh.write_text(json.dumps(report))
        fresh.replace(self.status)


class Requests(BaseHTTPRequestHandler):
    """A request: /healthz is free, everything else is work."""

    server: Service

    def do_GET(self) -> None:
        """Work and answer."""
        if self.path == "/healthz":
            return self._answer(200)
        service, began = self.server, time.monotonic()
        service.requests += 1
        spoilt = service.spoilt()
        service.spoilt_answers += spoilt
        if spoilt and service.index == 0 and service.spoilt_answers >= CRASH_AFTER:
            os._exit(70)
        hashlib.pbkdf2_hmac("sha256", b"stead", b"demo", WORK_ROUNDS)
        failed = spoilt and service.requests % 3 == 0
        service.errors += failed
        self._answer(500 if failed else 200)
        took_s = time.monotonic() - began
        service.busy_s += took_s
        service.latencies.append((began + took_s, took_s * 1000))

    def _answer(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted, not logged."""


def main() -> None:
    """Serve for ever."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, WEIGHT)
        Path("/proc/self/autogroup").write_text(str(WEIGHT))
    environment = os.environ
    service = Service(
        int(environment["STEAD_PORT"]),
        int(environment["STEAD_WORKER"]),
        environment["STEAD_GENERATION"],
        Path(environment["STEAD_DEMO_FAULT"]),
        Path(environment["STEAD_STATUS"]),
    )
    service.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
