"""Has this host's checkpoints cosigned by its witnesses, and stops the ledger when one of them knows better.

The newest durable checkpoint is handed in before anything is recorded at start, then whenever it moved, every few minutes.
HTTP is another process's work (`stead.ledger.submit`), because an agent holds no TLS library; one process asks all
witnesses at once. A witness that can't be reached is unknown, and never in the way of the road.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from stead.ledger import tables, witness
from stead.ledger.connect import Connection
from stead.ledger.standing import Standing, remedied
from stead.ledger.store import LedgerStore
from stead.ledger.witness import Heard, Reply
from stead.model.config import LedgerConfig
from stead.model.errors import EXIT_UNREACHABLE, SteadError
from stead.model.messages import Station
from stead.model.witness_messages import WitnessList, WitnessView
from stead.protocols import Clock, Host
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.note import parse_note
from stead.tlog.policy import TrustPolicy, WitnessLine, satisfied
from stead.tlog.witness import AddCheckpoint, format_request

ROLE: Final = "cosigned"
UNWITNESSED: Final = "ledger.unwitnessed"
BEST: Final = ""  # under this name: the newest checkpoint with the policy's quorum
ROUNDS: Final = 2  # a witness that holds another size than we thought says which, and is asked again
SPARE_S: Final = 3.0  # beyond the child's own limit
START_S: Final = 3.0
SILENT_S: Final = 60.0  # between two tries while a witness is silent: it may know better
WAITING_S: Final = 15.0  # between two tries when nothing may be recorded before a witness answered
JITTER: Final = 0.1  # of the interval, either way
OUTPUT_MAX: Final = 1 << 22


class Answered(msgspec.Struct, frozen=True):
    """One witness's newest answer."""

    heard: Heard
    at_ms: int


