"""The `stead` command itself: its verbs, found by name and imported on demand, and how every error ends.

`stead --help` must stay cheap, so this module imports click and nothing of stead. A verb is one line in VERBS.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from stead import __version__

EXIT_INTERRUPTED: Final = 130


class Verb(NamedTuple):
    """Where a verb lives, and what it does in a few words."""

    section: str
    module: str
    name: str
    summary: str


START, LOOK, DECIDE, LIMIT, CHECK = "Start", "Look", "Change", "Limit what stead may do", "Check and prove"
VERBS: Final[dict[str, Verb]] = {
    "up": Verb(START, "up_command", "up", "Start agent and hub on this host, and watch."),
    "agent": Verb(START, "processes", "agent", "Run the daemon of this host in the foreground."),
    "hub": Verb(START, "processes", "hub", "Run the HTTP side for people in the foreground."),
    "demo": Verb(START, "processes", "demo", "Cause real faults on a demo workload and watch stead heal them."),
    "status": Verb(LOOK, "look", "status", "Show the agent in one look."),
    "top": Verb(LOOK, "top", "top", "Show the busiest processes."),
    "metrics": Verb(LOOK, "metrics", "metrics", "Show the latest values, or one metric over time."),
    "findings": Verb(LOOK, "look", "findings", "List what is wrong."),
    "why": Verb(LOOK, "why", "why", "Explain a finding, run, metric, process or setting."),
    "proposals": Verb(DECIDE, "changes", "proposals", "List the remedies that wait or were advised, or show one."),
    "recommend": Verb(DECIDE, "recommend", "recommend", "Show what measured use asks for, and apply it."),
    "approve": Verb(DECIDE, "answers", "approve", "Approve one proposal as shown."),
    "deny": Verb(DECIDE, "answers", "deny", "Turn one proposal down."),
    "runs": Verb(DECIDE, "changes", "runs", "List what was done, or show one run."),
    "files": Verb(DECIDE, "files", "files", "Show what may be cleaned, and what is in quarantine."),
    "undo": Verb(DECIDE, "answers", "undo", "Put back what a run changed, and keep its playbook off that target."),
    "cancel": Verb(DECIDE, "answers", "cancel", "Stop a run between its steps, and put back what it did."),
    "pause": Verb(LIMIT, "autonomy", "pause", "Stop all forward acting at once."),
    "resume": Verb(LIMIT, "autonomy", "resume", "Let stead act again after a pause."),
    "mode": Verb(LIMIT, "autonomy", "mode", "Show or set how far stead may go: observe, advise or act."),
    "holds": Verb(LIMIT, "autonomy", "holds", "List the playbooks that people have put off a target."),
    "lift": Verb(LIMIT, "autonomy", "lift", "Lift a hold."),
    "ledger": Verb(CHECK, "ledger", "ledger", "Read the record of every change, and prove that it is whole."),
    "proof": Verb(CHECK, "proof", "proof", "Prove an entry to a stranger; check such proofs."),
    "catalog": Verb(CHECK, "check", "catalog", "Check a catalogue of metrics and playbooks."),
    "config": Verb(CHECK, "check", "config", "Check the configuration."),
    "doctor": Verb(CHECK, "doctor", "doctor", "Check what this host offers, and say what to do."),
    "completion": Verb(CHECK, "completion", "completion", "Print a completion script for a shell."),
    "help": Verb(CHECK, "completion", "help_verb", "Show the help of a verb, or `exit-codes`."),
}

EPILOG = """\b
Examples:
  stead up                       start, watch, Ctrl-C stops
  stead status -o json           the agent in one look, for a script
  stead proposals                what it would do, and why it waits
  stead help exit-codes          what the exit codes mean
"""


class Stead(click.Group):
    """The group: lists verbs from the table, imports them on demand, and turns every error into one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        verb = VERBS[cmd_name]
        command: click.Command = getattr(import_module(f"stead.cli.{verb.module}"), verb.name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a misspelt one gets the nearest as a hint."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, 1)
            meant = "config check" if args[0] == "check" else near[0] if near else ""
            ctx.fail(f"there is no verb {args[0]!r}" + (f": did you mean `stead {meant}`?" if meant else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by section, from the table alone: no verb is imported for it."""
        for section in dict.fromkeys(verb.section for verb in VERBS.values()):
            with formatter.section(section):
                rows = [(name, verb.summary) for name, verb in VERBS.items() if verb.section == section]
                formatter.write_dl(rows, col_max=14)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run and exit. A verb's integer result is the exit code."""
        given: Sequence[str] | None = args[0] if args else extra.get("args")
        debug = "--debug" in (sys.argv[1:] if given is None else given)
        _tolerant()
        try:
            result = super().main(*args, **{**extra, "standalone_mode": False})
            if sys.stdout is not None:
                sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        except click.ClickException as error:
            _say(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            sys.exit(_closed_pipe())
        except Exception as error:
            if debug:
                raise
            sys.exit(_explain(error))
        sys.exit(result if isinstance(result, int) else 0)


def _tolerant() -> None:
    """Where the terminal's encoding lacks a character, show a substitute rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _say(error: click.ClickException) -> None:
    """A wrong call, in one line, and where its help is; a call of nothing gets that help (click 8.2 and newer raise it)."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        click.echo(error.format_message(), err=True)
        return
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "stead"
    message = error.format_message().replace("a valid integer range", "a whole number").replace("a valid float range", "a number")
    click.echo(f"stead: {message[:1].lower()}{message[1:].rstrip('.')} (`{path} --help` shows how)", err=True)


def _explain(error: Exception) -> int:
    """One sentence on stderr, and the exit code."""
    from stead.cli.table import printable
    from stead.model.errors import EXIT_FAILURE, SteadError

    if isinstance(error, SteadError):
        click.echo(f"stead: {printable(str(error.problem))}", err=True)
        return error.problem.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"stead: {error.strerror[:1].lower()}{error.strerror[1:]}{printable(where)}", err=True)
        return EXIT_FAILURE
    what = f"unexpected {type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    click.echo(
        f"stead: {printable(what)}: run it again with `stead --debug …` to see where; the agent's log is stead.log", err=True
    )
    return EXIT_FAILURE


def _closed_pipe() -> int:
    """The reader of our output left (`stead runs | head`): say nothing, also not while the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@click.group(cls=Stead, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--state", metavar="DIR", help="Where socket, stores and token are. Default: STEAD_STATE_DIR, else by user.")
@click.option("--debug", is_flag=True, help="Show where an unexpected error came from.")
@click.version_option(__version__, message="stead %(version)s")
@click.pass_context
def stead(ctx: click.Context, state: str | None, debug: bool) -> None:
    """Look after this machine: observe, find, propose, decide, act reversibly, verify, record."""
    ctx.obj = state
