"""The ledger for the command line: through the socket while an agent holds the store, else straight from the file.

The one connection to the store is the agent's, so nothing here opens the file beside it: the state's lock is taken first.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stead.cli.verb import Session, say
from stead.model.errors import EXIT_UNREACHABLE, SteadError
from stead.model.ledger_messages import (
    BlobList,
    EntryPage,
    GetBlobs,
    GetCheckpoint,
    GetLeaves,
    GetProof,
    LeafList,
    LedgerHead,
    ProofBundle,
    SearchEntries,
)
from stead.model.record import StoredEntry

if TYPE_CHECKING:
    from stead.ledger.offline import OfflineLedger
    from stead.ledger.source import LedgerSource
    from stead.tlog.policy import TrustPolicy

NOBODY = frozenset(("agent.unreachable", "agent.path-too-long"))


class SocketSource:
    """The ledger of a running agent."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def place(self) -> str:
        """The agent's socket."""
        return self._session.paths.socket

    @property
    def keeps_blobs(self) -> bool:
        """All that was not erased."""
        return True

    def head(self) -> LedgerHead:
        """Ask for the checkpoint, the keys and the policy."""
        return self._session.ask(GetCheckpoint(), LedgerHead)

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        """Ask for entries; the agent gives as many as fit its answer."""
        return self._session.ask(GetLeaves(start, end), LeafList).entries

    def blobs(self, start: int, end: int) -> BlobList:
        """Ask for what is kept beside them."""
        return self._session.ask(GetBlobs(start, end), BlobList)

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """An agent shows no tiles: proofs are what it makes of them."""
        return None

    def find(self, query: SearchEntries) -> EntryPage:
        """Ask for one stretch of a search."""
        return self._session.ask(query, EntryPage)

    def bundle(self, thing: str) -> ProofBundle:
        """Ask for a proof. It is checked before anybody relies on it."""
        return self._session.ask(GetProof(thing), ProofBundle)


@contextlib.contextmanager
def ledger_of(session: Session) -> Iterator[LedgerSource]:
    """The ledger of this call's state. SteadError: there is neither an agent nor a store, or it may not be read."""
    source = SocketSource(session)
    try:
        source.head()
    except SteadError as error:
        if error.problem.code not in NOBODY:
            raise
    else:
        yield source
        return
    with offline(session) as stored:
        yield stored


@contextlib.contextmanager
def offline(session: Session) -> Iterator[LedgerSource]:
    """The store itself, while no agent runs; one that starts meanwhile waits until this is closed."""
    from stead.ledger import refusals
    from stead.ledger.offline import open_offline
    from stead.ledger.stored import StoreSource

    path = Path(session.paths.state) / "ledger.db"
    if not path.exists():
        what = f"no agent answers at {session.paths.socket}, and there is no ledger"
        fix = "start one with `stead up` or `stead agent`, or name its state with --state"
        raise SteadError(what, str(path), fix, code="ledger.none", exit_code=EXIT_UNREACHABLE)
    try:
        ledger = open_offline(path)
    except SteadError as error:
        if error.problem.code != "state.in-use":
            raise
        what, fix = "an agent has this ledger open, but does not answer", "wait until it has started, or end it"
        raise SteadError(what, session.paths.socket, fix, code="agent.silent", exit_code=EXIT_UNREACHABLE) from None
    except (TypeError, ValueError) as error:  # SQLite takes any type in any column
        raise refusals.malformed(str(error), str(path)) from None
    with ledger:
        yield StoreSource(ledger, functools.cache(lambda: _witnesses(session, ledger)))


def _witnesses(session: Session, ledger: OfflineLedger) -> TrustPolicy:
    """The witnesses that the configuration of this host names. SteadError: it, or the policy that it names, can't be read.

    An agent may have been given another configuration: a proof would then say nothing of witnesses, and nobody would notice.
    """
    from stead.config import load_config
    from stead.ledger.stored import COSIGNED, read_witnesses

    policy = read_witnesses(load_config(state_dir=session.state)[0].ledger.policy)
    if not policy.witnesses and ledger.kept_checkpoint(*COSIGNED):
        what = "witnesses have cosigned this ledger, and the configuration that is read here names none"
        say(f"stead: {what}: if the agent has another (--config), name it by STEAD_CONFIG=FILE", err=True)
    return policy


def every(source: LedgerSource, query: SearchEntries) -> Iterator[StoredEntry]:
    """All entries that a query finds, newest first, however many answers that takes."""
    import msgspec

    left = query.limit
    while left > 0:
        page = source.find(msgspec.structs.replace(query, limit=left))
        yield from page.entries
        left -= len(page.entries)
        if not page.more:
            return
        query = msgspec.structs.replace(query, before=page.more)
