"""`stead agent`, `stead hub` and `stead demo`: this process becomes theirs, so that nothing of the command line stays."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from stead.cli.verb import examples

AGENT = examples(
    ("stead agent", "run the daemon; a service manager does this"),
    ("stead agent --state /tmp/try --mode observe", "elsewhere, watching only"),
)
HUB = examples(("stead hub", "serve the page and the API"), ("stead hub --port 8080", "on another port"))
DEMO = examples(("stead demo", "three faults, healed live"), ("stead demo --state /tmp/demo", "and keep what it recorded"))
STATE = click.option("--state", metavar="DIR", help="State directory.")
CONFIG = click.option("--config", metavar="FILE", type=click.Path(), help="Configuration file.")
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    expose_value=False,
    help="As every verb has it; this one answers nothing, and what it logs is JSON anyway.",
)
MODE = click.option("--mode", type=click.Choice(["observe", "advise", "act"]), help="Mode at the first start.")


def argv_of(module: str, **given: str | int | None) -> list[str]:
    """The command of one of stead's own processes. `-P`: never import from the directory one happens to be in."""
    words = [sys.executable, "-P", "-m", module]
    for name, value in given.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    return words


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process."""
    sys.stdout.flush()
    os.execv(argv[0], list(argv))  # noqa: S606 - our own interpreter and module, no shell


@click.command(epilog=AGENT)
@STATE
@CONFIG
@MODE
@click.option("--restore", is_flag=True, help="Only put back what leases hold, and end: for after a stop.")
@OUTPUT
@click.pass_context
def agent(ctx: click.Context, state: str | None, config: str | None, mode: str | None, restore: bool) -> None:
    """Run the daemon of this host in the foreground."""
    argv = argv_of("stead.agent", state=state or ctx.find_root().obj, config=config, mode=mode)
    become([*argv, "--restore"] if restore else argv)


@click.command(epilog=HUB)
@STATE
@CONFIG
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port on loopback (8000 by default).")
@OUTPUT
@click.pass_context
def hub(ctx: click.Context, state: str | None, config: str | None, port: int | None) -> None:
    """Run the HTTP side for people in the foreground. Started as root, it drops to another user."""
    become(argv_of("stead.hub", state=state or ctx.find_root().obj, config=config, port=port))


@click.command(epilog=DEMO)
@STATE
@click.option("-o", "--output", type=click.Choice(["table", "json"]), help="Form of the report.")
@click.pass_context
def demo(ctx: click.Context, state: str | None, output: str | None) -> None:
    """Start a small workload in a state of its own, cause real faults on it, and show stead healing each."""
    become(argv_of("stead.demo", state=state or ctx.find_root().obj, output=output))
