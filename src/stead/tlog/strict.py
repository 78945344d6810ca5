"""Text that has one spelling only: base64 and decimals that read back to exactly what was written.

C2SP's formats are signed as text, so a second spelling of the same value would be a change that no signature notices
(Python's own decoder ignores the padding bits of the last character). Every parser here raises one error, `Malformed`.
"""

from __future__ import annotations

import binascii
from typing import Final

DECIMAL_END: Final = 2**63
_DECIMAL_DIGITS: Final = len(str(DECIMAL_END))
_SHOWN: Final = 40


class Malformed(ValueError):  # noqa: N818 - what is refused, not a fault
    """Bytes that are not what their format says. The message names what was read and what is wrong with it."""


def decode64(text: str, length: int | None = None, what: str = "base64") -> bytes:
    """The bytes of standard base64 (RFC 4648 §4, padded); `length` bytes of them if given. Raises Malformed naming `what`."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise Malformed(f"{what}: {shown(text)} is not base64: {error}") from None
    if encode64(data) != text:
        raise Malformed(f"{what}: {shown(text)} is not how base64 writes these bytes")
    if length is not None and len(data) != length:
        raise Malformed(f"{what}: {len(data)} bytes where {length} belong")
    return data


def encode64(data: bytes) -> str:
    """Standard base64 with padding, on one line."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decimal(text: str, what: str = "decimal") -> int:
    """An ASCII decimal below 2**63 without sign, spaces or leading zeros. Raises Malformed naming `what`."""
    if not (text.isascii() and text.isdigit()) or len(text) > _DECIMAL_DIGITS:
        raise Malformed(f"{what}: {shown(text)} is not a decimal below 2**63")
    if text[0] == "0" and text != "0":
        raise Malformed(f"{what}: {shown(text)} has leading zeros")
    value = int(text)
    if value >= DECIMAL_END:
        raise Malformed(f"{what}: {text} is not below 2**63")
    return value


def shown(text: str) -> str:
    """Untrusted text for an error's message: quoted, escaped, and cut."""
    return ascii(text) if len(text) <= _SHOWN else ascii(text[:_SHOWN]) + "..."
