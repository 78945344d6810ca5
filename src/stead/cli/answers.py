"""`stead approve`, `deny`, `undo` and `cancel`: a person's answers, each about one plan that was shown."""

from __future__ import annotations

import time

import click

from stead.cli.changes import find_run, now_of
from stead.cli.plan import MEANINGS, reason_of, run_lines, target_of, undo_words
from stead.cli.table import printable
from stead.cli.verb import Session, confirm, examples, options, say
from stead.cli.words import plural
from stead.model.change import Run
from stead.model.errors import (
    EXIT_APPROVAL,
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_TIMEOUT,
    EXIT_UNDO_FAILED,
    EXIT_UNDONE,
    SteadError,
)
from stead.model.messages import Approve, Cancel, Deny, ListRuns, RunList, Undo

APPROVE = examples(
    ("stead approve 0192f0c1-7b3e", "show the plan, ask, approve"),
    ("stead approve 0192f0c1-7b3e --yes --wait", "without asking; wait for the verdict"),
)
DENY = examples(
    ("stead deny 0192f0c1-7b3e --reason 'backup runs'", "turn it down, and say why"),
)
UNDO = examples(
    ("stead undo latest", "put the newest change back"),
    ("stead undo 0192f0c1-7b3e --no-wait", "one run, by the start of its id; do not wait"),
)
CANCEL = examples(
    ("stead cancel 0192f0c1-7b3e", "stop it between steps"),
)
MOVING = frozenset(("approved", "acting", "verifying", "undoing"))
UNDOABLE = frozenset(("approved", "acting", "verifying", "held", "kept", "undo_failed"))
LOOK_S = 0.2  # between two looks at a run that is waited for
YES = click.option("--yes", is_flag=True, help="Do not ask.")
WAIT = click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Wait at most so many seconds.")


@click.command(epilog=APPROVE)
@click.argument("proposal", metavar="ID")
@YES
@click.option("--wait", is_flag=True, help="Wait until it is verified or put back.")
@WAIT
@options
def approve(session: Session, proposal: str, yes: bool, wait: bool, timeout_s: float) -> int:
    """Approve one proposal: its plan is shown, and the approval holds for exactly that plan."""
    run = find_run(session, proposal)
    if run.state != "waiting":
        meaning = MEANINGS.get(run.state, run.reason or run.state)
        what = f"proposal {run.id} does not wait for approval: it is {run.state} ({run.reason or meaning})"
        raise SteadError(what, "", "`stead proposals` lists those that do", code="run.not-waiting")
    _show_plan(session, run)
    confirm(f"Approve plan {run.proposal.plan_hash[:12]}?", yes, "not approved", "approve.declined")
    after = _only(session.ask(Approve(run.id, run.proposal.plan_hash), RunList))
    if wait:
        after = _wait(session, after, timeout_s)
    session.show(RunList((after,)), lambda: [_outcome(after)])
    return _code(after, wanted_undone=False)


@click.command(epilog=DENY)
@click.argument("proposal", metavar="ID")
@click.option("--reason", default="", help="Why; it is recorded.")
@options
def deny(session: Session, proposal: str, reason: str) -> None:
    """Turn one proposal down."""
    after = _only(session.ask(Deny(find_run(session, proposal).id, reason), RunList))
    session.show(RunList((after,)), lambda: [_outcome(after)])


@click.command(epilog=UNDO)
@click.argument("run", metavar="ID|latest")
@click.option("--wait/--no-wait", default=True, help="Wait for the outcome (default).")
@WAIT
@options
def undo(session: Session, run: str, wait: bool, timeout_s: float) -> int:
    """Put back what a run changed. Its playbook stays off that target until the finding clears or `stead lift`."""
    chosen = _latest(session) if run == "latest" else find_run(session, run)
    after = _only(session.ask(Undo(chosen.id), RunList))
    if wait:
        after = _wait(session, after, timeout_s)
    session.show(RunList((after,)), lambda: [_outcome(after)])
    return _code(after, wanted_undone=True)


@click.command(epilog=CANCEL)
@click.argument("run", metavar="ID")
@click.option("--wait/--no-wait", default=True, help="Wait for the outcome (default).")
@WAIT
@options
def cancel(session: Session, run: str, wait: bool, timeout_s: float) -> int:
    """Stop a run between its steps; what it did is put back in reverse order."""
    after = _only(session.ask(Cancel(find_run(session, run).id), RunList))
    if wait:
        after = _wait(session, after, timeout_s)
    session.show(RunList((after,)), lambda: [_outcome(after)])
    return _code(after, wanted_undone=True)


def _show_plan(session: Session, run: Run) -> None:
    """The plan that is being approved, on stderr when stdout is for a program."""
    for line in run_lines(run, now_of(session)):
        say(line, err=session.json)


def _only(answer: RunList) -> Run:
    """The one run of an answer."""
    if len(answer.runs) != 1:
        fix = "use the same version of stead on both sides"
        raise SteadError("the agent did not say what became of it", "", fix, code="wire.unexpected")
    return answer.runs[0]


def _latest(session: Session) -> Run:
    """The newest run that has something to put back. SteadError when there is none."""
    done = [run for run in session.ask(ListRuns("runs"), RunList).runs if run.state in UNDOABLE and run.receipts]
    candidates = [run for run in done if not any(step.actuator == "autonomy" for step in run.proposal.steps)]
    if not candidates:
        raise SteadError("there is nothing to undo", "", "`stead runs` lists what was done", code="undo.nothing")
    return max(candidates, key=lambda run: run.acted_ms or run.proposal.created_ms)


def _wait(session: Session, run: Run, timeout_s: float) -> Run:
    """Look until the run has come to rest. SteadError `run.still-moving` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while run.state in MOVING:
        if time.monotonic() >= deadline:
            what = f"run {run.id} is still {run.state} after {timeout_s:g} s"
            raise SteadError(what, "", f"look with `stead runs {run.id}`", code="run.still-moving", exit_code=EXIT_TIMEOUT)
        time.sleep(LOOK_S)
        run = find_run(session, run.id)
    return run


def _outcome(run: Run) -> str:
    """What became of it, in one line."""
    why = undo_words(run) if run.state in ("undoing", "undone") else reason_of(run)
    reason = f": {printable(why)}" if why else ""
    words = MEANINGS.get(run.state, "")
    missing = (run.decision.approvals_needed if run.decision else 1) - len(run.approvals)
    if run.state == "waiting" and missing > 0:
        words = f"needs {plural(missing, 'more approval')}, of other people"
    meaning = f" ({words})" if words and words != run.reason else ""
    return f"{run.proposal.playbook} on {target_of(run.proposal)} is {run.state.replace('_', ' ')}{meaning}{reason}"


def _code(run: Run, *, wanted_undone: bool) -> int:
    """The exit code that tells a script how it ended."""
    if run.state == "undo_failed":
        return EXIT_UNDO_FAILED
    if run.state in ("failed", "conflict"):
        return EXIT_FAILURE
    if run.state == "refused":
        return EXIT_APPROVAL
    if run.state == "undone":
        return EXIT_OK if wanted_undone else EXIT_UNDONE
    return EXIT_OK
