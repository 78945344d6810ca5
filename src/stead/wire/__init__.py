"""The wire: how the agent, its hub and the command line speak. One JSON object a line, as in `stead.model.messages`.

`codec` turns messages into lines and back, `door` is the blocking client of the command line, `async_door` the client of
the hub, and `peer` tells a server who is at the other end. What needs asyncio is imported only when it is named, because
`stead --help` must not pay for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stead.wire.async_door import AsyncDoor
    from stead.wire.codec import LINE_LIMIT, decode_outgoing, decode_request, encode, request_id
    from stead.wire.door import Door, Feed
    from stead.wire.peer import peer_credentials

__all__ = [
    "LINE_LIMIT",
    "AsyncDoor",
    "Door",
    "Feed",
    "decode_outgoing",
    "decode_request",
    "encode",
    "peer_credentials",
    "request_id",
]

_HOMES = {
    **dict.fromkeys(("LINE_LIMIT", "decode_outgoing", "decode_request", "encode", "request_id"), "codec"),
    **dict.fromkeys(("Door", "Feed"), "door"),
    "AsyncDoor": "async_door",
    "peer_credentials": "peer",
}


def __getattr__(name: str) -> Any:
    """Import a name's module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
