"""`stead proposals` and `stead runs`: what stead would do, waits to do, does and did."""

from __future__ import annotations

from collections.abc import Sequence

import click

from stead.cli.plan import (
    MEANINGS,
    STATE_STYLES,
    answer_of,
    expiry,
    reason_of,
    rule_of,
    run_lines,
    target_of,
    undo_words,
    verdict,
)
from stead.cli.table import Cell, table
from stead.cli.verb import Session, examples, options
from stead.cli.words import ago, short_ids
from stead.ledger.words import governed_words
from stead.model.change import Run
from stead.model.errors import SteadError
from stead.model.messages import GetRun, GetStatus, ListRuns, RunList, Status

PROPOSALS = examples(
    ("stead proposals", "what waits or was advised"),
    ("stead proposals 0192f0c1-7b3e", "one, with its diff, prediction and undo"),
)
RUNS = examples(("stead runs", "what was done, newest first"), ("stead runs 0192f0c1-7b3e", "one, from proposal to verdict"))
LIMIT = click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="At most so many.")


@click.command(epilog=PROPOSALS)
@click.argument("proposal", required=False, metavar="[ID]")
@LIMIT
@options
def proposals(session: Session, proposal: str | None, limit: int) -> None:
    """List the remedies that wait or were advised; with ID (or its start) show one: diff, prediction, undo, why."""
    if proposal is not None:
        show_run(session, find_run(session, proposal))
        return
    answer = session.ask(ListRuns("proposals", limit), RunList)
    now_ms = 0 if session.json else now_of(session)
    session.show(answer, lambda: proposal_lines(answer.runs, now_ms))


@click.command(epilog=RUNS)
@click.argument("run", required=False, metavar="[ID]")
@LIMIT
@options
def runs(session: Session, run: str | None, limit: int) -> None:
    """List what was done and what came of it; with ID (or its start) show one."""
    if run is not None:
        show_run(session, find_run(session, run))
        return
    answer = session.ask(ListRuns("runs", limit), RunList)
    now_ms = 0 if session.json else now_of(session)
    session.show(answer, lambda: runs_lines(answer.runs, now_ms))


def find_run(session: Session, prefix: str) -> Run:
    """One run by its id or the start of it. SteadError when there is none, or more than one."""
    found = session.ask(GetRun(prefix), RunList).runs
    if len(found) != 1:
        what = (
            f"no proposal or run has an id that starts with {prefix!r}"
            if not found
            else f"{prefix!r} is the start of several ids"
        )
        raise SteadError(what, "", "`stead proposals` and `stead runs` list them", code="run.unknown")
    return found[0]


def now_of(session: Session) -> int:
    """The agent's clock, Unix milliseconds."""
    return session.ask(GetStatus(), Status).now_ms


def show_run(session: Session, run: Run) -> None:
    """Print one run whole."""
    now_ms = 0 if session.json else now_of(session)
    session.show(RunList((run,)), lambda: run_lines(run, now_ms))


def proposal_lines(found: Sequence[Run], now_ms: int) -> list[str]:
    """One row a proposal."""
    short = short_ids(run.id for run in found)
    rows: list[list[Cell]] = [
        [
            short[run.id],
            run.proposal.playbook,
            target_of(run.proposal),
            answer_of(run),
            (run.state, STATE_STYLES.get(run.state, "")),
            expiry(run.proposal.expires_ms, now_ms) if run.state == "waiting" else "",
            rule_of(run),
        ]
        for run in found
    ]
    return table(("ID", "PLAYBOOK", "TARGET", "DECISION", "STATE", "EXPIRES", "RULE"), rows, none="nothing is proposed")


def outcome(run: Run) -> str:
    """What came of it, in a few words."""
    if run.state in ("undoing", "undone") and run.undo_reason:
        return f"{MEANINGS[run.state]}: {undo_words(run)}"
    if run.state == "undo_failed":
        return reason_of(run) or MEANINGS[run.state]
    if run.governed and not run.final:
        return "; ".join(governed_words(run.proposal.steps[one.step], one) for one in run.governed)
    return verdict(run) if run.verdict else reason_of(run) or MEANINGS.get(run.state, "")


def runs_lines(found: Sequence[Run], now_ms: int) -> list[str]:
    """One row a run."""
    short = short_ids(run.id for run in found)
    rows: list[list[Cell]] = [
        [
            short[run.id],
            run.proposal.playbook,
            target_of(run.proposal),
            (run.state, STATE_STYLES.get(run.state, "")),
            ago(run.acted_ms or run.proposal.created_ms, now_ms),
            outcome(run),
        ]
        for run in found
    ]
    return table(("ID", "PLAYBOOK", "TARGET", "STATE", "WHEN", "OUTCOME"), rows, none="nothing was done yet")
