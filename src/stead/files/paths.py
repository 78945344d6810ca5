"""Paths as text, and back: a name may hold any bytes but / and NUL, and targets, ledger and terminals need text.

Bytes that are no UTF-8, what can't be printed, and the percent sign itself are written %XX, so each path has one name.
"""

from __future__ import annotations

import re
from typing import Final

from stead.model.errors import SteadError

NAME_MAX: Final = 500  # bytes of a name as text; one leaf of the ledger holds the names of a whole run
_ESCAPED: Final = re.compile(rb"%([0-9A-F]{2})")


def shown(path: bytes) -> str:
    """A path as text."""
    return "".join(_char(char) for char in path.decode("utf-8", "surrogateescape"))


def meant(name: str) -> bytes:
    """The path that such a text names. SteadError when it is not absolute, not in its one form, or leads elsewhere."""
    path = _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), name.encode("utf-8", "replace"))
    if not path.startswith(b"/") or b"\0" in path or shown(path) != name or {b"", b".", b".."} & set(parts(path)):
        raise SteadError("this is no absolute path in its one form", name, "name it as `stead files` does", code="files.path")
    return path


def parts(path: bytes) -> list[bytes]:
    """The names on the way."""
    return path.split(b"/")[1:]


def _char(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"%{code - 0xDC00:02X}"
    if char == "%" or not char.isprintable():
        return "".join(f"%{byte:02X}" for byte in char.encode("utf-8"))
    return char
