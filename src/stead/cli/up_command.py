"""The verb `stead up`: its options. What it does is in `stead.cli.up`."""

from __future__ import annotations

import click

from stead.cli.verb import Session, examples, options

EXAMPLES = examples(
    ("stead up", "start in mode advise; nothing on the host changes"),
    ("stead up --port 8080 --state /tmp/try", "another port, a state of its own"),
    ("stead up --mode act", "let it do what the policy allows"),
)


@click.command(epilog=EXAMPLES)
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port of the page, on loopback (8000 by default).")
@click.option("--mode", type=click.Choice(["observe", "advise", "act"]), help="Mode at the first start (default advise).")
@click.option("--config", metavar="FILE", type=click.Path(), help="Configuration file.")
@options
def up(session: Session, port: int | None, mode: str | None, config: str | None) -> int:
    """Start agent and hub on this host as processes, show each station as it comes up, and follow what happens.

    Ctrl-C stops both cleanly, and puts back what only a lease holds. In mode advise (the default) stead observes, finds,
    proposes and says what it would do; nothing on the host is changed until a person says `stead mode act`.
    """
    from stead.cli.up import Up, plan_up

    return Up(plan_up(session.state, port, mode, config), as_json=session.json).run()
