"""Messages to lines and back. A line is one JSON object and a newline, at most LINE_LIMIT bytes.

Whatever is wrong with a line is one `SteadError`: a peer that sends rubbish must never end the process that reads it.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.messages import Event, Outgoing, Reply, Request

T = TypeVar("T")
LINE_LIMIT: Final = 8 * 1024 * 1024  # bytes, with the newline

_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)
_outgoing: msgspec.json.Decoder[Reply | Event] = msgspec.json.Decoder(Outgoing)


class _Id(msgspec.Struct):
    """Only the id of a request, for when the rest of it can't be read."""

    id: int


def encode(message: Request | Reply | Event) -> bytes:
    """Give the message as one line. SteadError `wire.too-long` when it would pass LINE_LIMIT."""
    try:
        line = _encoder.encode(message) + b"\n"
    except UnicodeEncodeError:  # an undecodable file or process name: replaced, so that the rest still arrives
        line = _encoder.encode(_without_surrogates(msgspec.to_builtins(message))) + b"\n"
    if len(line) > LINE_LIMIT:
        raise _too_long(len(line))
    return line


def decode_request(line: bytes) -> Request:
    """Read a client's line. SteadError `wire.malformed` or `wire.too-long`."""
    return _decode(_requests, line)


def decode_outgoing(line: bytes) -> Reply | Event:
    """Read an agent's line. SteadError `wire.malformed` or `wire.too-long`."""
    return _decode(_outgoing, line)


def request_id(line: bytes) -> int:
    """Give the id of a request whose body can't be read, so that the refusal finds its asker; 0 when that can't be read."""
    try:
        return msgspec.json.decode(line[:LINE_LIMIT], type=_Id).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0


def _decode(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    """Decode one line with its limits."""
    if len(line) > LINE_LIMIT:
        raise _too_long(len(line))
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        fix = "use the same version of stead on both sides"
        what = f"a message could not be read: {reason}"
        raise SteadError(what, "agent socket", fix, code="wire.malformed", exit_code=EXIT_USAGE) from None


def _too_long(size: int) -> SteadError:
    """The error for a line that no peer would accept."""
    what = f"a message of {size} bytes is longer than the {LINE_LIMIT} that one line may have"
    return SteadError(what, "agent socket", "ask for less at once", code="wire.too-long")


def _without_surrogates(value: Any) -> Any:
    """Replace what UTF-8 can't carry, at any depth."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value
