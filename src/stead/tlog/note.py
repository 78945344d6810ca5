"""Signed notes (C2SP signed-note v1.0.0): a text, an empty line, and lines that sign the text.

A parsed note formats back to the same bytes. Nothing in it may be believed before `verified` named a trusted key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from stead.tlog.cosignature import cosigned_at
from stead.tlog.keys import COSIGNATURE, ED25519, ID_BYTES, MLDSA, Signature, SigningKey, VerifierKey, is_key_name, verify
from stead.tlog.merkle import Unproven
from stead.tlog.strict import Malformed, decode64

__all__ = (
    "Note",
    "Signature",
    "Verified",
    "check_text",
    "format_note",
    "parse_note",
    "sign_note",
    "signature_line",
    "split_note",
    "verified",
)

NOTE_MAX_BYTES: Final = 1_000_000  # as Go's note package
SIGNATURES_MAX: Final = 100  # as Go's note package


class Note(NamedTuple):
    """A text (with its last newline) and the signatures under it, trusted or not, in their order."""

    text: str
    signatures: tuple[Signature, ...]


class Verified(NamedTuple):
    """A known key whose signature is good. `time_s` (POSIX seconds) is what a cosignature says; None for a plain signature."""

    key: VerifierKey
    time_s: int | None


def parse_note(data: bytes) -> Note:
    """Read a note of up to 1,000,000 bytes and 100 signatures. Raises Malformed."""
    text, tail = split_note(data)
    lines = tail.split("\n", SIGNATURES_MAX + 1)[:-1]
    if len(lines) > SIGNATURES_MAX:
        raise Malformed(f"note: more than {SIGNATURES_MAX} signatures")
    return Note(text, tuple(signature_line(line, f"note, signature {number}") for number, line in enumerate(lines, 1)))


def split_note(data: bytes) -> tuple[str, str]:
    """A note's text and the lines under it, which nothing has read yet. Raises Malformed."""
    if len(data) > NOTE_MAX_BYTES:
        raise Malformed(f"note: {len(data)} bytes are more than {NOTE_MAX_BYTES}")
    text, gap, tail = check_text(data, "note").rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise Malformed("note: no empty line and lines of signatures after the text")
    return text + "\n", tail


def format_note(note: Note) -> bytes:
    """The bytes of a note."""
    return (note.text + "\n" + "".join(signature.line for signature in note.signatures)).encode()


def sign_note(text: str, keys: Sequence[SigningKey]) -> Note:
    """Sign a text that ends in a newline with every key of type 0x01. Raises ValueError for other types and texts."""
    if not text.endswith("\n"):
        raise ValueError("a note's text ends in a newline")
    if any(key.kind != ED25519 for key in keys):
        raise ValueError("only keys of type 0x01 sign a note; a cosigner's needs a time")
    return Note(text, tuple(Signature(key.name, key.verifier.id, key.sign(text.encode())) for key in keys))


def verified(note: Note, keys: Sequence[VerifierKey]) -> list[Verified]:
    """The known keys that signed the text, each once, in the order of the lines; an empty list means: believe nothing.

    Unknown keys' lines are ignored, and so are those of ML-DSA keys, which nothing here can verify. Raises Unproven (a
    Malformed) for a known key's line that is not its signature, Malformed for two known keys that share name and id.
    """
    known = _by_name_and_id(keys)
    found: dict[VerifierKey, Verified] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None or key.kind == MLDSA:
            continue
        good = _check(note.text, key, signature.data)
        if good is None:
            raise Unproven(f"note: the signature of {key.name} ({key.id.hex()}) is not good")
        found.setdefault(key, good)
    return list(found.values())


def signature_line(line: str, where: str) -> Signature:
    """Read one signature line, without its newline. Raises Malformed."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not is_key_name(parts[1]):
        raise Malformed(f"{where}: it is not an em dash, a key name and base64")
    name, data = parts[1], decode64(parts[2])
    if len(data) <= ID_BYTES:
        raise Malformed(f"{where}: {len(data)} bytes are too few for a key id and a signature")
    return Signature(name, data[:ID_BYTES], data[ID_BYTES:])


def check_text(data: bytes, where: str) -> str:
    """The text of UTF-8 without control characters other than newline. Raises Malformed."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{where}: it is not UTF-8") from None
    if any(char < " " and char != "\n" for char in text):
        raise Malformed(f"{where}: it has a control character")
    return text


def _check(text: str, key: VerifierKey, data: bytes) -> Verified | None:
    if key.kind == COSIGNATURE:
        time_s = cosigned_at(text, key, data)
        return None if time_s is None else Verified(key, time_s)
    return Verified(key, None) if verify(key, text.encode(), data) else None


def _by_name_and_id(keys: Sequence[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise Malformed(f"two different known keys are called {key.name} and {key.id.hex()}")
    return known
