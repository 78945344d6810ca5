"""Checkpoints (C2SP tlog-checkpoint v1.0.0): the text of a note that says how big a log is, and its root hash."""

from __future__ import annotations

from typing import Final, NamedTuple

from stead.tlog.note import NOTE_MAX_BYTES
from stead.tlog.strict import Malformed, decimal, decode64, encode64

ROOT_BYTES: Final = 32


class Checkpoint(NamedTuple):
    """A log's head: `origin` names the log, `size` counts its leaves, `root` is the SHA-256 Merkle root (RFC 6962).

    `extension` holds further lines, each ending in a newline; stead writes none.
    """

    origin: str
    size: int
    root: bytes
    extension: str = ""

    @property
    def text(self) -> str:
        """The note's text, as it is signed."""
        return f"{self.origin}\n{self.size}\n{encode64(self.root)}\n{self.extension}"


def parse_checkpoint(text: str, *, lenient: bool = False) -> Checkpoint:
    """Read a note's text as a checkpoint; `.text` gives the same text back. Raises Malformed.

    `lenient` also takes a root that is not 32 bytes long and empty extension lines, as transparency-dev/formats does and
    its published vectors expect. Nothing that verifies uses it: the specification allows no empty line, and RFC 6962 no
    other hash.
    """
    if len(text) > NOTE_MAX_BYTES:
        raise Malformed(f"checkpoint: it is longer than {NOTE_MAX_BYTES} characters")
    parts = text.split("\n", 3)
    if len(parts) < 4 or (parts[3] and not parts[3].endswith("\n")):
        raise Malformed("checkpoint: fewer than three lines, or one without a newline")
    origin, size, root, extension = parts
    if not origin:
        raise Malformed("checkpoint: the origin is empty")
    if any(char < " " and char != "\n" for char in text):
        raise Malformed("checkpoint: it has a control character")
    if not lenient and (extension.startswith("\n") or "\n\n" in extension):
        raise Malformed("checkpoint: an extension line is empty")
    return Checkpoint(origin, decimal(size), decode64(root, None if lenient else ROOT_BYTES), extension)
