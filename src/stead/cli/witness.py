"""`stead ledger witness` and `stead ledger renew`: who vouches for the record, and the way on when it can't go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stead.cli.look import tick_mark
from stead.cli.table import Cell, pairs, paragraph, printable, styled, table
from stead.cli.verb import Session, confirm, examples, options, say
from stead.cli.words import ago, plural
from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, SteadError
from stead.model.messages import GetStatus, Status
from stead.model.witness_messages import GetWitnesses, WitnessList, WitnessView

if TYPE_CHECKING:
    from stead.ledger.renew import Renewed
    from stead.model.config import Paths

WITNESS = examples(
    ("stead ledger witness", "have the newest checkpoint cosigned now"),
    ("stead ledger witness --list", "how they answered last, without asking"),
)
RENEW = examples(("stead ledger renew --reason 'the disk died, restored from Monday'", "a new log that says so"))
NOBODY = frozenset(("agent.unreachable", "agent.path-too-long"))
WAIT_S = 120.0  # two rounds of the longest sensible ledger.witness_timeout_s
WARNING = (
    "A new log begins under a new name and key. The old one is kept, and never signs again: proofs from it stay good for what it"
    " signed. Witnesses and whoever pinned the key need the new one (`stead ledger key`)."
)


@click.command(epilog=WITNESS, short_help="Have the newest checkpoint cosigned; show who did.")
@click.option("--list", "only_list", is_flag=True, help="Ask no witness; show how they answered last.")
@options
def witness(session: Session, only_list: bool) -> int:
    """Hand the newest checkpoint to the witnesses, and show what each answered. Exit code 1 if the quorum is missing."""
    from stead.wire import Door

    with Door(session.paths.socket, timeout_s=WAIT_S) as door:
        answer = door.ask(GetWitnesses(submit=not only_list), WitnessList)
        now_ms = door.ask(GetStatus(), Status).now_ms
    session.show(answer, lambda: witness_lines(answer, now_ms))
    return EXIT_OK if only_list or (answer.quorum and answer.stopped is None) else EXIT_FAILURE


def witness_lines(answer: WitnessList, now_ms: int) -> list[str]:
    """The ledger, its witnesses, and whose witness this host is."""
    cosigned: Cell = "no checkpoint yet"
    if answer.cosigned is not None:
        words = "with the policy's quorum" if answer.quorum else "without the policy's quorum"
        cosigned = (f"{plural(answer.cosigned, 'entry', 'entries')}, {words}", "good" if answer.quorum else "warning")
    facts: list[tuple[str, Cell]] = [
        ("ledger", f"{answer.origin}, {plural(answer.size, 'entry', 'entries')}"),
        ("cosigned", cosigned),
    ]
    if answer.stopped:
        facts.append(("stopped", (str(answer.stopped), "critical")))
    rows = [_row(one, now_ms) for one in answer.witnesses]
    shown = table(("", "WITNESS", "SIZE", "WHEN", "ANSWER"), rows, right=frozenset({2}), none="no witnesses")
    lines = [*pairs(facts, wrap=True), "", *shown]
    if any(line.endswith("…") for line in shown):  # no room for what to do
        whole: list[tuple[str, Cell]] = [(one.name, one.detail) for one in answer.witnesses if one.detail]
        lines += ["", *pairs(whole, wrap=True)]
    if answer.logs:
        lines += ["", styled("this host cosigns", "bold")]
        lines += [f"  {printable(one.origin)}  {_held(one.size)}{printable(one.refused)}".rstrip() for one in answer.logs]
    return [*lines, "", *pairs([("as a witness", answer.vkey)])] if answer.vkey else lines


def standing(paths: Paths) -> SteadError | None:
    """What speaks against this state's ledger beside its own leaves: a witness, or a checkpoint that was kept beside it.

    The agent is asked; while none runs, the files are looked at. None also where neither can be.
    """
    from stead.ledger.offline import open_offline
    from stead.ledger.standing import Standing
    from stead.tlog.keys import parse_vkey
    from stead.wire import Door

    try:
        with Door(paths.socket) as door:
            stopped = door.ask(GetWitnesses(), WitnessList).stopped
        return SteadError.of(stopped) if stopped else None
    except SteadError as error:
        if error.problem.code not in NOBODY:
            return None
    state = Path(paths.state)
    try:
        with open_offline(state / "ledger.db") as log:
            beside = Standing(state)
            said = beside.why_stopped()
            return beside.check(log, [parse_vkey(text) for text in log.vkeys()], [said.witness] if said else [])
    except SteadError as error:
        return error if error.problem.code in ("ledger.truncated", "ledger.altered") else None


def _row(one: WitnessView, now_ms: int) -> list[Cell]:
    said = one.detail or ("cosigned" if one.ok else "")
    at = ago(one.at_ms, now_ms) if one.at_ms is not None else ""
    return [tick_mark(one.ok), one.name, "" if one.size is None else str(one.size), at, said]


def _held(size: int | None) -> str:
    return "not asked yet  " if size is None else f"{plural(size, 'entry', 'entries')}  "


@click.command(epilog=RENEW, short_help="Begin a new ledger after one that can't go on.")
@click.option("--reason", required=True, help="What happened; it is recorded for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--config", metavar="FILE", type=click.Path(), help="Configuration file of the agent.")
@options
def renew(session: Session, reason: str, yes: bool, config: str | None) -> None:
    """Begin a new ledger after one that can't go on: rolled back, forked, rewritten, truncated. The agent must be stopped.

    Runs with their leases, holds, approvals and findings are carried over; the old database stays beside the new one.
    """
    from stead.config import load_config
    from stead.host import LocalHost, SystemClock
    from stead.ledger import renew as renewal
    from stead.ledger.key_files import KeyFiles
    from stead.ledger.keys import KeyRing
    from stead.ledger.seal import SystemdCreds
    from stead.model.policy import Actor

    settings, paths = load_config(config_path=config, state_dir=session.state)
    state, host = Path(paths.state), LocalHost()
    _check_owner(state)
    for line in paragraph(WARNING):
        say(line, err=True)
    confirm(f"Begin a new ledger in {state}?", yes, "not renewed", "renew.declined")
    keys = KeyRing(KeyFiles(state / "keys", SystemdCreds(host)), settings.ledger.key_overlap_days)
    by = Actor("user", f"uid:{os.getuid() if hasattr(os, 'getuid') else 0}")
    done = renewal.renew(state, settings.agent.host_name or host.name, SystemClock(), keys, reason, by)
    session.show(done, lambda: renewed_lines(done))


def renewed_lines(done: Renewed) -> list[str]:
    """What was begun, and what is where."""
    carried = ", ".join(plural(count, _ONE[name], name) for name, count in done.carried.items() if count and name in _ONE)
    rows: list[tuple[str, Cell]] = [
        ("ledger", (f"{done.origin} begins", "good")),
        ("after", f"{done.former or 'one of which nothing is left'}, {plural(done.former_size, 'entry', 'entries')} known"),
        ("carried over", carried or "nothing"),
        ("old database", done.kept or "there was none"),
    ]
    rows += [("not readable", (what, "warning")) for what in done.unreadable]
    return [*pairs(rows), "Start the agent, and give its new key to your witnesses: `stead ledger key`."]


_ONE = {"runs": "run", "findings": "finding", "holds": "hold", "approvals": "approval"}


def _check_owner(state: Path) -> None:
    """The new files must be the agent's to write. SteadError for anybody else, and where there is no state."""
    try:
        owner = state.stat().st_uid
    except OSError as error:
        what = f"the state can't be looked at: {error.strerror}"
        raise SteadError(what, str(state), "name the agent's state with --state", code="ledger.none") from None
    if hasattr(os, "geteuid") and owner != os.geteuid():
        fix = "run this as that user: what it writes must be the agent's"
        raise SteadError(f"the state belongs to uid {owner}", str(state), fix, code="state.not-yours", exit_code=EXIT_USAGE)
