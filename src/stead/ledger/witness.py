"""A log and its witnesses: what is handed in, what their answers mean, and when they stop the log. Values to values.

A witness that is ahead, holds another tree of the same size, or can't be led from its checkpoint to ours, is not a failed
request: it says that this state is not the one that signed before. The log must sign nothing more then.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from stead.ledger import refusals
from stead.model.errors import SteadError
from stead.tlog.keys import VerifierKey
from stead.tlog.note import Note, Signature, format_note, parse_note, verified
from stead.tlog.policy import TrustPolicy, WitnessLine, satisfied
from stead.tlog.strict import Malformed, shown
from stead.tlog.witness import SIZE_TYPE, cosignatures, held_size

CHILD: Final = Path(__file__).with_name("submit.py")  # the program that hands checkpoints in
SUBMISSION: Final = "/add-checkpoint"
WORDS_MAX: Final = 200
Verdict = Literal["cosigned", "stale", "ahead", "forked", "rewritten", "refused", "unknown"]
STOPS: Final = frozenset(("ahead", "forked", "rewritten"))


class Reply(msgspec.Struct, frozen=True):
    """What came back from one witness over HTTP. `status` 0: nothing did, and `error` says why."""

    status: int
    content_type: str = ""
    body: bytes = b""
    error: str = ""


class Heard(msgspec.Struct, frozen=True):
    """What a reply means. `size`: of the checkpoint that the witness holds, where it said so."""

    verdict: Verdict
    detail: str = ""
    size: int | None = None
    signatures: tuple[Signature, ...] = ()


def submission_url(witness: WitnessLine) -> str:
    """Where its add-checkpoint is: the policy names the submission prefix."""
    return witness.url.rstrip("/") + SUBMISSION


def reached(policy: TrustPolicy) -> tuple[WitnessLine, ...]:
    """The witnesses that can be asked: those with an address."""
    return tuple(witness for witness in policy.witnesses if witness.url)


def hear(witness: WitnessLine, text: str, size: int, old: int, reply: Reply) -> Heard:
    """What a witness's reply to our checkpoint (`text`, of `size` entries, proven from `old`) means."""
    if reply.status == 0:
        return Heard("unknown", plain(reply.error))
    if reply.status == 200:
        try:
            lines = cosignatures(text, reply.body, [witness.cosigner])
        except Malformed as error:
            return Heard("refused", f"its cosignature is not good: {error}")
        if not lines:
            return Heard("refused", "it answered without a cosignature by the key that the policy names")
        return Heard("cosigned", "", size, lines)
    if reply.status == 409:
        return _conflict(size, old, reply)
    if reply.status == 422 and old:
        return Heard("rewritten", _words(reply), old)
    if reply.status == 404:
        return Heard("refused", "it does not know this log: give its operator the vkey of `stead ledger key`")
    if reply.status == 403:
        return Heard("refused", "it knows this log by another key: give its operator the vkey of `stead ledger key`")
    return Heard("unknown", f"it answered {reply.status}: {_words(reply)}")


def _conflict(size: int, old: int, reply: Reply) -> Heard:
    """409: a size says that it holds another checkpoint than `old`; without one, that it holds another tree of our size."""
    if reply.content_type.partition(";")[0].strip() != SIZE_TYPE:
        if old == size:
            return Heard("forked", _words(reply), size)
        return Heard("unknown", f"it answered 409 without a size: {_words(reply)}")
    try:
        held = held_size(reply.body)
    except Malformed as error:
        return Heard("unknown", str(error))
    if held > size:
        return Heard("ahead", "", held)
    if held == old == size:  # other witnesses say their size also when the roots differ
        return Heard("forked", "", held)
    return Heard("stale", "", held)


def plain(text: str) -> str:
    """A stranger's words for a log, a status or an error: cut, and without what can't be seen."""
    cut = text if len(text) <= WORDS_MAX else f"{text[:WORDS_MAX]}…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


def _words(reply: Reply) -> str:
    return shown(reply.body[:200].decode(errors="replace").strip())


def stop(witness: WitnessLine, heard: Heard, size: int, origin: str, own_prefix: bool) -> SteadError:
    """The error that keeps the log from signing. `own_prefix`: our own earlier checkpoints are beginnings of this tree."""
    who = f"the witness {witness.name}"
    held = heard.size or 0
    if heard.verdict == "ahead":
        return refusals.rolled_back(f"a checkpoint that {who} holds", held, size, origin)
    if heard.verdict == "forked" or own_prefix:
        return refusals.forked(who, held, origin)
    return refusals.rewritten(f"a checkpoint that {who} holds", held, origin)


def cosigned_note(note: bytes, kept: bytes | None, signatures: Sequence[Signature]) -> bytes:
    """Our note with cosignatures: those just heard, and those kept for the same text by other cosigners."""
    ours = parse_note(note)
    lines = {(line.name, line.key_id): line for line in ours.signatures}
    if kept is not None and (before := parse_note(kept)).text == ours.text:
        lines = {(line.name, line.key_id): line for line in before.signatures} | lines
    lines |= {(line.name, line.key_id): line for line in signatures}
    return format_note(Note(ours.text, tuple(lines.values())))


def cosigners(note: bytes, policy: TrustPolicy) -> set[str]:
    """The names of the policy's witnesses whose cosignatures a note carries."""
    found = {each.key for each in verified(parse_note(note), tuple({witness.cosigner for witness in policy.witnesses}))}
    return {witness.name for witness in policy.witnesses if witness.cosigner in found}


def better(new: bytes, kept: bytes | None, policy: TrustPolicy) -> bool:
    """Is the new cosigned note the one to keep? Not if it lacks the quorum that the kept one has: its next one may have it."""
    return kept is None or satisfied(policy, cosigners(new, policy)) or not satisfied(policy, cosigners(kept, policy))


def keys_by_origin(keys: Sequence[VerifierKey]) -> dict[str, tuple[VerifierKey, ...]]:
    """The logs that a witness knows: origin → keys. A log's key is named as its origin."""
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for key in keys:
        found[key.name] = (*found.get(key.name, ()), key)
    return found
