"""`stead ledger erase`: what lies beside an entry goes for good; the entry and every proof of it stay."""

from __future__ import annotations

import click

from stead.cli.table import paragraph
from stead.cli.verb import Session, confirm, examples, options
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import EraseBlob, GetProof, LeafList, ProofBundle
from stead.model.messages import EntryList, EntryView

ERASE = examples(
    ("stead ledger search 'ann@example.org'", "the entries that speak of something"),
    ("stead ledger erase 0192f0c1-7b3e --reason 'asked by the person'", "one of them"),
)
LEFT = (
    "Not reached: exports made with --blobs, backups, databases that a renewal left (`ledger.1.db`), and other entries with the"
    " same text, which `stead ledger search` finds."
)


@click.command(epilog=ERASE, short_help="Erase what is kept beside an entry.")
@click.argument("id")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept beside the entry that says so.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def erase(session: Session, id: str, reason: str, yes: bool) -> None:
    """Erase what is kept beside entry ID: title, command line, reason, error text, samples. The agent must run.

    The entry stays, and so does every proof of it; a new entry says that this was erased, and by whom.
    """
    found = session.ask(GetProof(id), ProofBundle)
    if not (found.id.startswith(id) or found.id.endswith(id)):
        fix = f"each of its entries has an id of its own: `stead ledger search --subject {id}`"
        raise SteadError(f"{id} is a run or finding, not an entry", "", fix, code="entry.unknown", exit_code=EXIT_USAGE)
    question = f"Erase for good what is kept beside entry {found.index + 1} ({_type(found)})?"
    confirm(question, yes, "not erased", "erase.declined")
    (said,) = session.ask(EraseBlob(id, reason), LeafList).entries
    view = EntryView(said.seq, said.id, said.type, said.subject, said.ts_ms, said.leaf.decode("utf-8", "replace"))
    done = f"Erased. Entry {said.seq} says so: {said.id}"
    session.show(EntryList((view,)), lambda: [done, *paragraph(LEFT)])


def _type(found: ProofBundle) -> str:
    from stead.ledger import refusals
    from stead.ledger.strict_leaf import heads_of

    try:
        return heads_of((found.leaf,))[0].type
    except ValueError as error:
        raise refusals.malformed(str(error), f"entry {found.index + 1}") from None
