"""One target per parser. A target lets only the declared error through, and holds what was read to its own bytes.

Each reads the bytes, and where that succeeds also does what a program would do next with what it read (verify, answer,
format), because that is where a parser that accepted too much does harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from stead.ledger.strict_leaf import about, heads_of, unfit
from stead.tlog.checkpoint import parse_checkpoint
from stead.tlog.keys import parse_signing_key, parse_vkey
from stead.tlog.note import format_note, parse_note, verified
from stead.tlog.policy import check_checkpoint, format_policy, parse_policy, satisfied
from stead.tlog.proof import format_proof, parse_proof, prove
from stead.tlog.strict import Malformed
from stead.tlog.tiles import bundle, unbundle
from stead.tlog.witness import AddCheckpoint, Held, answer, cosignatures, format_request, held_size, parse_request
from tests.tlog import logs, rfc6962

STATUSES = frozenset((200, 400, 403, 404, 409, 422))
_KEYS = [logs.LOG.verifier, *(key.verifier for key in logs.WITNESSES)]
_POLICY = logs.policy()
_HELD = Held(6, logs.checkpoint(6).root)


class Target(NamedTuple):
    """What is called with bytes, and valid inputs from which mutation starts."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def note(data: bytes) -> None:
    """A signed note, and what a policy makes of it."""
    read = parse_note(data)
    assert format_note(read) == data
    verified(read, _KEYS)
    check_checkpoint(read, _POLICY)


def checkpoint(data: bytes) -> None:
    """The text of a checkpoint."""
    text = data.decode(errors="replace")
    assert parse_checkpoint(text).text == text


def proof(data: bytes) -> None:
    """A proof file."""
    read = parse_proof(data)
    assert format_proof(read) == data
    prove(logs.LEAVES[read.index % len(logs.LEAVES)], read, _POLICY)


def policy(data: bytes) -> None:
    """A trust policy. Its comments and spaces are not kept, so it is the value that must survive."""
    read = parse_policy(data)
    assert parse_policy(format_policy(read)) == read
    assert satisfied(read, set()) == (read.quorum == "none")
    satisfied(read, {witness.name for witness in read.witnesses})


def key(data: bytes) -> None:
    """A public or private key in text."""
    text = data.decode(errors="surrogateescape")
    if text.startswith("PRIVATE+KEY+"):
        assert parse_signing_key(text).text == text
    else:
        assert parse_vkey(parse_vkey(text).text) == parse_vkey(text)


def request(data: bytes) -> None:
    """A witness's request and the whole answer to it, which is a status whatever came."""
    reply = answer(data, {logs.ORIGIN: [logs.LOG.verifier]}, lambda _: _HELD, logs.WITNESSES[0], logs.TIME_S)
    assert reply.status in STATUSES
    assert (reply.status == 200) == (reply.remember is not None)
    assert format_request(parse_request(data)) == data


def reply(data: bytes) -> None:
    """What a witness answered: cosignatures, or a size."""
    if data[:1].isdigit():
        assert f"{held_size(data)}\n".encode() == data
    else:
        cosignatures(logs.checkpoint().text, data, _KEYS)


def entries(data: bytes) -> None:
    """A bundle of entries (tlog-tiles)."""
    assert bundle(unbundle(data)) == data


def leaf(data: bytes) -> None:
    """A leaf's JSON, as a verifier reads it: a verdict in words, never an exception; its head raises ValueError alone."""
    assert isinstance(unfit(data), str)
    assert isinstance(about(data), str)
    try:
        heads_of((data,))
    except ValueError as error:
        raise Malformed(str(error)) from None


def _note_seeds() -> tuple[bytes, ...]:
    return tuple(format_note(logs.signed(logs.checkpoint(), logs.WITNESSES[:count])) for count in (2, 3))


def _request_seeds() -> tuple[bytes, ...]:
    proof = tuple(rfc6962.proof(6, logs.LEAVES))
    return tuple(format_request(AddCheckpoint(6, proof, each)) for each in _note_seeds())


_ENTRY = (
    b'{"actor":{"id":"a","kind":"agent"},"body":{"about":"x","n":[1,-2,null]},"host":"h","id":"1","ts":"t","type":"a.b","v":1}'
)

TARGETS = {
    "note": Target(note, _note_seeds()),
    "checkpoint": Target(checkpoint, (logs.checkpoint().text.encode(), (logs.checkpoint().text + "extension\n").encode())),
    "proof": Target(proof, (format_proof(logs.proven()), format_proof(msgspec.structs.replace(logs.proven(), extra=b"extra")))),
    "policy": Target(policy, (format_policy(_POLICY), b"# comment\n" + format_policy(logs.policy(0)).replace(b" ", b"\t "))),
    "key": Target(key, (logs.LOG.verifier.text.encode(), logs.LOG.text.encode())),
    "request": Target(request, _request_seeds()),
    "reply": Target(reply, (logs.signed(logs.checkpoint(), logs.WITNESSES).signatures[1].line.encode(), b"20852014\n")),
    "entries": Target(entries, (bundle(logs.LEAVES), bundle([b"", b"x" * 300]))),
    "leaf": Target(leaf, (_ENTRY, _ENTRY.replace(b"[1,-2,null]", b"[" * 40 + b"]" * 40))),
}
