"""`stead ledger export`: the record as plain files that any C2SP tool reads."""

from __future__ import annotations

from pathlib import Path

import click

from stead.cli.ledger_verify import progress
from stead.cli.table import paragraph
from stead.cli.verb import Session, examples, options
from stead.cli.words import plural

EXPORT = examples(
    ("stead ledger export /srv/ledger", "write it, or add what is new"),
    ("stead ledger verify --export /srv/ledger", "check such a folder"),
)


@click.command(epilog=EXPORT, short_help="Write it as plain files (tlog-tiles).")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--blobs", is_flag=True, help="Also the detail beside the leaves: command lines, titles, errors (mode 0600).")
@options
def export(session: Session, folder: Path, blobs: bool) -> None:
    """Write the ledger to DIR as tlog-tiles: checkpoint, hashes, entries, policy. Run again, it adds what is new."""
    from stead.cli.ledger_source import ledger_of
    from stead.ledger import export as exporting

    with ledger_of(session) as source, progress(session, "exported") as watch:
        done = exporting.export(source, folder, blobs=blobs, watch=watch)
    detail = f" and {plural(done.blobs, 'blob')}" if blobs else ""
    words = f"{plural(done.size, 'entry', 'entries')} of {done.origin} in {done.folder}, {done.added} new{detail}."
    session.show(done, lambda: [*paragraph(words), *paragraph(f"Check it with `stead ledger verify --export {done.folder}`.")])
