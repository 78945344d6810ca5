"""`stead why <thing>`: the chain from samples to finding, proposal, rule, change and verdict, from recorded evidence.

The thing may be an id (or a unique prefix) of a finding or run, a metric, a process ("4711", "process:4711"), a
workload, or an actuator. The answer names the ledger entry behind each link.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from stead.agent.entry_words import step_words, words_of
from stead.model.change import Hold, Run
from stead.model.errors import EXIT_FAILURE, SteadError
from stead.model.find import Finding
from stead.model.messages import Explanation, Link, MetricView, Which
from stead.model.record import StoredEntry

SCAN_LIMIT: Final = 500
MOST: Final = 5  # runs, and findings, told of a thing that has had many
STATIONS: Final = {
    **dict.fromkeys(("proposal",), "propose"),
    **dict.fromkeys(("decision", "governance", "approval"), "decide"),
    **dict.fromkeys(("attempt", "receipt", "conflict"), "act"),
    "verdict": "verify",
}
RUN_STATIONS: Final = {
    **dict.fromkeys(("advised", "waiting", "approved", "refused", "denied", "expired"), "decide"),
    **dict.fromkeys(("verifying", "held", "kept"), "verify"),
}


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

    def bulk(self, entry_id: str) -> bytes | None:
        """What is kept beside an entry's leaf."""

    def holds(self) -> Sequence[Hold]:
        """What people keep off."""


def explain(thing: str, evidence: Evidence) -> Explanation:
    """Everything that is recorded about a thing, in order of time; of one that has had much, the newest."""
    findings = [one for one in _all_findings(evidence) if _concerns(thing, one)]
    runs = _runs(thing, evidence, {one.id for one in findings})
    answered = {run.proposal.finding_id for run in runs}
    findings = [one for one in _all_findings(evidence) if one.id in answered or one in findings]
    if not runs and not findings:
        raise SteadError(
            f"no finding, proposal or change is recorded about {thing!r}",
            "ledger",
            "give an id from `stead findings` or `stead runs`, a metric, a playbook, or a process as pid:4711",
            code="why.unknown",
            exit_code=EXIT_FAILURE,
        )
    left = f" (the newest of {max(len(runs), len(findings))})" if max(len(runs), len(findings)) > MOST else ""
    runs, findings = runs[:MOST], sorted(findings, key=lambda one: one.opened_ms, reverse=True)[:MOST]
    holds = [hold for hold in evidence.holds() if any(_holds_off(hold, run) for run in runs)]
    links = [link for finding in findings for link in _finding_links(finding)]
    links += [link for run in runs for link in _entry_links(run, evidence)]
    links += [_hold_link(hold) for hold in holds]
    links.sort(key=lambda link: link.at_ms)
    return Explanation(thing, summary(findings, runs, holds) + left, tuple(links))


def at_rest(thing: str, views: Sequence[MetricView], missing: Mapping[str, str]) -> Explanation | None:
    """What is known of a metric or subject about which nothing is recorded: its values now. None when it is neither."""
    if thing in missing:
        return Explanation(thing, f"{thing} is not measured here: {missing[thing]}", ())
    about = [one for one in views if thing in (one.metric, one.subject, plain(one.subject), plain(one.subject).partition(":")[2])]
    if not about:
        return None
    links = tuple(Link(one.at_ms, "observe", _now_words(one)) for one in about)
    return Explanation(thing, f"no finding, proposal or change is recorded about {thing}; this is how it is now", links)


def _now_words(view: MetricView) -> str:
    if view.value is None:
        return f"{view.metric} of {plain(view.subject)} is unknown: {view.reason}"
    band = f", {view.band}" if view.catalogued else ""
    return f"{view.metric} of {plain(view.subject)} is {_number(view.value)} {view.unit}{band}"


def _all_findings(evidence: Evidence) -> list[Finding]:
    found = {one.id: one for one in (*evidence.findings(True, SCAN_LIMIT), *evidence.findings(False, SCAN_LIMIT))}
    return list(found.values())


def _runs(thing: str, evidence: Evidence, findings: set[str]) -> list[Run]:
    """Newest first. A few digits are a process, not a part of an id."""
    if (len(thing) >= 8 or not thing.isdigit()) and len(thing) >= 4 and (run := evidence.run(thing)) is not None:
        return [run]
    return [run for run in evidence.runs("all", SCAN_LIMIT) if run.proposal.finding_id in findings or _about(thing, run)]


def _about(thing: str, run: Run) -> bool:
    proposal = run.proposal
    if thing == proposal.playbook:
        return True
    if any(thing in (step.actuator, str(step.target), step.target.name) for step in proposal.steps):
        return True
    return thing in proposal.labels.values()


