"""`stead status` and `stead findings`: questions to the agent that change nothing."""

from __future__ import annotations

import sys

import click

from stead.cli.intent import intent_lines
from stead.cli.table import Cell, pairs, printable, styled, table
from stead.cli.verb import Session, examples, options
from stead.cli.words import ago, duration, number, short_ids, size, unknown
from stead.ledger.words import governed_words
from stead.model.change import Run
from stead.model.find import Finding
from stead.model.messages import FindingList, GetStatus, ListFindings, Station, Status
from stead.model.policy import PROFILE_CEILINGS
from stead.model.workload import WorkloadStatus

MODES = {
    "observe": "observe: watches and finds; proposes nothing",
    "advise": "advise: finds and proposes, changes nothing (`stead mode act` lets it act)",
    "act": "act: does what the policy allows",
}
STATUS = examples(("stead status", "the agent in one look"), ("stead status -o json | jq .mode", "for a script"))
FINDINGS = examples(("stead findings", "what is wrong now"), ("stead findings --cleared", "also what is over"))


@click.command(epilog=STATUS)
@options
def status(session: Session) -> None:
    """Show host, mode, ceiling, findings, waiting proposals, stations, intent, workloads and stead's own cost."""
    answer = session.ask(GetStatus(), Status)
    session.show(answer, lambda: status_lines(answer))


def status_lines(now: Status) -> list[str]:
    """The agent in one look."""
    lines = pairs(_facts(now))
    lines += ["", styled("stations", "bold"), *(f"  {line}" for line in station_lines(now.stations))]
    if now.limits:
        lines += ["", styled("limits", "bold"), *(f"  {line}" for line in limit_lines(now.limits))]
    if now.intent:
        lines += ["", styled("intent", "bold"), *(f"  {line}" for line in intent_lines(now.intent))]
    if now.workloads:
        lines += ["", *_workload_lines(now.workloads)]
    return lines


def limit_lines(runs: tuple[Run, ...]) -> list[str]:
    """One line a governed value: where it is in its range, and why."""
    short = short_ids(run.id for run in runs)
    lines = []
    for run in runs:
        for one in run.governed:
            step = run.proposal.steps[one.step]
            lines.append(printable(f"{step.target}: {governed_words(step, one)} ({run.proposal.playbook}, run {short[run.id]})"))
    return lines


def _facts(now: Status) -> list[tuple[str, Cell]]:
    ceiling = now.autonomy.ceiling("host", PROFILE_CEILINGS.get(now.profile, 0))
    locked = ", locked: `stead mode --unlock` by two people" if now.autonomy.locked else ""
    tick = "unknown" if now.tick_cpu_ms is None else f"{now.tick_cpu_ms:.2f} ms"
    paused: Cell = (
        (f"yes{': ' + now.pause_reason if now.pause_reason else ''} (`stead resume`)", "warning") if now.paused else "no"
    )
    return [
        ("host", f"{now.host} (stead {now.version}, pid {now.pid}, up {duration((now.now_ms - now.started_ms) / 1000)})"),
        ("mode", MODES[now.mode]),
        ("ceiling", f"{ceiling} (profile {now.profile}{locked})"),
        ("paused", paused),
        ("findings", (f"{now.findings_open} open", "warning" if now.findings_open else "")),
        ("proposals", f"{now.proposals_waiting} waiting for approval"),
        ("runs", f"{now.runs_active} active"),
        ("cost", f"{tick} of CPU a tick, {size(now.rss_bytes)} of memory"),
        ("state", now.state_dir),
    ]


def tick_mark(ok: bool | None) -> tuple[str, str]:
    """A mark for good, bad or unknown, in what the terminal can show; and its style."""
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    if ok is None:
        return "?", "unknown"
    if ok:
        return ("ok" if plain else "✓"), "good"
    return ("!!" if plain else "✗"), "critical"


def station_lines(stations: tuple[Station, ...]) -> list[str]:
    """One line a station: its mark, its name, its detail. The probes that are well, and say no more, share one."""
    quiet = [one for one in stations if one.name.startswith("probe ") and one.ok and not one.detail]
    rows = [one for one in stations if one not in quiet]
    if quiet:
        at = next((i for i, one in enumerate(stations) if one in quiet), 0)
        rows.insert(at, Station("probes", True, f"{len(quiet)} well"))
    width = max((len(station.name) for station in rows), default=0)
    lines = []
    for station in rows:
        mark, style = tick_mark(station.ok)
        detail = station.detail or ("" if station.ok is not None else unknown())
        lines.append(f"{styled(mark, style)} {station.name:<{width}}  {printable(detail)}".rstrip())
    return lines


def _workload_lines(workloads: tuple[WorkloadStatus, ...]) -> list[str]:
    head = ("WORKLOAD", "WORKERS", "HEALTHY", "QUEUE", "REQUESTS", "ERRORS", "CRASHES", "RESTARTS")
    rows = [
        (
            one.name,
            f"{one.running} of {one.wanted}",
            str(sum(worker.state == "healthy" for worker in one.workers)),
            number(one.queue_depth, reason="not reported"),
            number(one.requests_total, reason="not reported"),
            number(one.errors_total, reason="not reported"),
            str(one.crashes),
            str(one.restarts),
        )
        for one in workloads
    ]
    return table(head, rows) + [f"{one.name}: {printable(one.unsupported)}" for one in workloads if one.unsupported]


@click.command(epilog=FINDINGS)
@click.option("--cleared", is_flag=True, help="Also findings that are over.")
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1, 500), help="At most so many.")
@options
def findings(session: Session, cleared: bool, limit: int) -> None:
    """List what is wrong: since when, how bad, and which playbooks answer it."""
    answer = session.ask(ListFindings(cleared, limit), FindingList)
    now_ms = 0 if session.json else session.ask(GetStatus(), Status).now_ms
    session.show(answer, lambda: finding_lines(answer.findings, now_ms))


def finding_lines(found: tuple[Finding, ...], now_ms: int) -> list[str]:
    """One row a finding."""
    short = short_ids(one.id for one in found)
    rows: list[list[Cell]] = [
        [
            short[one.id],
            (one.band, one.band) if one.open else ("cleared", "dim"),
            ago(one.since_ms, now_ms),
            number(one.value, one.unit),
            one.title,
            ", ".join(one.playbooks) or "none",
        ]
        for one in found
    ]
    return table(("ID", "BAND", "SINCE", "VALUE", "FINDING", "ANSWERED BY"), rows, none="nothing is wrong that stead can see")
