"""`stead pause`, `resume`, `mode`, `holds` and `lift`: the limits of what stead may do. Lowering needs nobody."""

from __future__ import annotations

import click

from stead.cli.look import MODES
from stead.cli.plan import actor
from stead.cli.table import pairs, printable, table
from stead.cli.verb import Session, examples, options
from stead.cli.words import moment
from stead.model.change import Hold
from stead.model.errors import EXIT_UNREACHABLE, SteadError
from stead.model.messages import GetStatus, HoldList, Lift, ListHolds, Pause, Resume, SetAutonomy, Status
from stead.model.policy import PROFILE_CEILINGS, Mode

PAUSE = examples(("stead pause", "nothing is changed from now on"), ("stead pause --reason deploy", "and why"))
RESUME = examples(
    ("stead resume", "act again"),
)
MODE = examples(
    ("stead mode", "show mode, ceiling and lock"),
    ("stead mode act", "do what the policy allows"),
    ("stead mode advise", "only propose; instant"),
    ("stead mode --ceiling 0", "nothing acts without approval"),
    ("stead mode --lock", "ceiling 0 until two people unlock"),
)
HOLDS = examples(
    ("stead holds", "what people have put off"),
)
LIFT = examples(
    ("stead lift calm-cpu-hog process:4711", "let that playbook act on that target again"),
)


@click.command(epilog=PAUSE)
@click.option("--reason", default="", help="Why; it is recorded and shown.")
@options
def pause(session: Session, reason: str) -> None:
    """Stop all forward acting at once. Anyone may; undoing goes on."""
    try:
        answer = session.ask(Pause(reason), Status)
    except SteadError as error:
        if error.problem.exit_code != EXIT_UNREACHABLE:
            raise
        fix = f"{error.problem.fix}; to keep it paused from its first moment, create the file {session.paths.pause}"
        raise SteadError(error.problem.what, "", fix, code=error.problem.code, exit_code=EXIT_UNREACHABLE) from None
    session.show(answer, lambda: ["paused: nothing is changed until `stead resume`"])


@click.command(epilog=RESUME)
@options
def resume(session: Session) -> None:
    """Let stead act again after a pause."""
    answer = session.ask(Resume(), Status)
    still = f"still paused: {printable(answer.pause_reason)}" if answer.paused else f"resumed, in mode {answer.mode}"
    session.show(answer, lambda: [still])


@click.command(epilog=MODE)
@click.argument("mode", required=False, type=click.Choice(["observe", "advise", "act"]))
@click.option("--ceiling", type=click.IntRange(0, 2), help="The highest tier that acts alone (0: none does).")
@click.option("--scope", default="host", show_default=True, help="Where the ceiling holds: host, or a label as key=value.")
@click.option("--lock/--unlock", "locked", default=None, help="Hold the ceiling at 0; unlocking needs two people.")
@options
def mode(session: Session, mode: Mode | None, ceiling: int | None, scope: str, locked: bool | None) -> None:
    """Show or set how far stead may go. What is not named stays as it is."""
    if mode is None and ceiling is None and locked is None:
        answer = session.ask(GetStatus(), Status)
    else:
        answer = session.ask(SetAutonomy(mode, ceiling, scope, locked), Status)
    session.show(answer.autonomy if session.json else answer, lambda: mode_lines(answer))


def mode_lines(now: Status) -> list[str]:
    """Mode, ceilings, lock, pause."""
    ceilings = {"host": PROFILE_CEILINGS.get(now.profile, 0), **now.autonomy.ceilings}
    return pairs(
        [
            ("mode", MODES[now.mode]),
            *((f"ceiling of {scope}", f"tier {tier}") for scope, tier in ceilings.items()),
            ("locked", "yes: nothing acts alone" if now.autonomy.locked else "no"),
            ("paused", "yes" if now.paused else "no"),
        ]
    )


@click.command(epilog=HOLDS)
@options
def holds(session: Session) -> None:
    """List the playbooks that people have put off a target by undoing them."""
    answer = session.ask(ListHolds(), HoldList)
    session.show(answer, lambda: hold_lines(answer.holds))


@click.command(epilog=LIFT)
@click.argument("playbook")
@click.argument("target")
@options
def lift(session: Session, playbook: str, target: str) -> None:
    """Lift a hold: PLAYBOOK may act on TARGET again. Both as `stead holds` shows them."""
    answer = session.ask(Lift(playbook, target), HoldList)
    session.show(answer, lambda: [f"lifted: {playbook} may act on {target} again"])


def hold_lines(found: tuple[Hold, ...]) -> list[str]:
    """One row a hold."""
    rows = [
        (
            one.playbook,
            one.target.partition("@")[0],
            actor(one.by),
            moment(one.at_ms),
            f"finding {one.finding_id[:13]} clears, or `stead lift`" if one.finding_id else "`stead lift`",
        )
        for one in found
    ]
    return table(("PLAYBOOK", "TARGET", "BY", "SINCE", "UNTIL"), rows, none="no holds")
