"""Asking one worker whether it is well: an HTTP address by a plain socket, or a command. Never blocks the loop."""

from __future__ import annotations

import asyncio

from stead.model.errors import SteadError
from stead.model.workload import Health
from stead.protocols import Host


def fill(text: str, port: int | None, index: int) -> str:
    """Put a worker's own port and index in place of `{port}` and `{worker}`."""
    return text.replace("{port}", "" if port is None else str(port)).replace("{worker}", str(index))


async def check(health: Health, host: Host, port: int | None, index: int) -> str:
    """Ask once. An empty answer: it is well; else what is wrong, in words."""
    try:
        if health.http:
            return await asyncio.wait_for(_ask_http(fill(health.http, port, index)), health.timeout_s)
        if health.argv:
            done = await host.run([fill(part, port, index) for part in health.argv], health.timeout_s)
            return "" if done.rc == 0 else f"its check ended with {'a timeout' if done.rc is None else done.rc}"
    except TimeoutError:
        return f"no answer within {health.timeout_s:g} s"
    except (OSError, ValueError, SteadError) as error:
        return str(error) or type(error).__name__
    return ""


async def _ask_http(address: str) -> str:
    where, path = _split(address)
    name, _, port = where.rpartition(":")
    reader, writer = await asyncio.open_connection(name or where, int(port) if name else 80)
    try:
        writer.write(f"GET /{path} HTTP/1.0\r\nHost: {where}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        status = (await reader.readline()).split(b" ")
        code = int(status[1]) if len(status) > 1 else 0
        return "" if 200 <= code < 400 else f"answered {code}"
    finally:
        writer.close()


def _split(address: str) -> tuple[str, str]:
    scheme, found, rest = address.partition("://")
    if not found or scheme != "http":
        raise ValueError(f"a health address starts with http://, not {address!r}")
    where, _, path = rest.partition("/")
    return where, path
