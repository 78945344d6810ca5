"""Tells the service manager how the agent is: systemd's notification protocol (sd_notify(3)), nothing elsewhere.

READY after recovery and the first tick, WATCHDOG on completed ticks only, STOPPING at the end.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping


class Supervisor:
    """Sends datagrams to $NOTIFY_SOCKET; silent where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self.address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_ms = int(environ.get("WATCHDOG_USEC", "0") or 0) // 1000
        self._next_ms = 0

    def send(self, state: str) -> None:
        """One notification; a supervisor that went away is no reason to stop."""
        if not self.address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.connect(self.address)
                door.sendall(state.encode())
        except OSError:
            return

    def ready(self) -> None:
        """Recovery is done and the first tick completed."""
        self.send("READY=1\nSTATUS=watching")

    def tick(self, mono_ms: int) -> None:
        """A tick completed: ping the watchdog at a third of its time."""
        if self.watchdog_ms and mono_ms >= self._next_ms:
            self._next_ms = mono_ms + self.watchdog_ms // 3
            self.send("WATCHDOG=1")

    def stopping(self) -> None:
        """The agent is about to end on purpose."""
        self.send("STOPPING=1")
