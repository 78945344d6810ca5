"""Is this state the one that signed last? Two small files beside the database say so, also without any witness.

`ledger.checkpoint` is the newest checkpoint, written after it was durable, at most once a second and not synced: it is never
ahead of the database it belongs to, so one that is ahead means that the database alone was put back. `ledger.stopped` is what
a witness said that ended the signing: an agent that starts again while the witness is away must not have forgotten it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from stead.ledger import durable, refusals
from stead.model.errors import Problem, SteadError
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import VerifierKey
from stead.tlog.note import parse_note, verified
from stead.tlog.strict import Malformed, encode64

KEPT: Final = "ledger.checkpoint"
STOPPED: Final = "ledger.stopped"
KEEP_S: Final = 1.0
_MODE: Final = 0o600
_RENEW: Final = "begin a new log that says what happened: `stead ledger renew --reason …`"
REMEDIES: Final = {
    "ledger.rolled-back": f"stop the agent and bring the newer ledger.db back; if it is lost, {_RENEW}",
    "ledger.forked": f"keep a copy of this state, for it is evidence; end the other copy of it, and {_RENEW}",
    "ledger.rewritten": f"keep a copy of this state, for it is evidence; bring the true ledger.db back, or {_RENEW}",
}


class Log(Protocol):
    """What is asked of a ledger here."""

    @property
    def origin(self) -> str:
        """The log's name."""
        ...

    @property
    def size(self) -> int:
        """How many entries it signed for."""
        ...

    def root_at(self, size: int) -> bytes:
        """The root when there were so many."""
        ...


class Stopped(msgspec.Struct, frozen=True):
    """Why the log stopped, and what it was then: `size` and `root` are ours, `held` is the size that the witness holds."""

    problem: Problem
    origin: str
    size: int
    root: str
    held: int
    witness: str  # its vkey

    def still(self, log: Log, witnesses: Sequence[str]) -> bool:
        """Does it hold for this log? Not once the log is another, was mended, or trusts that witness no more."""
        if self.origin != log.origin or self.witness not in witnesses:
            return False
        if self.problem.code == "ledger.rolled-back":
            return log.size < self.held
        return log.size >= self.size and encode64(log.root_at(self.size)) == self.root


def compare(kept: Checkpoint, place: str, log: Log) -> SteadError | None:
    """What a checkpoint that this host kept says against its ledger; None when the ledger continues it.

    Names: `ledger.rolled-back`, `ledger.forked`, `ledger.rewritten`.
    """
    if kept.origin != log.origin:
        ours, theirs = generation(log.origin), generation(kept.origin)
        older = ours[0] == theirs[0] and ours[1] < theirs[1]
        return remedied(refusals.rolled_back(place, kept.size, log.size, log.origin)) if older else None
    if kept.size > log.size:
        return remedied(refusals.rolled_back(place, kept.size, log.size, log.origin))
    if log.root_at(kept.size) == kept.root:
        return None
    refuse = refusals.forked if kept.size == log.size else refusals.rewritten
    return remedied(refuse(place, kept.size, log.origin))


def generation(origin: str) -> tuple[str, int]:
    """A log's name without its number, and its number: 1 for the first log of a host, 2 after the first renewal."""
    name, _, number = origin.rpartition("/")
    return (name, int(number)) if number.isascii() and number.isdigit() else (origin, 1)


def remedied(error: SteadError) -> SteadError:
    """The same refusal with what to do on the host whose ledger it is."""
    fix = REMEDIES.get(error.problem.code, error.problem.fix)
    return SteadError.of(msgspec.structs.replace(error.problem, fix=fix))


class Standing:
    """The two files of one state directory."""

    def __init__(self, state: Path, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.kept, self.stopped = state / KEPT, state / STOPPED
        self._monotonic_s = monotonic_s
        self._due_s = 0.0
        self._waits: bytes | None = None

    def keep(self, note: bytes) -> None:
        """A newer checkpoint is durable. Called after each commit, on the writer's thread; what fails is tried at the next."""
        self._waits = note
        if self._monotonic_s() >= self._due_s:
            self._due_s = self._monotonic_s() + KEEP_S
            self.settle()

    def settle(self) -> None:
        """Write what waits: at the end of the process."""
        if self._waits is not None:
            with contextlib.suppress(OSError):
                durable.put(self.kept, self._waits, _MODE)
                self._waits = None

    def check(self, log: Log, keys: Sequence[VerifierKey], witnesses: Sequence[str]) -> SteadError | None:
        """What these files say against the ledger as it is now. `keys` are the log's own, `witnesses` the vkeys of the policy."""
        stopped = self.why_stopped()
        if stopped is not None and stopped.still(log, witnesses):
            return SteadError.of(stopped.problem)
        kept = self.last()
        if kept is None or (kept.origin == log.origin and not self._is_ours(keys)):
            return None
        return compare(kept, str(self.kept), log)

    def last(self) -> Checkpoint | None:
        """The checkpoint that was kept; None where there is none, or what is there is none."""
        try:
            return parse_checkpoint(parse_note(self.kept.read_bytes()).text)
        except (OSError, Malformed):
            return None

    def kept_text(self) -> str:
        """The note that was kept, as it lies there; empty where there is none."""
        try:
            return self.kept.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            return ""

    def why_stopped(self) -> Stopped | None:
        """What a witness said; None where none stopped this log."""
        try:
            return msgspec.json.decode(self.stopped.read_bytes(), type=Stopped)
        except (OSError, msgspec.MsgspecError):
            return None

    def stop(self, error: SteadError, log: Log, held: int, witness: VerifierKey) -> None:
        """Remember over a restart that a witness stopped this log. Raises OSError."""
        root = encode64(log.root_at(log.size))
        durable.put(
            self.stopped,
            msgspec.json.encode(Stopped(error.problem, log.origin, log.size, root, held, witness.text)),
            _MODE,
        )
        durable.settle([self.stopped])

    def renewed(self, note: bytes) -> None:
        """A new log began: its checkpoint is the one to keep, and nothing is held against it. Raises OSError."""
        durable.put(self.kept, note, _MODE)
        self.stopped.unlink(missing_ok=True)
        durable.settle([self.kept])

    def _is_ours(self, keys: Sequence[VerifierKey]) -> bool:
        """Did the log sign what is kept? What it did not sign says nothing about it."""
        with contextlib.suppress(OSError, Malformed):
            return bool(verified(parse_note(self.kept.read_bytes()), keys))
        return False
