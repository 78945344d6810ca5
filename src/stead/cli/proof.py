"""`stead proof`: three files that prove to a stranger that something was recorded, and `stead proof verify`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from stead.cli.leaf_words import leaf_words, read_leaf
from stead.cli.proof_verify import LEAF, POLICY, PROOF, key_name, verify
from stead.cli.table import pairs, paragraph, printable
from stead.cli.verb import Session, examples, options
from stead.cli.words import ago
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import ProofBundle

GROUP = examples(
    ("stead proof 0192f0c1-7b3e", "prove an entry, run or finding"),
    ("stead proof verify", "check the proofs in this directory, offline"),
)
WRITE = examples(("stead proof write 0192f0c1-7b3e --dir /tmp/evidence", "into another directory"))
NAME: Final = re.compile(r"[0-9A-Za-z-]{1,64}")  # an id that may name a file
CHECK = (
    "Anybody can check it offline, with `stead proof verify` or with programs that we did not write: the Go team's x/mod/sumdb,"
    " tlog-scales (Python), @sigstore/verify (JavaScript); docs/ledger.md says how."
)


class ProofGroup(click.Group):
    """`stead proof ID` is `stead proof write ID`, wherever its options stand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give options that stand first to the verb that follows, else to `write`: the group has none but --help."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            verb = next((word for word in args if word in self.commands), "write")
            args = [verb, *(word for word in args if word != verb)]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Take what is no verb as an id."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["write", *args]
        return super().resolve_command(ctx, args)


class Written(msgspec.Struct, frozen=True):
    """What `stead proof` wrote, and what it proves. `note` says what is still missing."""

    id: str
    files: tuple[str, ...]
    says: str
    origin: str
    entry: int
    size: int
    signed_by: tuple[str, ...]
    witnesses: tuple[tuple[str, int], ...]
    note: str = ""


@click.group(cls=ProofGroup, epilog=GROUP, subcommand_metavar="ID | write ID | verify [FILE|ID]...")
def proof() -> None:
    """Prove an entry to somebody who trusts neither stead nor you; check such proofs."""


@proof.command(epilog=WRITE, short_help="Write a proof.")
@click.argument("thing", metavar="ID")
@click.option("--dir", "folder", default=".", type=click.Path(file_okay=False, path_type=Path), help="Where to write them.")
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
@options
def write(session: Session, thing: str, folder: Path, force: bool) -> None:
    """Write ID.json (the leaf), ID.tlog-proof and policy.tlog-policy. A run or finding is proven by its receipt."""
    from stead.cli.ledger_source import ledger_of

    with ledger_of(session) as source:
        bundle = source.bundle(thing)
        place = source.place
    written = checked(bundle, thing, folder, place)
    put_all(bundle, folder, force)
    session.show(written, lambda: _lines(written))


proof.add_command(verify)


def checked(bundle: ProofBundle, thing: str, folder: Path, place: str) -> Written:
    """What a bundle proves, found out here and not believed. SteadError when it proves nothing, or something else."""
    from stead.tlog.policy import parse_policy
    from stead.tlog.proof import parse_proof, prove
    from stead.tlog.strict import Malformed

    try:
        policy = parse_policy(bundle.policy)
        wanted = policy._replace(quorum="none") if bundle.note else policy
        proven = prove(bundle.leaf, parse_proof(bundle.proof), wanted)
        leaf = read_leaf(bundle.leaf)
        if (
            leaf is None
            or leaf.id != bundle.id
            or not NAME.fullmatch(bundle.id)
            or thing.encode("utf-8", "replace") not in bundle.leaf
        ):
            raise Malformed("its leaf is not the one that was asked for")
    except Malformed as error:
        what = f"this proof does not hold: {error}"
        raise SteadError(what, place, "look with `stead ledger verify`", code="proof.unproven") from None
    keys = tuple(key.text for key in proven.logs)
    files = tuple(str(folder / name) for name in _names(bundle))
    said = leaf_words(bundle.leaf)
    return Written(bundle.id, files, said, proven.origin, proven.index + 1, proven.size, keys, proven.witnesses, bundle.note)


def put_all(bundle: ProofBundle, folder: Path, force: bool) -> None:
    """Write the three files, each whole or not at all. SteadError: one is there already with other contents."""
    from stead.ledger import durable

    contents = dict(zip(_names(bundle), (bundle.leaf, bundle.proof, bundle.policy), strict=True))
    try:
        there = {name: (folder / name).read_bytes() for name in contents if (folder / name).exists()}
        differ = [name for name, data in there.items() if data != contents[name]]
        if differ and not force:
            raise _in_the_way(differ, folder)
        for name, data in contents.items():
            durable.put(folder / name, data)
        durable.settle(folder / name for name in contents)
    except OSError as error:
        what = f"the proof can't be written: {error.strerror}"
        raise SteadError(
            what, str(error.filename or folder), "choose another directory with --dir", code="proof.unwritable"
        ) from None


def _names(bundle: ProofBundle) -> tuple[str, str, str]:
    return f"{bundle.id}{LEAF}", f"{bundle.id}{PROOF}", POLICY


def _in_the_way(names: Sequence[str], folder: Path) -> SteadError:
    if POLICY in names:
        what = f"{POLICY} is there already and trusts other keys, so it is another log's, or from before a change of keys"
        fix = "write to an empty directory with --dir, or replace it with --force"
    else:
        what = f"{names[0]} is there already and differs"
        if names[0].endswith(PROOF):
            what += ": it was made under an older checkpoint, or changed"
        fix = "replace it with --force, or choose another directory with --dir"
    return SteadError(what, str(folder.resolve()), fix, code="proof.exists", exit_code=EXIT_USAGE)


def _lines(one: Written) -> list[str]:
    import time

    now_ms = int(time.time() * 1000)
    rows: list[tuple[str, Any]] = [
        ("says", one.says),
        ("place", f"entry {one.entry} of {one.size} in {one.origin}"),
        ("signed by", ", ".join(map(key_name, one.signed_by))),
        *(("cosigned by", f"{name}, {ago(at_s * 1000, now_ms)}") for name, at_s in one.witnesses),
    ]
    if one.note:
        fix = "its own policy asks for that: `stead ledger witness`, then this again with --force"
        rows.append(("lacks", (f"{one.note}; {fix}", "warning")))
    return [*(printable(file) for file in one.files), "", *pairs(rows, wrap=True), "", *paragraph(CHECK)]
