"""`stead why`: the chain of evidence about a thing, from the agent, from the ledger's file, or from an exported ledger."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import click

from stead.cli.leaf_words import UUID, read_leaf, what_words
from stead.cli.table import paragraph, printable, styled, width_of
from stead.cli.verb import Session, examples, options
from stead.cli.words import clock, moment
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.ledger_messages import ProofBundle
from stead.model.messages import Explanation, Link, Why
from stead.tlog.merkle import leaf_hash

WHY = examples(
    ("stead why 0192f0c1-7b3e", "a finding, run or entry, by the start of its id"),
    ("stead why pid:4711", "a process"),
    ("stead why workload:web", "a service, or what is managed by whatever name"),
    ("stead why priority.nice", "a setting"),
    ("stead why infra.process_cpu_cores", "a metric"),
    ("stead why pid:4711 --export DIR", "from an exported ledger, on any machine"),
)
ID_CHARS: Final = 18
INDENT: Final = 21  # time and station
ENTRY_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{1,27}")
LACKS: Final = re.compile(r" \((what was beside it [^()]*)\)$")


@click.command(epilog=WHY)
@click.argument("thing")
@click.option("--export", "folder", type=click.Path(file_okay=False, path_type=Path), help="Read an exported ledger instead.")
@options
def why(session: Session, thing: str, folder: Path | None) -> None:
    """Explain a finding, run, entry, metric, process, workload or setting: the chain of evidence in words.

    Each line comes from one entry of the ledger, which it names: `stead proof` proves that entry to others. Without an agent the
    ledger is read straight from its file.
    """
    thing = re.sub(r"^pid:(?=\d+$)", "process:", thing.strip())
    if not thing:
        raise SteadError(
            "nothing was named", "", "`stead why --help` shows what can be", code="usage.thing", exit_code=EXIT_USAGE
        )
    answer = _from_export(thing, folder) if folder else _told(session, thing)
    session.show(answer, lambda: why_lines(answer))


def _told(session: Session, thing: str) -> Explanation:
    """What is recorded about a thing; for an entry, what is recorded about its run or finding, else what it says."""
    try:
        return _from_agent_or_file(session, thing)
    except SteadError as error:
        found = _entry(session, thing) if error.problem.code == "why.unknown" and ENTRY_ID.fullmatch(thing) else None
        if found is None:
            raise
    leaf = read_leaf(found.leaf)
    about = str(leaf.body.get("about", "")) if leaf else ""
    return _from_agent_or_file(session, about) if UUID.fullmatch(about) else _alone(thing, found)


def _entry(session: Session, thing: str) -> ProofBundle | None:
    """The entry of this id; None where there is none. It is shown as it is: `stead proof` checks it."""
    from stead.cli.ledger_source import ledger_of

    try:
        with ledger_of(session) as source:
            return source.bundle(thing)
    except SteadError:
        return None


def _alone(thing: str, found: ProofBundle) -> Explanation:
    """An entry that is of no run and no finding: what it says is all there is."""
    leaf = read_leaf(found.leaf)
    if leaf is None:
        what = f"entry {found.index + 1} is no entry of stead's"
        raise SteadError(what, "", "look with `stead ledger verify`", code="ledger.altered")
    words = what_words(found.leaf) or leaf.type.replace(".", " ").replace("_", " ")
    link = Link(leaf.at_ms, "record", words, found.id, f"sha256:{leaf_hash(found.leaf).hex()}", found.index)
    return Explanation(thing, f"{leaf.type}: {words}", (link,))


def _from_agent_or_file(session: Session, thing: str) -> Explanation:
    from stead.cli.ledger_source import NOBODY, offline
    from stead.ledger.why import explain

    try:
        return session.ask(Why(thing), Explanation)
    except SteadError as error:
        if error.problem.code not in NOBODY or not (Path(session.paths.state) / "ledger.db").exists():
            raise
    with offline(session) as log:
        return explain(thing, log)


def _from_export(thing: str, folder: Path) -> Explanation:
    from stead.ledger.exported import ExportSource
    from stead.ledger.scan import Scanned
    from stead.ledger.why import explain

    source = ExportSource(folder)
    return explain(thing, Scanned(source, source.head().size), "was not exported, or has been erased")


def why_lines(answer: Explanation) -> list[str]:
    """The summary, then each link: when, at which station, what happened, and the entry that says so."""
    lines = [styled(line, "bold") for line in paragraph(answer.summary)]
    day, lacks = "", ""
    for link in answer.chain:
        if moment(link.at_ms)[:10] != day:
            day = moment(link.at_ms)[:10]
            lines.append(styled(day, "dim"))
        words, gone = link.words, LACKS.search(link.words)
        if gone is not None:
            lacks, words = gone[1], f"{words[: gone.start()]}*"
        lines += _link_lines(link, words)
    if lacks:
        fix = "; `stead ledger export --blobs` exports it" if "exported" in lacks else ""
        lines += ["", *paragraph(f"* {lacks}{fix}")]
    return lines if answer.summary or answer.chain else [f"nothing is known about {answer.thing}"]


def _link_lines(link: Link, words: str) -> list[str]:
    """One link; what does not fit the terminal goes on below itself."""
    entry = f"[entry {link.entry[:ID_CHARS]}]" if link.entry else ""
    first, *more = _beside(printable(words), entry)
    head = f"  {clock(link.at_ms)}  {link.station:<8} "
    return [head + first, *(" " * INDENT + line for line in more)]


def _beside(words: str, entry: str) -> list[str]:
    """The words as lines, and the entry after them where there is room, else below."""
    lines, dim = paragraph(words, INDENT), styled(entry, "dim")
    if not entry:
        return lines
    columns = shutil.get_terminal_size((0, 0)).columns
    fits = columns <= 0 or INDENT + width_of(lines[-1]) + 2 + len(entry) <= columns
    return [*lines[:-1], f"{lines[-1]}  {dim}"] if fits else [*lines, dim]
