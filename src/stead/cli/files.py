"""`stead files`: what the allow-list would let go, and what is in quarantine."""

from __future__ import annotations

from typing import Final

import click

from stead.cli.table import Cell, styled, table
from stead.cli.verb import Session, examples, options
from stead.cli.words import ago, duration, short_ids, size
from stead.model.cleaning import Cleanable, FileList, ListFiles, Quarantined
from stead.model.messages import GetStatus, Status

EXAMPLES = examples(
    ("stead files", "what may go, and what can still be put back"),
    ("stead undo 0192f0c1-7b3e", "put back what a run moved"),
)
DOES: Final = {"quarantine": "move away, remove later", "compress": "compress in place"}


@click.command(epilog=EXAMPLES)
@options
def files(session: Session) -> None:
    """Show what rules of the allow-list would clean, and the files in quarantine with the run that puts each back."""
    answer = session.ask(ListFiles(), FileList)
    now_ms = 0 if session.json else session.ask(GetStatus(), Status).now_ms
    session.show(answer, lambda: lines(answer, now_ms))


def lines(answer: FileList, now_ms: int) -> list[str]:
    """Both lists."""
    told = [styled("may be cleaned", "bold"), *(f"  {line}" for line in cleanable_lines(answer.cleanable))]
    told += ["", styled("in quarantine", "bold"), *(f"  {line}" for line in quarantine_lines(answer.quarantined, now_ms))]
    refused = [f"  {folder}: {why}" for folder, why in sorted(answer.refused.items())]
    return [*told, *(["", styled("can't be cleaned or put back now", "bold"), *refused] if refused else [])]


def cleanable_lines(found: tuple[Cleanable, ...]) -> list[str]:
    """One row a rule and mount."""
    rows: list[list[Cell]] = [
        [one.category, one.title, one.mount, str(one.files), size(one.bytes), DOES[one.do]]
        for one in sorted(found, key=lambda one: -one.bytes)
        if one.files
    ]
    return table(("RULE", "WHAT", "MOUNT", "FILES", "SIZE", "WOULD"), rows, none="no file that a rule names is old enough")


def quarantine_lines(held: tuple[Quarantined, ...], now_ms: int) -> list[str]:
    """One row a file."""
    short = short_ids({one.run for one in held if one.run})
    rows: list[list[Cell]] = [
        [one.path, size(one.bytes), one.category, ago(one.at_ms, now_ms), due(one, now_ms), short.get(one.run, "not known")]
        for one in held
    ]
    return table(("FILE", "SIZE", "RULE", "SINCE", "MAY GO", "PUT BACK BY UNDO OF"), rows, none="nothing")


def due(one: Quarantined, now_ms: int) -> str:
    """When it may be removed for good."""
    return "now" if one.due_ms <= now_ms else f"in {duration((one.due_ms - now_ms) / 1000)}"
