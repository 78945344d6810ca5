"""`stead ledger key`: by which keys the record is signed, and how to change them."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from stead.cli.table import Cell, pairs, paragraph
from stead.cli.verb import Session, examples, options
from stead.cli.words import moment
from stead.model.ledger_messages import LedgerHead, LogKey, RotateKey

KEY = examples(
    ("stead ledger key", "the keys, to compare or to publish"),
    ("stead ledger key --rotate", "a new key, for which the old one signs"),
)


class Keys(msgspec.Struct, frozen=True):
    """The keys of the log, the newest first, and the one by which this host cosigns others' logs (empty: none yet)."""

    keys: tuple[LogKey, ...]
    witness: str


@click.command(epilog=KEY, short_help="Show the signing keys, or change the key.")
@click.option("--rotate", is_flag=True, help="Make a new key. The old one signs for it, and beside it for 30 days.")
@options
def key(session: Session, rotate: bool) -> None:
    """Print the verifier keys of the ledger, since when each signs, and where its private half lies."""
    from stead.cli.ledger_source import ledger_of

    if rotate:
        head = session.ask(RotateKey(), LedgerHead)
    else:
        with ledger_of(session) as source:
            head = source.head()
    session.show(Keys(head.keys, head.witness), lambda: key_lines(head, rotated=rotate))


def key_lines(head: LedgerHead, *, rotated: bool) -> list[str]:
    """The newest key first: what others need to know, then where its secret is."""
    lines = []
    for number, one in enumerate(head.keys):
        lines += [one.vkey, *(f"  {line}" for line in pairs(_facts(one, newest=not number)))]
    if head.witness:
        lines += [head.witness, "  by it this host cosigns the ledgers of others (docs/witness.md)"]
    if rotated:
        lines += paragraph("Publish the new key where the old one is known, and give it to your witnesses.")
    return lines


def _facts(one: LogKey, *, newest: bool) -> list[tuple[str, Cell]]:
    state: Cell = ("signs no more", "dim")
    if one.active:
        state = ("signs every checkpoint", "good") if newest else "still signs beside the newer key (`ledger.key_overlap_days`)"
    facts: list[tuple[str, Cell]] = [("since", moment(one.since_ms)), ("state", state)]
    if one.place:
        how: Cell = f"{one.place} ({'sealed to this machine' if one.sealed else 'mode 0600'})"
        missing = f"{one.place} is not there: bring keys/ back from a backup, or the agent can't start again"
        facts.append(("private key", (missing, "warning") if _gone(one.place) else how))
    return facts


def _gone(place: str) -> bool:
    """Is it seen to be missing? What may not be looked at is not."""
    try:
        Path(place).stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False
