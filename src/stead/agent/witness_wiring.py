"""Both sides of witnessing, put together for one agent: who cosigns this host's ledger, and whose ledgers it cosigns."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from stead.agent.witness import Witnesses
from stead.agent.witness_door import WitnessDoor
from stead.flow.record import Stamp
from stead.ledger.standing import Standing
from stead.ledger.store import LedgerStore
from stead.ledger.stored import read_witnesses
from stead.ledger.witness import keys_by_origin
from stead.ledger.witness_store import witness_key
from stead.model import messages as m
from stead.model import witness_messages as w
from stead.model.config import Config, WitnessConfig
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.policy import Actor
from stead.protocols import Clock, Host
from stead.tlog.keys import VerifierKey, parse_vkey
from stead.tlog.strict import Malformed


class Vouching:
    """What the agent knows of witnesses. A ledger that is not the one that signed last is stopped when this is made."""

    def __init__(
        self, config: Config, store: LedgerStore, host: Host, clock: Clock, log: Any, name: str, new_id: Callable[[], str]
    ) -> None:
        policy = read_witnesses(config.ledger.policy) if config.ledger.policy else None
        logs = known_logs(config.witness)
        self.standing = Standing(store.path.parent)
        self.witnesses = Witnesses(policy, config.ledger, store, self.standing, host, clock, log)
        key = witness_key(store.key_files, name, os.urandom(32))
        self.door = WitnessDoor(store, keys_by_origin(logs), key, lambda: Stamp(name, clock.now(), new_id), clock, log)
        trusted = [one.key.text for one in policy.witnesses] if policy else []
        problem = self.standing.check(store, [parse_vkey(text) for text in store.vkeys()], trusted)
        if problem is not None:
            store.stop(problem)
            log.error("the ledger records nothing", why=str(problem), code=problem.problem.code)
        store.after_commit = self.standing.keep

    def stations(self) -> tuple[m.Station, ...]:
        """A station for each witness, and one for each log that was refused."""
        return (*self.witnesses.stations(), *self.door.stations())

    def table(self) -> dict[type[Any], Callable[[Any, Actor], Awaitable[m.ReplyBody]]]:
        """Request type → method, as in `stead.agent.answers`."""
        return {w.AddCheckpoint: self._add_checkpoint, w.GetWitnesses: self._witnesses}

    async def _add_checkpoint(self, body: w.AddCheckpoint, _: Actor) -> m.ReplyBody:
        return await self.door.answer(body.body)

    async def _witnesses(self, body: w.GetWitnesses, _: Actor) -> m.ReplyBody:
        view = await self.witnesses.submit() if body.submit else self.witnesses.view()
        return msgspec.structs.replace(view, vkey=self.door.cosigner.key.verifier.text, logs=self.door.view())


def known_logs(config: WitnessConfig) -> Sequence[VerifierKey]:
    """The keys of the logs that this host cosigns. SteadError `config.witness`: a vkey or the policy can't be read."""
    found = [log.key for log in read_witnesses(config.policy).logs] if config.policy else []
    for number, text in enumerate(config.logs):
        try:
            found.append(parse_vkey(text.strip()))
        except Malformed as error:
            fix = "give the vkey as `stead ledger key` prints it on that host"
            raise SteadError(str(error), f"witness.logs[{number}]", fix, code="config.witness", exit_code=EXIT_USAGE) from None
    return list(dict.fromkeys(found))
