"""`stead ledger`: the record of every change, to read, to search, to check and to take along."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial

import click
import msgspec

from stead.cli.leaf_words import UUID, what_words
from stead.cli.ledger_erase import erase
from stead.cli.ledger_export import export
from stead.cli.ledger_key import key
from stead.cli.ledger_verify import verify
from stead.cli.table import Cell, cut, printable, styled, table, width_of
from stead.cli.verb import Session, examples, options
from stead.cli.witness import renew, witness
from stead.cli.words import clock, moment, seconds_of, short_ids
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import SearchEntries
from stead.model.messages import EntryList, EntryView
from stead.model.record import StoredEntry

GROUP = examples(
    ("stead ledger tail", "the newest entries"),
    ("stead ledger search hog --since 2d", "those that speak of something"),
    ("stead ledger verify", "recompute all of it"),
)
TAIL = examples(
    ("stead ledger tail", "the newest twenty entries"),
    ("stead ledger tail --subject 0192f0c1-7b3e", "those about one run or finding"),
    ("stead ledger tail -f", "follow"),
)
SEARCH = examples(
    ("stead ledger search nginx", "a word in leaf or detail"),
    ("stead ledger search --type 'receipt.*' --since 7d", "what was written on this host"),
    ("stead ledger search --actor uid:1000", "what one person did"),
)
CHECKPOINT = examples(("stead ledger checkpoint > yesterday.note", "keep it elsewhere, and verify against it later"))
ABOUT = "Only entries about this: the id of a run or finding, or its beginning, or what SUBJECT shows."
FOLLOW_S = 1.0
WORDS_COLUMNS = 24  # narrower than that, words say nothing
ID_CHARS = 18


class Head(msgspec.Struct, frozen=True):
    """The newest checkpoint: `note` is the signed note, whole."""

    origin: str
    size: int
    note: str


@click.group(epilog=GROUP)
def ledger() -> None:
    """Read the record of every change, and prove that it is whole."""


@ledger.command(epilog=TAIL, short_help="Show the newest entries.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="So many entries.")
@click.option("--subject", default="", metavar="ID", help=ABOUT)
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries until Ctrl-C.")
@options
def tail(session: Session, limit: int, subject: str, follow: bool) -> None:
    """Show the newest entries: when, what, about what; in words too where the terminal has room. `-o json` gives the leaves."""
    query = SearchEntries(subject=subject, limit=limit)
    shown = _found(session, query)
    word = subject.replace("pid:", "process:", 1) if subject.startswith("pid:") else subject
    none = f"nothing is recorded about {subject}: `stead ledger search {word}` looks inside the entries"
    _show(session, shown, printable(none) if subject else "the ledger is empty")
    seen = shown[-1].seq if shown else 0
    while follow:
        time.sleep(FOLLOW_S)
        for entry in _found(session, msgspec.structs.replace(query, after=seen, limit=500)):
            session.show(_view(entry), partial(_lines, entry))
            seen = entry.seq


@ledger.command(epilog=SEARCH, short_help="Find entries by words, type, subject, actor, time.")
@click.argument("text", required=False, default="")
@click.option("--type", "types", default="", metavar="GLOB", help="Only entries of these types, like 'run.*'.")
@click.option("--subject", default="", metavar="ID", help=ABOUT)
@click.option("--actor", default="", help="Only what this actor did: an id like uid:1000, or user, agent, policy, hub.")
@click.option("--since", default="", metavar="WHEN", help="Not older: 90s, 2h, 7d, or 2026-11-21 or 2026-11-21T08:00.")
@click.option("--until", default="", metavar="WHEN", help="Older than this, written likewise.")
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@options
def search(session: Session, text: str, types: str, subject: str, actor: str, since: str, until: str, limit: int) -> None:
    """Find entries by TEXT (in leaf or detail, whatever its case), type, subject, actor and time; the newest are kept."""
    now_ms = time.time_ns() // 1_000_000
    begin_ms, end_ms = when_ms(since, now_ms), when_ms(until, now_ms)
    if begin_ms and end_ms and begin_ms >= end_ms:
        what = f"nothing lies between --since {since} and --until {until}"
        raise SteadError(what, "", "give the earlier time to --since", code="usage.time", exit_code=EXIT_USAGE)
    query = SearchEntries(text, types, subject, actor, begin_ms, end_ms, limit=limit)
    _show(session, _found(session, query), "nothing like that is on record")


@ledger.command(epilog=CHECKPOINT, short_help="Print the newest signed checkpoint.")
@options
def checkpoint(session: Session) -> None:
    """Print the newest signed checkpoint: size and root of the ledger, as a C2SP note."""
    from stead.cli.ledger_source import ledger_of

    with ledger_of(session) as source:
        head = source.head()
    note = head.checkpoint.decode("utf-8", "replace")
    if not session.json and not sys.stdout.isatty():
        click.echo(head.checkpoint, nl=False)  # to keep: not one octet of it may change
        return
    session.show(Head(head.origin, head.size, note), lambda: note.removesuffix("\n").split("\n"))


ledger.add_command(verify)
ledger.add_command(export)
ledger.add_command(key)
ledger.add_command(erase)
ledger.add_command(witness)
ledger.add_command(renew)


def when_ms(text: str, now_ms: int) -> int:
    """A time given as an age ("2h") or as a local date, Unix milliseconds; 0 for none. SteadError for anything else."""
    from datetime import datetime

    if not text:
        return 0
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        pass
    try:
        return max(1, now_ms - round(seconds_of(text) * 1000))
    except SteadError:
        what = f"{text!r} is no time"
        fix = "write an age like 90s, 2h or 7d, or a date like 2026-11-21 or 2026-11-21T08:00"
        raise SteadError(what, "", fix, code="usage.time", exit_code=EXIT_USAGE) from None


def entry_lines(entries: Sequence[StoredEntry], none: str) -> list[str]:
    """One row an entry, the newest last. The date stands above those of one day, else in each row."""
    short = short_ids((entry.id for entry in entries), ID_CHARS)
    about = short_ids(entry.subject for entry in entries if UUID.fullmatch(entry.subject))
    days = {moment(entry.ts_ms)[:10] for entry in entries}
    at = clock if len(days) == 1 else moment
    rows: list[list[Cell]] = [
        [str(one.seq), at(one.ts_ms), short[one.id], one.type, about.get(one.subject, one.subject)] for one in entries
    ]
    head = ["SEQ", "TIME", "ID", "TYPE", "SUBJECT"]
    if _room_beside([head, *rows]) >= WORDS_COLUMNS:
        head.append("WHAT")
        rows = [[*row, what_words(one.leaf)] for row, one in zip(rows, entries, strict=True)]
    lines = table(head, rows, right=frozenset({0}), none=none)
    return [styled(days.pop(), "dim"), *lines] if at is clock else lines


def _room_beside(rows: Sequence[Sequence[Cell]]) -> int:
    """Columns that these rows leave free on the terminal; as many as are wanted where the output is none."""
    columns = shutil.get_terminal_size((0, 0)).columns
    if columns <= 0:
        return sys.maxsize
    return columns - sum(2 + max(width_of(str(row[i])) for row in rows) for i in range(len(rows[0])))


def _found(session: Session, query: SearchEntries) -> list[StoredEntry]:
    """What a query finds, oldest first. The ledger is opened anew each time: an agent may start or end meanwhile."""
    from stead.cli.ledger_source import every, ledger_of

    with ledger_of(session) as source:
        return sorted(every(source, query), key=lambda entry: entry.seq)


def _show(session: Session, entries: Sequence[StoredEntry], none: str) -> None:
    session.show(EntryList(tuple(map(_view, entries))), lambda: entry_lines(entries, none))


def _view(one: StoredEntry) -> EntryView:
    return EntryView(one.seq, one.id, one.type, one.subject, one.ts_ms, one.leaf.decode("utf-8", "replace"))


def _lines(entry: StoredEntry) -> list[str]:
    about = entry.subject[:13] if UUID.fullmatch(entry.subject) else entry.subject
    line = f"{entry.seq:>3}  {clock(entry.ts_ms)}  {entry.id[:ID_CHARS]}  {entry.type}  {about}  "
    room = _room_beside([[line]])
    return [f"{line}{cut(what_words(entry.leaf), room) if room >= WORDS_COLUMNS else ''}".rstrip()]