class Witnesses:
    """The witnesses of one ledger. Without a policy there are none, and nothing here does anything."""

    def __init__(
        self,
        policy: TrustPolicy | None,
        config: LedgerConfig,
        store: LedgerStore,
        kept: Standing,
        host: Host,
        clock: Clock,
        log: Any,
    ) -> None:
        self.policy, self.config = policy, config
        self.asked: Sequence[WitnessLine] = witness.reached(policy) if policy else ()
        self._store, self._kept, self._host, self._clock, self._log = store, kept, host, clock, log
        self._answers: dict[str, Answered] = {}
        self._failure = ""
        self._told: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Ask before anything is recorded: what was put back from a backup must sign nothing. Waits a few seconds at most."""
        if not self.asked or self._store.stopped is not None:
            return
        await self._safely(min(START_S, self.config.witness_timeout_s))
        if self.config.require_witness_at_start and self._store.stopped is None and not self._any("cosigned"):
            self._store.stop(_unwitnessed(self._words()), remembers=True)  # else two that wait for each other wait for ever

    async def run(self) -> None:
        """Hand in what moved, every interval, until cancelled."""
        while self.asked:
            waits = self._waits()
            soon_s = WAITING_S if waits else SILENT_S if self._silent() else float("inf")
            interval_s = min(self.config.witness_interval_s, soon_s)
            await asyncio.sleep(interval_s * (1 + JITTER * (os.urandom(1)[0] / 127.5 - 1)))  # a fleet does not ask all at once
            if waits or self._due():
                await self._safely(self.config.witness_timeout_s)
            if self._waits() and self._any("cosigned"):
                self._store.go_on()

    async def submit(self) -> WitnessList:
        """Hand in the newest checkpoint now, and say what came of it. SteadError: there are no witnesses, or none answered."""
        if not self.asked:
            fix = "name a tlog-policy file with witnesses and their addresses in ledger.policy"
            raise SteadError("this ledger has no witnesses", "ledger.policy", fix, code="witness.none")
        await self._submit(self.config.witness_timeout_s)
        if not self._any("cosigned", "refused", *witness.STOPS):
            fix = "see that their addresses in the policy are right, and that they run"
            raise SteadError(
                f"no witness answered: {self._words()}", "ledger.policy", fix, code="witness.silent", exit_code=EXIT_UNREACHABLE
            )
        return self.view()

    # -- for people -------------------------------------------------------------------------------------------------

    def view(self) -> WitnessList:
        """Every witness as it answered last."""
        best = self._store.kept_checkpoint(ROLE, BEST)
        quorum = best is not None and self.policy is not None and satisfied(self.policy, witness.cosigners(best[1], self.policy))
        views = tuple(self._view(one) for one in (self.policy.witnesses if self.policy else ()))
        stopped = self._store.stopped.problem if self._store.stopped else None
        return WitnessList(self._store.origin, self._store.size, best[0] if best else None, quorum, views, stopped=stopped)

    def stations(self) -> tuple[Station, ...]:
        """A station a witness: unknown while it is silent, unhealthy when it does not cosign."""
        return tuple(Station(f"witness {view.name}", view.ok, view.detail) for view in map(self._view, self.asked))

    def _view(self, one: WitnessLine) -> WitnessView:
        kept = self._store.kept_checkpoint(ROLE, one.key.text)
        size = kept[0] if kept else None
        answered = self._answers.get(one.key.text)
        if not one.url:
            return WitnessView(one.name, "", None, "the policy names no address for it", size)
        if answered is None:
            return WitnessView(one.name, one.url, None, self._failure or "not asked yet", size)
        heard = answered.heard
        ok = True if heard.verdict == "cosigned" else None if heard.verdict in ("unknown", "stale") else False
        return WitnessView(one.name, one.url, ok, _said(heard), size, answered.at_ms)

    def _words(self) -> str:
        return "; ".join(f"{view.name}: {view.detail}" for view in map(self._view, self.asked))

    def _any(self, *verdicts: str) -> bool:
        return any(one.heard.verdict in verdicts for one in self._answers.values())

    def _waits(self) -> bool:
        """May nothing be recorded before a witness has cosigned?"""
        return self._store.stopped is not None and self._store.stopped.problem.code == UNWITNESSED

    def _silent(self) -> bool:
        """Is there a witness that has not answered, or not the last time?"""
        return any(one.key.text not in self._answers for one in self.asked) or self._any("unknown", "stale")

    # -- the conversation -------------------------------------------------------------------------------------------

    def _due(self) -> bool:
        """Has the checkpoint moved since all of them cosigned it, or does one owe an answer?"""
        if self._store.stopped is not None:
            return False
        return self._silent() or any(self._known(one) < self._store.size for one in self.asked)

    async def _safely(self, timeout_s: float) -> None:
        try:
            await self._submit(timeout_s)
        except SteadError as error:
            self._note_failure(str(error))
        except Exception as error:  # a defect here must not end the agent, nor look healthy
            self._note_failure(f"{type(error).__name__}: {error}")

    def _note_failure(self, why: str) -> None:
        if why != self._failure:
            self._log.error("the checkpoint could not be handed in", why=why)
        self._failure = why

    async def _submit(self, timeout_s: float) -> None:
        async with self._lock:
            note = self._store.checkpoint
            text = parse_note(note).text
            head = parse_checkpoint(text)
            old = {one.key.text: min(self._known(one), head.size) for one in self.asked}
            waiting = list(self.asked)
            for _ in range(ROUNDS):
                heard = await self._ask(waiting, note, text, head, old, timeout_s)
                waiting = [one for one in waiting if heard[one.key.text].verdict == "stale"]
                old |= {one.key.text: heard[one.key.text].size or 0 for one in waiting}
                self._take(heard)
                if not waiting:
                    break
            self._judge(head)
            await self._keep(note)
            self._failure = ""

    def _known(self, one: WitnessLine) -> int:
        kept = self._store.kept_checkpoint(ROLE, one.key.text)
        return kept[0] if kept else 0

    async def _ask(
        self, waiting: Sequence[WitnessLine], note: bytes, text: str, head: Checkpoint, old: Mapping[str, int], timeout_s: float
    ) -> dict[str, Heard]:
        """One round: one process asks all of them."""
        requests = [self._request(one, note, head.size, old[one.key.text]) for one in waiting]
        given = msgspec.json.encode({"timeout_s": timeout_s, "requests": requests})
        argv = [sys.executable, "-I", "-S", str(witness.CHILD)]
        done = await self._host.run(argv, timeout_s + SPARE_S, given, OUTPUT_MAX)
        try:
            replies = [_reply(one) for one in msgspec.json.decode(done.out, type=list[dict[str, Any]])]
        except (msgspec.MsgspecError, ValueError, KeyError):
            why = "it took too long" if done.rc is None else done.err.strip().rpartition("\n")[2] or f"it ended with {done.rc}"
            raise SteadError(
                "the process that asks witnesses failed", witness.plain(why), "see stead.log", code="witness.process"
            ) from None
        return {
            one.key.text: witness.hear(one, text, head.size, old[one.key.text], reply)
            for one, reply in zip(waiting, replies, strict=True)
        }

    def _request(self, one: WitnessLine, note: bytes, size: int, old: int) -> dict[str, str]:
        proof = self._store.consistency(old, size) if 0 < old < size else []
        body = format_request(AddCheckpoint(old, tuple(proof), note)).decode()
        return {"url": witness.submission_url(one), "body": body}

    def _take(self, heard: Mapping[str, Heard]) -> None:
        now_ms = self._clock.now().unix_ms
        for one in self.asked:
            if one.key.text not in heard:
                continue
            said = heard[one.key.text]
            self._answers[one.key.text] = Answered(said, now_ms)
            words = f"{said.verdict} {said.detail}"
            if self._told.get(one.name) != words and said.verdict != "stale":
                self._log.info("a witness answered", witness=one.name, verdict=said.verdict, size=said.size, why=said.detail)
                self._told[one.name] = words

    def _judge(self, head: Checkpoint) -> None:
        """A witness that knows better ends the signing, here and over a restart."""
        for one in self.asked:
            answered = self._answers.get(one.key.text)
            if answered is None or answered.heard.verdict not in witness.STOPS:
                continue
            if self._store.stopped is not None and not self._waits():
                return
            error = remedied(witness.stop(one, answered.heard, head.size, head.origin, self._continues(one)))
            self._store.stop(error)
            self._log.error("the ledger signs nothing more", why=str(error), code=error.problem.code)
            try:
                self._kept.stop(error, self._store, answered.heard.size or 0, one.key)
            except OSError as failed:
                self._log.error("this could not be kept over a restart", why=str(failed))

    def _continues(self, one: WitnessLine) -> bool:
        """Does our tree go on from the checkpoint of ours that this witness cosigned? Then two copies of it ran apart."""
        kept = self._store.kept_checkpoint(ROLE, one.key.text)
        if kept is None or kept[0] > self._store.size:
            return False
        return self._store.root_at(kept[0]) == parse_checkpoint(parse_note(kept[1]).text).root

    async def _keep(self, note: bytes) -> None:
        """Keep the cosigned checkpoint, durably: what each witness cosigned last, and the best of all."""
        size = parse_checkpoint(parse_note(note).text).size
        cosigned = {key: one.heard.signatures for key, one in self._answers.items() if one.heard.signatures}
        current = {key: lines for key, lines in cosigned.items() if self._answers[key].heard.size == size}
        if not current or self.policy is None or self._store.stopped is not None:
            return
        best = self._store.kept_checkpoint(ROLE, BEST)
        joint = witness.cosigned_note(note, best[1] if best else None, [line for lines in current.values() for line in lines])
        rows = {key: witness.cosigned_note(note, None, lines) for key, lines in current.items()}
        if witness.better(joint, best[1] if best else None, self.policy):
            rows[BEST] = joint
        await self._store.commit([], work=lambda db: _put(db, rows, size))


def _put(db: Connection, rows: Mapping[str, bytes], size: int) -> None:
    for name, note in rows.items():
        tables.put_checkpoint(db, ROLE, name, size, note)


def _reply(given: dict[str, Any]) -> Reply:
    return Reply(int(given["status"]), str(given["content_type"]), base64.b64decode(given["body"]), str(given["error"]))


def _said(heard: Heard) -> str:
    words = {
        "ahead": f"it holds a checkpoint of {heard.size} entries, which this ledger does not have",
        "forked": f"it holds another ledger of {heard.size} entries",
        "rewritten": f"what it cosigned with {heard.size} entries is not the beginning of this ledger",
        "stale": "its size changed while it was asked",
    }
    return words.get(heard.verdict, heard.detail)


def _unwitnessed(why: str) -> SteadError:
    fix = "it goes on by itself when a witness has; or set ledger.require_witness_at_start to false"
    return SteadError(f"no witness has cosigned since the start ({why})", "ledger.policy", fix, code=UNWITNESSED)
