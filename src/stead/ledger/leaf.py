"""An entry as the exact bytes of its leaf, and what is kept beside it.

A leaf is one RFC 8785 object of restricted JSON, so that a plain encoder that sorts gives the same bytes as a full
canonicaliser: ASCII member names, integers below 2^53, no floats (decimal strings instead), no lone surrogates. What is
bulky or about people goes to a salted blob: the leaf holds sha256(salt ‖ blob), so erasing salt and blob breaks no
proof. Pure: salts come as arguments.
"""

from __future__ import annotations

import functools
import hashlib
import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from stead.model.record import Entry

LEAF_MAX_BYTES: Final = 65_535
BLOB_MAX_BYTES: Final = 4 << 20  # what lies beside one leaf: as much as one answer of the ledger carries
EXACT_INT_MAX: Final = 2**53  # still read; RFC 7493 (I-JSON) and so RFC 8785 end one below, and so does what is written
SALT_BYTES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


_dump: Final = msgspec.json.Encoder(order="sorted").encode


class Blob(msgspec.Struct, frozen=True):
    """Erasable detail beside a leaf. `ref` is what the leaf says about it: "sha256:<hex of sha256(salt ‖ data)>"."""

    ref: str
    salt: bytes
    data: bytes


def leaf(one: Entry, salt: bytes) -> tuple[bytes, Blob | None]:
    """The exact leaf bytes (at most 65,535) of an entry, and the blob that goes with it. Raises ValueError if it can't fit.

    An entry that has a salt of its own is written with that one.
    """
    salt = one.salt or salt
    body = restrict(one.body)
    data = one.bulk
    encoded = _leaf_bytes(one, body, salt, data)
    if len(encoded) > LEAF_MAX_BYTES:
        data = _dump({"body": body, "bulk": None if one.bulk is None else one.bulk.decode("utf-8", "replace")})
        encoded = _leaf_bytes(one, {"about": one.subject, "oversize_bytes": len(encoded)}, salt, data)
    if len(encoded) > LEAF_MAX_BYTES:
        raise ValueError(f"an entry of type {one.type} does not fit a leaf even without its body")
    if data is not None and len(data) > BLOB_MAX_BYTES:
        raise ValueError(f"{len(data)} bytes are too many to be kept beside an entry of type {one.type}")
    return encoded, None if data is None else blob_of(salt, data)


def _leaf_bytes(one: Entry, body: Any, salt: bytes, data: bytes | None) -> bytes:
    actor = one.actor
    envelope: dict[str, Any] = {
        "actor": {"id": restrict(actor.id), "kind": restrict(actor.kind)},
        "body": body,
        "host": restrict(one.host),
        "id": restrict(one.id),
        "prev_cause": restrict(one.prev_cause),
        "ts": iso(one.ts_ms),
        "type": restrict(one.type),
        "v": restrict(one.v),
    }
    if data is not None:
        envelope["blob"] = _ref(salt, data)
    return _dump(envelope)


def blob_of(salt: bytes, data: bytes) -> Blob:
    """A blob with the name that its leaf has for it."""
    return Blob(_ref(salt, data), salt, data)


def _ref(salt: bytes, data: bytes) -> str:
    return "sha256:" + hashlib.sha256(salt + data).hexdigest()


def iso(unix_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC with six decimals."""
    seconds, rest_ms = divmod(unix_ms, 1000)
    return f"{_iso_second(seconds)}.{rest_ms:03d}000Z"


@functools.lru_cache(maxsize=4)
def _iso_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a value, after `restrict`."""
    return _dump(restrict(value))


def restrict(value: Any) -> Any:
    """The value in restricted JSON: see the module's description. Names that are not ASCII are escaped, one to one."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value)
    if kind is dict:
        return {_name(key): restrict(item) for key, item in value.items()}
    if kind is int:
        return value if -EXACT_INT_MAX < value < EXACT_INT_MAX else str(value)
    if value is None or kind is bool:
        return value
    if kind is float:
        return decimal_string(value)
    if kind is list or kind is tuple:
        return [restrict(item) for item in value]
    return _restrict_other(value)


def _restrict_other(value: Any) -> Any:
    """What is a kind of the plain ones, as the plain one; anything else as msgspec sees it."""
    if isinstance(value, str):
        return _text(str.__str__(value))
    for plain in (int, float):
        if isinstance(value, plain):
            return restrict(plain(value))
    if isinstance(value, dict):
        return restrict(dict(value))
    if isinstance(value, list | tuple):
        return restrict(list(value))
    return restrict(msgspec.to_builtins(value, str_keys=True))


def decimal_string(value: float) -> str:
    """A float as the shortest decimal that reads back the same, without an exponent; "NaN", "Infinity", "-Infinity"."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    if "e" not in text:
        return text
    from decimal import Decimal  # seldom needed, and a megabyte

    return format(Decimal(text), "f")


def _name(key: Any) -> str:
    name = key if type(key) is str else str(key)
    plain = name.isascii() and "\\" not in name
    return name if plain else name.encode("unicode_escape").decode("ascii")


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def clean_text(value: Any) -> Any:
    """The value with every text free of lone surrogates."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {clean_text(key): clean_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_text(item) for item in value]
    return value


def uuid7(unix_ms: int, random: bytes) -> str:
    """A time-ordered id (RFC 9562, version 7) from a time in Unix milliseconds and 10 random bytes."""
    raw = bytearray(unix_ms.to_bytes(6, "big") + random[:10])
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
