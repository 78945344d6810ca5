"""A hub's front without a hub: answers /healthz on the port that `stead up` chose, until it is told to stop."""

from __future__ import annotations

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def main() -> int:
    server = HTTPServer(("127.0.0.1", int(os.environ["STEAD_HUB__PORT"])), Healthy)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.05)
    server.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
