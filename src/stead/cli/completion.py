"""`stead completion` and `stead help`."""

from __future__ import annotations

import click

from stead.cli.table import table
from stead.cli.verb import examples
from stead.model import errors
from stead.model.errors import EXIT_USAGE, SteadError

COMPLETION = examples(
    ("stead completion bash > /etc/bash_completion.d/stead", "for everyone"),
    ('eval "$(stead completion zsh)"', "in ~/.zshrc"),
    ("stead completion fish > ~/.config/fish/completions/stead.fish", "for fish"),
)
HELP = examples(("stead help undo", "the same as `stead undo --help`"), ("stead help exit-codes", "what exit codes mean"))
EXIT_CODES: tuple[tuple[int, str], ...] = (
    (errors.EXIT_OK, "done, or nothing to do"),
    (errors.EXIT_FAILURE, "failed; the sentence on stderr says what, where and what to do"),
    (errors.EXIT_USAGE, "wrong call or configuration"),
    (errors.EXIT_UNDONE, "the change did not help, and was put back"),
    (errors.EXIT_UNDO_FAILED, "putting it back failed: `stead why` says what follows"),
    (errors.EXIT_APPROVAL, "approval required, or denied"),
    (errors.EXIT_WINDOW, "outside its maintenance window"),
    (errors.EXIT_PAUSED, "paused, or the budget of changes is used up"),
    (errors.EXIT_UNREACHABLE, "no agent answers"),
    (errors.EXIT_TIMEOUT, "no answer in time; what was asked may still be done"),
    (130, "ended by Ctrl-C"),
)


@click.command(epilog=COMPLETION)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise SteadError(f"no completion for {shell}", "", "use bash, zsh or fish", code="usage.shell", exit_code=EXIT_USAGE)
    script = kind(ctx.find_root().command, {}, "stead", "_STEAD_COMPLETE")
    click.echo(script.source_template % script.source_vars())


@click.command("help", epilog=HELP)
@click.argument("words", nargs=-1, metavar="[VERB|exit-codes]")
@click.pass_context
def help_verb(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a verb, or what the exit codes mean."""
    if words == ("exit-codes",):
        rows = [(str(code), meaning) for code, meaning in EXIT_CODES]
        click.echo("\n".join(table(("CODE", "MEANING"), rows, right=frozenset({0}))))
        return
    root = ctx.find_root()
    command: click.Command = root.command
    context = root
    for word in words:
        found = command.get_command(context, word) if isinstance(command, click.Group) else None
        if found is None:
            what = f"there is no verb {' '.join(words)!r}"
            raise SteadError(what, "", "`stead --help` lists them", code="usage.verb", exit_code=EXIT_USAGE)
        command, context = found, click.Context(found, info_name=word, parent=context)
    click.echo(command.get_help(context))
