"""What a leaf says of itself, and whether it is canonical restricted JSON.

Columns are only an index beside the leaf; what they say differently would send a reader to the wrong entry. A canonical leaf
has one spelling, so that two programs that read it can't read it differently. Formats: RFC 8785, restricted as in
`stead.ledger.leaf`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from stead.ledger.leaf import EXACT_INT_MAX

_DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_LONG: Final = b"0" * 16  # so many digits may be a number beyond 2^53


def _no_float(text: str) -> Any:
    raise ValueError(f"it has the number {text[:20]}, which is no whole one")


class LeafHead(msgspec.Struct, gc=False):
    """The members of a leaf that columns repeat, or that name its blob."""

    id: str
    type: str
    ts: str
    blob: str = ""


class _About(msgspec.Struct):
    about: str = ""


class _Body(msgspec.Struct):
    body: _About


_heads: Final = msgspec.json.Decoder(LeafHead)
_bodies: Final = msgspec.json.Decoder(_Body)
_values: Final = msgspec.json.Decoder(float_hook=_no_float)
_sorted: Final = msgspec.json.Encoder(order="sorted")


def heads_of(leaves: Iterable[bytes]) -> list[LeafHead]:
    """Each leaf's own id, type, time and blob. Raises ValueError when one is no such JSON object."""
    decode = _heads.decode
    try:
        return [decode(leaf) for leaf in leaves]
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def about(leaf: bytes) -> str:
    """What the leaf's body says that it is about; empty where it does not say."""
    try:
        return _bodies.decode(leaf).body.about
    except (ValueError, RecursionError):  # of them msgspec.MsgspecError is only one: not UTF-8, nested too deeply
        return ""


def unfit(leaf: bytes) -> str:
    """What makes these bytes no canonical restricted JSON object; empty when they are one."""
    if leaf.isascii() and leaf.startswith(b"{") and _LONG not in leaf.translate(_DIGITS):
        try:
            if _sorted.encode(_values.decode(leaf)) == leaf:
                return ""
        except (ValueError, RecursionError):
            pass
    return _why(leaf)


def _why(leaf: bytes) -> str:
    """The same, by the letter: for leaves with anything unusual."""
    try:
        value = json.loads(leaf, parse_float=_no_float, parse_constant=_no_float, object_pairs_hook=_members)
        if not isinstance(value, dict):
            return "it is no object"
        if too_large := _too_large(value):
            return too_large
        written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "it has a lone surrogate"
    except (ValueError, RecursionError) as error:
        return str(error) or "it nests too deeply"
    return "" if written == leaf else "it is not written in the canonical way"


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("it has a member twice")
    for name in members:
        if not name.isascii():
            raise ValueError("it has a member whose name is not ASCII")
    return members


def _too_large(value: Any) -> str:
    """Look for an integer that a double can't hold exactly."""
    if isinstance(value, dict):
        return next((why for item in value.values() if (why := _too_large(item))), "")
    if isinstance(value, list):
        return next((why for item in value if (why := _too_large(item))), "")
    if isinstance(value, int) and not -EXACT_INT_MAX <= value <= EXACT_INT_MAX:
        return f"it has the number {str(value)[:24]}, which is beyond 2^53"
    return ""
