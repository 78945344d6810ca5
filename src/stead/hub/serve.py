"""The HTTP server around the application: a socket bound early, JSON log lines on stderr, a stop within three seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import uvicorn

from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, SteadError

STOP_S: Final = 2
log = logging.getLogger("stead.hub")


def bound(bind: str, port: int) -> socket.socket:
    """Bind the address for people. SteadError when the port is taken or may not be used, with exit code 1; 2 when it is none."""
    where = f"{bind}:{port}"
    try:
        address = ipaddress.ip_address("127.0.0.1" if bind == "localhost" else bind)
    except ValueError:
        raise SteadError("not an IP address to listen on", f"hub.bind: {bind}", "use 127.0.0.1", exit_code=EXIT_USAGE) from None
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _refused(error, where) from None
    if not address.is_loopback:
        log.warning("the hub listens beyond this machine, on %s, without TLS: put a proxy with TLS before it", where)
    return listener


def listen(listener: socket.socket) -> None:
    """Let people connect. SteadError when another program was quicker."""
    try:
        listener.listen(128)
    except OSError as error:
        host, port, *_ = listener.getsockname()
        listener.close()
        raise _refused(error, f"{host}:{port}") from None


class Heads:
    """Answers HEAD as GET; the server sends no body for it. Monitors and `curl -I` ask so."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        await self._app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)


class Server(uvicorn.Server):
    """A server whose code is all loaded, that takes a signal as the wish to stop and then ends with 0."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            Heads(app),
            http="httptools",
            ws="websockets-sansio",
            loop="asyncio",
            ws_max_size=65_536,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
            timeout_keep_alive=15,
            limit_concurrency=256,
            lifespan="on",
        )
        config.load()
        import_module("anyio._backends._asyncio")  # anyio would load it at its first use, which comes after the drop
        super().__init__(config)

    def run_on(self, listener: socket.socket) -> int:
        """Serve until SIGTERM or SIGINT; a second one stops at once. Gives the exit code."""
        asyncio.run(self.serve(sockets=[listener]))
        return EXIT_OK if self.started else EXIT_FAILURE

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, source and text; the trace of a defect beside them."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"at": at, "level": record.levelname.lower(), "source": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(level: str) -> None:
    """Send the process's log there; the service manager or `stead up` keeps it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))


def _refused(error: OSError | OverflowError, where: str) -> SteadError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        fix = "stop the program that listens there, or choose another with --port"
        return SteadError("the port is in use", where, fix, code="hub.port-in-use")
    if number == errno.EACCES:
        return SteadError("this user may not listen there", where, "choose a port above 1023", code="hub.port-denied")
    return SteadError(f"can't listen: {error}", where, "choose another hub.bind or --port", code="hub.port", exit_code=EXIT_USAGE)
