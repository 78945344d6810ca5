"""`stead ledger tail`: the newest entries of the record."""

from __future__ import annotations

import time

import click

from stead.cli.table import printable, table
from stead.cli.verb import Session, as_json, examples, options
from stead.cli.words import moment
from stead.model.messages import EntryList, EntryView, ListEntries

TAIL = examples(
    ("stead ledger tail", "the newest twenty entries"),
    ("stead ledger tail --subject 0192f0c1", "those about one run or finding"),
    ("stead ledger tail -f", "follow"),
)
GROUP = examples(
    ("stead ledger tail", "the newest entries"),
)
FOLLOW_S = 1.0


@click.group(epilog=GROUP)
def ledger() -> None:
    """Read the record of every change."""


@ledger.command(epilog=TAIL)
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="So many entries.")
@click.option("--subject", default="", help="Only entries about this run, finding or target.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries until Ctrl-C.")
@options
def tail(session: Session, limit: int, subject: str, follow: bool) -> None:
    """Show the newest entries: what happened, to what, when. `-o json` gives each leaf as recorded."""
    answer = session.ask(ListEntries(limit, subject), EntryList)
    shown = sorted(answer.entries, key=lambda entry: entry.seq)
    session.show(EntryList(tuple(shown)), lambda: entry_lines(shown))
    seen = shown[-1].seq if shown else -1
    while follow:
        time.sleep(FOLLOW_S)
        entries = session.ask(ListEntries(500, subject), EntryList).entries
        for entry in sorted((one for one in entries if one.seq > seen), key=lambda one: one.seq):
            click.echo(as_json(entry) if session.json else _line(entry))
            seen = entry.seq


def entry_lines(entries: list[EntryView]) -> list[str]:
    """One row an entry, the newest last."""
    rows = [(str(one.seq), moment(one.ts_ms), one.type, one.subject) for one in entries]
    return table(("SEQ", "TIME", "TYPE", "SUBJECT"), rows, right=frozenset({0}), none="the ledger is empty")


def _line(entry: EntryView) -> str:
    return f"{entry.seq}  {moment(entry.ts_ms)}  {entry.type}  {printable(entry.subject)}"
