"""The witness protocol (C2SP tlog-witness v1.0.0): the request `add-checkpoint`, its answer, and what a log reads in it.

Pure: `answer` is told what the witness remembers and says what to remember. Whoever serves it must look up, answer and
persist under one lock, and reply only then, or two requests at once roll the log back between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.cosignature import cosign
from stead.tlog.keys import SigningKey, VerifierKey
from stead.tlog.merkle import EMPTY_ROOT, Unproven, check_consistency
from stead.tlog.note import Note, Signature, check_text, format_note, parse_note, signature_line, split_note, verified
from stead.tlog.proof import parse_hashes, split_head
from stead.tlog.strict import Malformed, decimal, encode64

REQUEST_MAX_BYTES: Final = 65_536
REPLY_MAX_BYTES: Final = 65_536
REPLY_LINES_MAX: Final = 16
SIZE_TYPE: Final = "text/x.tlog.size"
TEXT_TYPE: Final = "text/plain; charset=utf-8"


class AddCheckpoint(NamedTuple):
    """A log's request: the size it believes the witness holds, a consistency proof from there, and the new signed note."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


class Held(NamedTuple):
    """What a witness remembers of one log: the newest checkpoint that it cosigned."""

    size: int
    root: bytes


class Remember(NamedTuple):
    """What must be durable before the reply leaves: the log, its checkpoint, and the note with the log's own signatures."""

    origin: str
    checkpoint: Checkpoint
    note: bytes


class WitnessAnswer(NamedTuple):
    """An HTTP status, type and body; and on 200 what to remember."""

    status: int
    content_type: str
    body: bytes
    remember: Remember | None = None


def parse_request(body: bytes) -> AddCheckpoint:
    """Read a request of up to 64 KiB; its checkpoint stays unread bytes. Raises Malformed."""
    lines, checkpoint = split_head(body, REQUEST_MAX_BYTES, "request")
    old = next(lines)
    if not old.startswith("old "):
        raise Malformed("request: the first line is not the old size")
    return AddCheckpoint(decimal(old.removeprefix("old "), "request, old size"), parse_hashes(lines, "request"), checkpoint)


def format_request(request: AddCheckpoint) -> bytes:
    """The bytes of a request."""
    return "\n".join((f"old {request.old}", *map(encode64, request.proof))).encode() + b"\n\n" + request.checkpoint


def answer(
    body: bytes, logs: Mapping[str, Sequence[VerifierKey]], held: Callable[[str], Held | None], key: SigningKey, time_s: int
) -> WitnessAnswer:
    """What a witness answers at `time_s` (POSIX seconds). `logs` gives the keys of each origin; `key` is the witness's, 0x04.

    400 for what is not a request with a checkpoint, or an old size beyond the new one; 404 for an unknown origin; 403 without
    a good signature of the log; 409 with the size that is held (text/x.tlog.size) when the old size is another one; 409 in
    plain text when the log signed two roots for one size (asking again can't help); 422 for a proof that proves nothing; 200
    with the cosignature.
    """
    try:
        request = parse_request(body)
        text, _ = split_note(request.checkpoint)
        new = parse_checkpoint(text)
    except Malformed as error:
        return _refusal(400, str(error))
    if new.origin not in logs:
        return _refusal(404, "unknown log")
    signatures = _signatures_of(request.checkpoint, logs[new.origin])
    if not signatures:
        return _refusal(403, "invalid signature: none of this log's known keys signed the checkpoint")
    if request.old > new.size:
        return _refusal(400, f"the old size, {request.old}, is beyond the checkpoint's, {new.size}")
    last = held(new.origin) or Held(0, EMPTY_ROOT)
    if request.old != last.size:
        return WitnessAnswer(409, SIZE_TYPE, f"{last.size}\n".encode())
    if new.size == last.size and new.root != last.root:
        return _refusal(409, f"two roots are signed for one size, {new.size}")
    try:
        _check_consistency(last, new, request.proof)
    except Unproven as error:
        return _refusal(422, f"consistency proof: {error}")
    line = cosign(text, key, time_s).line
    return WitnessAnswer(200, TEXT_TYPE, line.encode(), Remember(new.origin, new, format_note(Note(text, signatures))))


def cosignatures(text: str, body: bytes, keys: Sequence[VerifierKey]) -> tuple[Signature, ...]:
    """The lines of a witness's 200 that known keys really signed, for a checkpoint's text. Raises Malformed, Unproven."""
    if len(body) > REPLY_MAX_BYTES:
        raise Malformed(f"reply: {len(body)} bytes are more than {REPLY_MAX_BYTES}")
    lines = check_text(body, "reply").split("\n", REPLY_LINES_MAX + 1)
    if lines.pop() or not 0 < len(lines) <= REPLY_LINES_MAX:
        raise Malformed(f"reply: it is not 1 to {REPLY_LINES_MAX} whole lines of signatures")
    found = tuple(signature_line(line, f"reply, signature {number}") for number, line in enumerate(lines, 1))
    return _known(Note(text, found), keys)


def held_size(body: bytes) -> int:
    """The size in a witness's 409 of type text/x.tlog.size. Raises Malformed."""
    text = check_text(body[:REPLY_MAX_BYTES], "reply")
    if not text.endswith("\n"):
        raise Malformed("reply: the size has no newline")
    return decimal(text.removesuffix("\n"), "reply, size")


def _check_consistency(last: Held, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Raise Unproven unless the new tree begins with the held one. RFC 6962 has no proof from nothing: it must be empty."""
    if last.size:
        check_consistency(last.size, new.size, proof, last.root, new.root)
    elif proof:
        raise Unproven("from size 0 it must be empty")


def _signatures_of(note: bytes, keys: Sequence[VerifierKey]) -> tuple[Signature, ...]:
    """The signatures by these keys; none when one of them is not good, or a line can't be read."""
    try:
        return _known(parse_note(note), keys)
    except Malformed:
        return ()


def _known(note: Note, keys: Sequence[VerifierKey]) -> tuple[Signature, ...]:
    """A note's lines that known keys signed, one a key. Raises Unproven for a known key's line that is not its signature."""
    good = {(each.key.name, each.key.id) for each in verified(note, keys)}
    first: dict[tuple[str, bytes], Signature] = {}
    for line in note.signatures:
        if (line.name, line.key_id) in good:
            first.setdefault((line.name, line.key_id), line)
    return tuple(first.values())


def _refusal(status: int, why: str) -> WitnessAnswer:
    return WitnessAnswer(status, TEXT_TYPE, f"{why}\n".encode(errors="backslashreplace"))