def _concerns(thing: str, finding: Finding) -> bool:
    named = plain(finding.subject)
    exact = (finding.metric, finding.subject, named, named.split(":", 1)[-1])
    return thing in exact or (len(thing) >= 8 and finding.id.startswith(thing)) or thing in finding.labels.values()


def _holds_off(hold: Hold, run: Run) -> bool:
    return hold.playbook == run.proposal.playbook and any(hold.target == step.target.key for step in run.proposal.steps)


def _finding_links(finding: Finding) -> list[Link]:
    links = []
    if finding.evidence:
        values = [value for _, value in finding.evidence]
        least, most = _number(min(values)), f"{_number(max(values))} {finding.unit}".rstrip()
        limit = "" if finding.threshold is None else f", past the limit of {_number(finding.threshold)}"
        what = f"{finding.metric} of {plain(finding.subject)}"
        links.append(
            Link(
                finding.since_ms,
                "observe",
                f"{what} read {most if least == _number(max(values)) else f'{least} to {most}'}{limit}",
            )
        )
    links.append(Link(finding.opened_ms, "find", f"{finding.title} ({finding.band})", finding.id))
    if finding.cleared_ms is not None:
        links.append(Link(finding.cleared_ms, "find", f"cleared: {finding.title}", finding.id))
    return links


def _entry_links(run: Run, evidence: Evidence) -> list[Link]:
    found = [entry for entry in evidence.entries(SCAN_LIMIT, run.id) if not entry.type.startswith("finding.")]
    ordered = sorted(found, key=lambda entry: entry.seq)
    told = [(one, words_of(one, run, _told(one, evidence))) for one in ordered]
    return [Link(one.ts_ms, _station(one.type), words, one.id) for one, words in told if words]


def _told(entry: StoredEntry, evidence: Evidence) -> object:
    """The reason or error text beside an entry's leaf; None when there is none, or it was erased."""
    data = evidence.bulk(entry.id)
    with contextlib.suppress(msgspec.DecodeError):
        return None if data is None else msgspec.json.decode(data)
    return None


def _hold_link(hold: Hold) -> Link:
    until = "until the finding clears, or " if hold.finding_id else "until "
    target = hold.target.partition("@")[0]
    words = f"{hold.by.id} keeps {hold.playbook} off {target} {until}`stead lift {hold.playbook} {target}`"
    return Link(hold.at_ms, "decide", words)


def _station(entry_type: str) -> str:
    kind, _, state = entry_type.partition(".")
    if kind == "run":
        return RUN_STATIONS.get(state, "act")
    return STATIONS.get(kind, "record")


def summary(findings: Sequence[Finding], runs: Sequence[Run], holds: Sequence[Hold] = ()) -> str:
    """The newest state in one sentence."""
    if runs:
        run = max(runs, key=lambda one: one.updated_ms)
        finding = next((one for one in findings if one.id == run.proposal.finding_id), None)
        about = f"{finding.title}: " if finding else ""
        held_off = "; it is kept off by a person" if any(_holds_off(hold, run) for hold in holds) else ""
        return f"{about}{_state_words(run)}{held_off}"
    finding = max(findings, key=lambda one: one.updated_ms)
    state = "still so" if finding.open else "cleared"
    return f"{finding.title} ({state}); nothing has been proposed for it"


def _state_words(run: Run) -> str:
    """A run in a few words: what it would do, does or did."""
    playbook, proposal = run.proposal.playbook, run.proposal
    what = "; ".join(step_words(step) for step in proposal.steps)
    if run.state == "advised" and run.decision is not None:
        would = {"allow": "would act", "ask": "would ask", "deny": "would refuse"}[run.decision.would or "deny"]
        return f"{playbook} {would}; in mode {run.decision.mode} nothing was changed"
    if proposal.impossible:
        return f"{playbook} is {run.state}: {proposal.impossible}"
    words = {
        "waiting": f"{playbook} waits for approval of {what}",
        "verifying": f"{playbook} wrote {what}, and watches whether it helps",
        "held": f"{playbook} is in force: {run.reason or what}",
        "kept": f"{playbook} was done and stays: {run.reason or what}",
    }
    return words.get(run.state, f"{playbook} is {run.state.replace('_', ' ')}" + (f": {_reason(run)}" if _reason(run) else ""))


def _reason(run: Run) -> str:
    """Why it is so; that a person asked for an undo is said as such."""
    return "a person asked for it to be put back" if run.undo_reason == "person" else run.reason


def plain(subject: str) -> str:
    """A subject for reading: a process without the tick at which it started."""
    return subject.partition("@")[0] if subject.startswith("process:") else subject


def _number(value: float) -> str:
    return f"{value:.4g}"
