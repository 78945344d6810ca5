"""`stead top`: the busiest processes, as the agent saw them in its last interval."""

from __future__ import annotations

import sys
import time
from functools import partial

import click

from stead.cli.table import table
from stead.cli.verb import Session, colour, examples, options
from stead.cli.words import clock, number, size, unknown
from stead.model.messages import GetTop, TopAnswer
from stead.model.observe import ProcessUse, Top

EXAMPLES = examples(
    ("stead top", "by CPU, refreshed until Ctrl-C"),
    ("stead top --by memory --once", "by memory, once"),
    ("stead top --once -o json", "for a script"),
)
CLEAR = "\x1b[H\x1b[2J"


@click.command(epilog=EXAMPLES)
@click.option("--by", type=click.Choice(["cpu", "memory", "io"]), default="cpu", show_default=True, help="What to order by.")
@click.option("--once", is_flag=True, help="Show one table and end (also where the output is no terminal).")
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.2, 3600), help="Seconds between tables.")
@options
def top(session: Session, by: str, once: bool, interval: float) -> None:
    """Show the busiest processes by CPU, memory or IO."""
    if once or session.json or not sys.stdout.isatty():
        answer = session.ask(GetTop(), TopAnswer)
        session.show(answer, partial(top_lines, answer.top, by))
        return
    try:
        while True:
            lines = top_lines(session.ask(GetTop(), TopAnswer).top, by)
            click.echo(CLEAR + "\n".join(lines), color=colour())
            time.sleep(interval)
    except KeyboardInterrupt:  # the way to leave it
        return


def top_lines(now: Top | None, by: str) -> list[str]:
    """A head line and the table."""
    if now is None:
        return [f"{unknown('the process probe has not reported yet')}"]
    chosen = {"cpu": now.by_cpu, "memory": now.by_memory, "io": now.by_io}[by]
    head = f"{clock(now.at_ms)}  {now.total} processes, {now.running} running; by {by}"
    columns = ("PID", "UID", "CORES", "MEMORY", "IO", "THREADS", "FILES", "S", "NAME", "COMMAND")
    return [head, *table(columns, [_row(one) for one in chosen], right=frozenset(range(7)), none="no process was busy")]


def _row(one: ProcessUse) -> tuple[str, ...]:
    cores = unknown() if one.cpu_cores is None else f"{one.cpu_cores:.2f}"
    io = unknown() if one.io_bytes_per_s is None else f"{size(one.io_bytes_per_s)}/s"
    counts = (number(one.threads), number(one.descriptors))
    return (str(one.pid), str(one.uid), cores, size(one.rss_bytes), io, *counts, one.state, one.name, one.command)
