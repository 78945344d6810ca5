"""A request/response server with one thread, and a load generator that counts from when a request was due.

    python server.py serve WORK_LOOPS            prints its port
    python server.py load PORT RATE SECONDS FILE writes one line a request: when it was due (s since the start), latency in s

The generator stands for clients on other machines: it asks for real-time scheduling, so that hogs here don't delay it. It is
open: a request is due whether or not earlier ones were answered, so that a stall counts in full.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

REQUEST = b"x" * 64
CONNECTIONS = 32


def serve(loops: int) -> None:
    """Answer each request with a digest that takes `loops` rounds of SHA-256 over 4 KiB."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    poll, open_sockets, block = select.epoll(), {listening.fileno(): listening}, bytes(4096)
    poll.register(listening, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listening.fileno():
                accepted, _ = listening.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets[accepted.fileno()] = accepted
                poll.register(accepted, select.EPOLLIN)
                continue
            asked = open_sockets[fd].recv(len(REQUEST))
            if not asked:
                open_sockets.pop(fd).close()
                continue
            digest = asked
            for _ in range(loops):
                digest = hashlib.sha256(digest + block).digest()
            open_sockets[fd].sendall(digest)


def load(port: int, rate: float, seconds: float, into: Path) -> None:
    """Send requests at an even rate and note each one's latency from when it was due."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    free = deque(socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS))
    busy: dict[socket.socket, float] = {}
    waiting: deque[float] = deque()
    lines: list[str] = []
    start, sent, total = time.monotonic(), 0, int(rate * seconds)
    while len(lines) < total:
        due = start + sent / rate
        pause = max(0.0, due - time.monotonic()) if sent < total else 1.0
        for answered in select.select(list(busy), (), (), pause)[0]:
            answered.recv(64)
            at = busy.pop(answered)
            lines.append(f"{at - start:.6f} {time.monotonic() - at:.6f}\n")
            free.append(answered)
        while sent < total and start + sent / rate <= time.monotonic():
            waiting.append(start + sent / rate)
            sent += 1
        while waiting and free:
            connection = free.popleft()
            busy[connection] = waiting.popleft()
            connection.sendall(REQUEST)
    into.write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        load(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
