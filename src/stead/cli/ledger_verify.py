"""`stead ledger verify`: this process recomputes the record from its leaves, and believes nothing else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stead.cli.proof_verify import key_name, pinned
from stead.cli.table import Cell, pairs, paragraph
from stead.cli.verb import Session, examples, options
from stead.cli.words import plural
from stead.model.errors import EXIT_USAGE, SteadError

if TYPE_CHECKING:
    from stead.ledger.source import LogSource
    from stead.ledger.verify import Kept, Looks, Verification, Watch
    from stead.tlog.policy import TrustPolicy

VERIFY = examples(
    ("stead ledger verify", "root, signature, order, ids"),
    ("stead ledger verify --deep", "also columns, form of every leaf, detail"),
    ("stead ledger verify --against yesterday.note", "nothing before it was rewritten"),
    ("stead ledger verify --export DIR", "an exported folder, without any agent"),
)
TOLD_S = 0.5
UNPINNED = "The key is what this ledger says of itself: compare it with one that you have from elsewhere, and pin it with --key."
ALONE = (
    "Whoever has the key can sign another history: compare with a checkpoint or proof that was kept elsewhere (--against), or"
    " let witnesses do it all the time (docs/witness.md)."
)
NAMED = "The witnesses are those that this ledger names: say by --policy FILE whose word you take."


@click.command(epilog=VERIFY, short_help="Recompute it, and compare with what was signed.")
@click.option(
    "--against", multiple=True, metavar="FILE", help="A checkpoint or proof that was kept elsewhere; may be given again."
)
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="Trust only this key, and keys that it signed for.")
@click.option("--policy", metavar="FILE", help="Your own trust policy: its keys only, and its quorum of witnesses.")
@click.option("--export", "folder", type=click.Path(file_okay=False, path_type=Path), help="Check an exported folder instead.")
@click.option("--deep", is_flag=True, help="Also every column, the canonical form of every leaf, and every blob.")
@options
def verify(
    session: Session, against: Sequence[str], keys: Sequence[str], policy: str | None, folder: Path | None, deep: bool
) -> None:
    """Recompute the whole ledger here, and compare it with what was signed. Exit code 1 and a name if it does not hold."""
    from stead.cli.ledger_source import ledger_of
    from stead.cli.witness import standing
    from stead.ledger.exported import ExportSource, verify_export
    from stead.ledger.standing import KEPT
    from stead.ledger.verify import verify as recompute

    pins, kept = [pinned(text) for text in keys], [_kept(Path(name)) for name in against]
    trusted = None if policy is None else _policy(Path(policy))
    beside = _own(Path(session.paths.state) / KEPT)
    began_s = time.monotonic()
    with progress(session, "verified") as watch:
        if folder is None:
            with ledger_of(session) as source, shared(source, deep) as looks:
                found = recompute(
                    source, pins=pins, kept=kept, beside=beside, policy=trusted, deep=deep, watch=watch, looks=looks
                )
        else:
            with shared(ExportSource(folder), deep) as looks:
                found = verify_export(folder, pins=pins, kept=kept, policy=trusted, deep=deep, watch=watch, looks=looks)
    took_s = time.monotonic() - began_s
    problem = standing(session.paths) if folder is None else None
    if problem is not None:
        raise problem
    session.show(found, lambda: _lines(found, took_s, own_policy=policy is not None))


def shared(source: LogSource, deep: bool) -> AbstractContextManager[Looks | None]:
    """Several processes for a long ledger in a file or folder; an agent's is read by this one alone."""
    from stead.cli.ledger_source import SocketSource
    from stead.cli.ledger_workers import workers

    if isinstance(source, SocketSource):
        return contextlib.nullcontext()
    return workers(Path(source.place), source.head().size, deep=deep)


@contextlib.contextmanager
def progress(session: Session, done: str) -> Iterator[Watch | None]:
    """Tell a person at a terminal how far it is, when it takes longer; tell a program nothing."""
    if session.json or not sys.stderr.isatty():
        yield None
        return
    told_s = began_s = time.monotonic()

    def watch(at: int, of: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= TOLD_S:
            told_s = now_s
            click.echo(f"\r{at:,} of {of:,} entries {done}", nl=False, err=True)

    try:
        yield watch
    finally:
        if told_s != began_s:
            click.echo("\r\x1b[K", nl=False, err=True)


def _policy(path: Path) -> TrustPolicy:
    from stead.tlog.policy import parse_policy
    from stead.tlog.strict import Malformed

    try:
        return parse_policy(path.read_bytes())
    except (OSError, Malformed) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        fix = "give a tlog-policy file, as `stead proof` writes one"
        raise SteadError(f"no trust policy can be read from it: {why}", str(path), fix, exit_code=EXIT_USAGE) from None


def _own(path: Path) -> list[Kept]:
    """The checkpoint that the agent keeps beside its database: it tells when only the database was put back."""
    from stead.ledger.verify import Kept

    try:
        return [Kept(str(path), path.read_bytes())]
    except OSError:
        return []


def _kept(path: Path) -> Kept:
    """A checkpoint that was kept: a note, a proof file with one in it, or an exported folder."""
    from stead.ledger import bounded
    from stead.ledger.verify import Kept
    from stead.tlog.checkpoint import parse_checkpoint
    from stead.tlog.note import parse_note
    from stead.tlog.proof import HEADER, PROOF_MAX_BYTES, parse_proof
    from stead.tlog.strict import Malformed

    place = path / "checkpoint" if path.is_dir() else path
    try:
        data = bounded.read(place, PROOF_MAX_BYTES)
        note = parse_proof(data).checkpoint if data.startswith(HEADER.encode()) else data
        parse_checkpoint(parse_note(note).text)
        return Kept(str(place), note)
    except (OSError, Malformed) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        fix = "give a file that `stead ledger checkpoint` or `stead proof` wrote, or an exported folder"
        raise SteadError(f"no checkpoint can be read from it: {why}", str(path), fix, exit_code=EXIT_USAGE) from None


def _lines(found: Verification, took_s: float, *, own_policy: bool) -> list[str]:
    place = f"from the agent at {found.place}" if found.place.endswith(".sock") else f"in {found.place}"
    rows: list[tuple[str, Cell]] = [
        ("ledger", f"{found.origin}, {plural(found.size, 'entry', 'entries')}, {place}"),
        ("root", (f"{found.root} as signed; recomputed in {took_s:.1f} s", "good")),
        ("signed by", ", ".join(map(key_name, found.signed_by)) + (" (pinned)" if found.pinned else "")),
    ]
    if found.rotations:
        rows.append(("key", f"changed {plural(found.rotations, 'time')}, each time signed by the one before"))
    rows.append(("detail", _detail(found)))
    older = [*found.continues, *found.beside]
    rows += [("continues", f"{one.place}, {plural(one.size, 'entry', 'entries')}") for one in older]
    advice = [] if found.pinned else paragraph(UNPINNED)
    if found.witnessed and not own_policy:
        advice += paragraph(NAMED)
    elif not found.witnessed and not found.continues:
        advice += paragraph(ALONE)
    return [*pairs(rows, wrap=True), *([""] if advice else []), *advice]


def _detail(found: Verification) -> str:
    if not found.deep:
        return "not looked at: columns but id and type, the form of each leaf, and blobs, which are kept beside leaves (--deep)"
    gone = f", {found.erased} erased or not here" if found.erased else ""
    return f"every column and leaf is as it must be; {plural(found.blobs, 'blob')} as their leaves say{gone}"
