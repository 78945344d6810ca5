"""What every verb shares: its options, the agent it asks, and how it answers as a table or as JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click
import msgspec

from stead.cli.table import printable
from stead.model.errors import EXIT_APPROVAL, EXIT_USAGE, SteadError

if TYPE_CHECKING:
    from stead.model.config import Paths
    from stead.model.messages import RequestBody
    from stead.wire import Door

T = TypeVar("T")
_COLOURS: Final = re.compile(r"(\x1b\[[0-9;]*m|\n)")
_NOT_ASCII: Final = re.compile(r"[^\n -~]")
Output = Literal["table", "json"]
F = TypeVar("F", bound=Callable[..., int | None])


class Session:
    """One call of one verb: where the agent is, and what form the answer takes."""

    def __init__(self, state: str | None, output: Output) -> None:
        self.state, self.output = state, output
        self._door: Door | None = None

    @property
    def json(self) -> bool:
        """The answer is for a program."""
        return self.output == "json"

    @property
    def paths(self) -> Paths:
        """Where things are, by the same rule as the agent's."""
        from stead.config import find_paths

        return find_paths(self.state, os.environ)

    def ask(self, body: RequestBody, expect: type[T]) -> T:
        """Ask the agent. SteadError when it refuses, is silent or is not there."""
        from stead.wire import Door

        if self._door is None:
            self._door = Door(self.paths.socket)
        return self._door.ask(body, expect)

    def close(self) -> None:
        """Hang up."""
        if self._door is not None:
            self._door.close()

    def show(self, answer: Any, lines: Callable[[], Sequence[str]]) -> None:
        """Print the answer: as JSON, or the lines that `lines` makes of it."""
        if self.json:
            click.echo(as_json(answer))
            return
        for line in lines():
            say(line)


def say(line: str, *, err: bool = False) -> None:
    """Print a line for people. Of what a terminal obeys colours and line ends are left, wherever the text came from."""
    parts = _COLOURS.split(line)
    click.echo("".join(part if index % 2 else printable(part) for index, part in enumerate(parts)), err=err, color=colour())


def confirm(question: str, yes: bool, no: str, code: str) -> None:
    """Ask on a terminal. SteadError where nobody can answer, and where the answer is no: `no` are its words ("not approved")."""
    if yes:
        return
    if not sys.stdin.isatty():
        what = "nobody is there to answer: the input is no terminal"
        raise SteadError(what, "", "add --yes", code="usage.no-terminal", exit_code=EXIT_USAGE)
    if not click.confirm(question, err=True):
        raise SteadError(no, "", "nothing was changed", code=code, exit_code=EXIT_APPROVAL)


def as_json(answer: Any, *, indent: bool = True) -> str:
    """Give any answer as JSON, indented or in one line.

    What is no Unicode (octets of a stranger's policy) becomes question marks, and what can't be seen (C1 controls, changes
    of the reading order) is written as an escape, which is the same value.
    """
    try:
        data = msgspec.json.encode(answer)
    except UnicodeEncodeError:
        from stead.ledger.leaf import clean_text

        data = msgspec.json.encode(clean_text(msgspec.to_builtins(answer)))
    text = (msgspec.json.format(data, indent=2) if indent else data).decode()
    return _NOT_ASCII.sub(lambda found: char if (char := found.group()).isprintable() else json.dumps(char)[1:-1], text)


def colour() -> bool | None:
    """None leaves it to click (colours only on a terminal); False where NO_COLOR is set."""
    return False if os.environ.get("NO_COLOR") else None


def examples(*lines: tuple[str, str]) -> str:
    """Give the examples of a verb as the end of its help: (command, what it does)."""
    width = max(len(command) for command, _ in lines)
    return "\b\nExamples:\n" + "\n".join(f"  {command:<{width}}  {what}" for command, what in lines)


def options(function: F) -> F:
    """Give a function `--state` and `-o`, and a Session in their place."""

    @click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form of the answer.")
    @click.option("--state", metavar="DIR", help="State directory of the agent.")
    @click.pass_context
    @wraps(function)
    def run(ctx: click.Context, /, *args: Any, state: str | None, output: Output, **kwargs: Any) -> int | None:
        session = Session(state or ctx.find_root().obj, output)
        ctx.call_on_close(session.close)
        return function(session, *args, **kwargs)

    return run  # type: ignore[return-value]
