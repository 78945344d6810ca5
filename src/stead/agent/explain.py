"""`stead why <thing>`: the chain from samples to finding, proposal, rule, change and verdict, from recorded evidence.

The thing may be an id (or a unique prefix) of a finding or run, a metric, a process ("4711", "process:4711"), a
workload, or an actuator. The answer names the ledger entry behind each link.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from stead.model.change import Run, Step
from stead.model.errors import EXIT_FAILURE, SteadError
from stead.model.find import Finding
from stead.model.messages import Explanation, Link, Which
from stead.model.record import StoredEntry

SCAN_LIMIT: Final = 500
STATIONS: Final = {"finding": "find", "proposal": "propose", "decision": "decide", "governance": "decide", "approval": "decide"}
STATIONS_LATER: Final = {"attempt": "act", "receipt": "act", "run": "act", "conflict": "act", "verdict": "verify"}


class Evidence(Protocol):
    """What explanations are made from: the ledger's reading side."""

    def run(self, prefix: str) -> Run | None:
        """One run by id or unique prefix."""

    def runs(self, which: Which, limit: int) -> Sequence[Run]:
        """Runs, newest first."""

    def findings(self, cleared: bool, limit: int) -> Sequence[Finding]:
        """Findings, newest first."""

    def entries(self, limit: int, subject: str = "") -> Sequence[StoredEntry]:
        """Entries, newest first."""


def explain(thing: str, evidence: Evidence) -> Explanation:
    """Everything that is recorded about a thing, in order of time."""
    runs = _runs(thing, evidence)
    findings = _findings(thing, evidence, runs)
    if not runs and not findings:
        raise SteadError(
            f"nothing recorded about {thing!r}",
            "ledger",
            "try an id from `stead findings` or `stead runs`",
            code="why.unknown",
            exit_code=EXIT_FAILURE,
        )
    links = [link for finding in findings for link in _finding_links(finding)]
    for run in runs:
        links += _entry_links(run, evidence)
    links.sort(key=lambda link: link.at_ms)
    return Explanation(thing, summary(findings, runs), tuple(links))


def _runs(thing: str, evidence: Evidence) -> list[Run]:
    if len(thing) >= 4 and (run := evidence.run(thing)) is not None:
        return [run]
    return [run for run in evidence.runs("all", SCAN_LIMIT) if _about(thing, run)]


def _about(thing: str, run: Run) -> bool:
    proposal = run.proposal
    if thing in (proposal.playbook, proposal.finding_id):
        return True
    for step in proposal.steps:
        if thing in (step.actuator, str(step.target), step.target.name):
            return True
    return thing in proposal.labels.values()


def _findings(thing: str, evidence: Evidence, runs: Sequence[Run]) -> list[Finding]:
    wanted = {run.proposal.finding_id for run in runs}
    known = {f.id: f for f in (*evidence.findings(True, SCAN_LIMIT), *evidence.findings(False, SCAN_LIMIT))}
    return [f for f in known.values() if f.id in wanted or _concerns(thing, f)]


def _concerns(thing: str, finding: Finding) -> bool:
    name = finding.subject.split(":", 1)[-1].split("@", 1)[0]
    exact = (finding.metric, finding.subject, name, f"{finding.subject.split(':', 1)[0]}:{name}")
    return thing in exact or (len(thing) >= 8 and finding.id.startswith(thing)) or thing in finding.labels.values()


def _finding_links(finding: Finding) -> list[Link]:
    links = []
    if finding.evidence:
        first, last = finding.evidence[0], finding.evidence[-1]
        values = f"{_number(first[1])} … {_number(last[1])} {finding.unit}"
        words = f"{finding.metric} of {finding.subject}: {values}, past {_number(finding.threshold)}"
        links.append(Link(finding.since_ms, "observe", words))
    links.append(Link(finding.opened_ms, "find", f"{finding.title} ({finding.band})", finding.id))
    if finding.cleared_ms is not None:
        links.append(Link(finding.cleared_ms, "find", f"cleared: {finding.title}", finding.id))
    return links


def _entry_links(run: Run, evidence: Evidence) -> list[Link]:
    found = [entry for entry in evidence.entries(SCAN_LIMIT, run.id) if not entry.type.startswith("finding.")]
    return [Link(e.ts_ms, _station(e.type), words_of(e, run), e.id) for e in sorted(found, key=lambda e: e.seq)]


def _station(entry_type: str) -> str:
    kind = entry_type.split(".", 1)[0]
    return STATIONS.get(kind) or STATIONS_LATER.get(kind) or "record"


def words_of(entry: StoredEntry, run: Run) -> str:
    """One entry in words."""
    kind = entry.type
    body: dict[str, Any] = msgspec.json.decode(entry.leaf).get("body", {})
    if kind == "proposal.made":
        return f"{run.proposal.playbook}: {run.proposal.title}; " + "; ".join(diff_words(step) for step in run.proposal.steps)
    if kind == "decision.made" and run.decision is not None:
        return f"{run.decision.answer}: " + "; ".join(run.decision.reasons or run.decision.rules)
    if kind == "verdict.made" and run.verdict is not None:
        return f"{run.verdict.result}: {run.verdict.reason}"
    said = ", ".join(
        f"{key} {_short(value)}" for key, value in body.items() if isinstance(value, str | int | float) and not key.endswith("id")
    )
    return f"{kind.replace('.', ' ')}{': ' + said if said else ''}"


def diff_words(step: Step) -> str:
    """A step's change: "priority of process:4711: nice 0 → 19"."""
    changes = ", ".join(f"{key} {_short(before)} → {_short(want)}" for key, (before, want) in step.diff.items())
    return f"{step.actuator} of {step.target}: {changes or 'no change'}"


def summary(findings: Sequence[Finding], runs: Sequence[Run]) -> str:
    """The newest state in one sentence."""
    if runs:
        run = max(runs, key=lambda r: r.updated_ms)
        what = "; ".join(diff_words(step) for step in run.proposal.steps) or run.proposal.impossible
        return f"{run.proposal.playbook} is {run.state}: {run.reason or what}"
    finding = max(findings, key=lambda f: f.updated_ms)
    state = "open" if finding.open else f"cleared {clock(finding.cleared_ms or 0)}"
    return f"{finding.title} ({state}); nothing has been proposed for it"


def clock(at_ms: int) -> str:
    """A time for reading."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S UTC")


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
