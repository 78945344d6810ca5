"""`stead ledger key`: by which keys the record is signed, and how to change them."""

from __future__ import annotations

import click

from stead.cli.table import Cell, pairs, paragraph
from stead.cli.verb import Session, examples, options
from stead.cli.words import moment
from stead.model.ledger_messages import LedgerHead, LogKey, RotateKey

KEY = examples(
    ("stead ledger key", "the keys, to compare or to publish"),
    ("stead ledger key --rotate", "a new key, for which the old one signs"),
)


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
    session.show(head.keys, lambda: key_lines(head, rotated=rotate))


def key_lines(head: LedgerHead, *, rotated: bool) -> list[str]:
    """The newest key first: what others need to know, then where its secret is."""
    lines = []
    for one in head.keys:
        lines += [one.vkey, *(f"  {line}" for line in pairs(_facts(one)))]
    if head.witness:
        lines += [head.witness, "  cosigns the ledgers of other hosts (`stead ledger witness`)"]
    if rotated:
        lines += paragraph("Publish the new key where the old one is known, and give it to your witnesses.")
    return lines


def _facts(one: LogKey) -> list[tuple[str, Cell]]:
    state: Cell = ("signs every checkpoint", "good") if one.active else ("signs no more", "dim")
    facts: list[tuple[str, Cell]] = [("since", moment(one.since_ms)), ("state", state)]
    if one.place:
        facts.append(("private key", f"{one.place} ({'sealed to this machine' if one.sealed else 'mode 0600'})"))
    return facts
