"""What every verb shares: its options, the agent it asks, and how it answers as a table or as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from stead.model.config import Paths
    from stead.model.messages import RequestBody
    from stead.wire import Door

T = TypeVar("T")
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
            click.echo(line, color=colour())


def as_json(answer: Any) -> str:
    """Give any answer as indented JSON. What is no Unicode (octets of a stranger's policy) becomes question marks."""
    try:
        data = msgspec.json.encode(answer)
    except UnicodeEncodeError:
        from stead.ledger.leaf import clean_text

        data = msgspec.json.encode(clean_text(msgspec.to_builtins(answer)))
    return msgspec.json.format(data, indent=2).decode()


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
