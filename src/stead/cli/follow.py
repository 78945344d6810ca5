"""Events as short readable lines: what `stead up` shows while it runs. Each change of state is said once."""

from __future__ import annotations

from stead.cli.plan import MEANINGS, diff_lines, prediction, reason_of, target_of, undo_words, verdict
from stead.cli.table import printable, styled
from stead.cli.words import clock, number, short_ids
from stead.model.change import Run
from stead.model.find import Finding
from stead.model.messages import Event, Status
from stead.model.policy import Autonomy

TOPICS = (
    *("finding.*", "proposal.*", "decision.*", "approval.*", "attempt.*", "receipt.*", "verdict.*", "run.*", "hold.*"),
    *("autonomy.*", "status*", "metrics.action_recommended", "governance.*", "infrastructure.*"),
)
INDENT = " " * 10
STYLES = {"found": "warning", "critical": "critical", "cleared": "good", "proposed": "warning", "undo": "critical"}
STATIONS = {"verifying": "acted", "held": "verified", "kept": "verified", "undo_failed": "undo", "acting": "act"}


class Follower:
    """Remembers what was said, so that a thing is told when it changes and only then."""

    def __init__(self) -> None:
        self._findings: dict[str, str] = {}  # id → band, or "cleared"
        self._runs: dict[str, str] = {}  # id → state
        self._processes: dict[str, str] = {}  # finding id → the process it names
        self._autonomy: Autonomy | None = None
        self.leased: set[str] = set()  # ids of runs in force only under a lease

    def lines(self, event: Event) -> list[str]:
        """What this event adds, if anything."""
        lines: list[str] = []
        if event.finding is not None:
            lines += self.finding(event.finding)
        if event.run is not None:
            lines += self.run(event.run, event.at_ms)
        if event.status is not None:
            lines += self.status(event.status)
        return lines

    def finding(self, one: Finding) -> list[str]:
        """A finding that opened, grew worse or cleared."""
        now = one.band if one.open else "cleared"
        before, self._findings[one.id] = self._findings.get(one.id), now
        self._processes[one.id] = _process(one)
        if before == now or (before is None and not one.open):
            return []
        if not one.open:
            return [_line(one.cleared_ms or one.updated_ms, "cleared", one.title)]
        word = "found" if before is None else now
        words = f"{one.title} [{one.metric} {number(one.value, one.unit)}, {one.band}]"
        return [_line(one.updated_ms, word, words)]

    def run(self, one: Run, at_ms: int = 0) -> list[str]:
        """A proposal with its decision when it is new; then each state it passes."""
        before, self._runs[one.id] = self._runs.get(one.id), one.state
        (self.leased.discard if one.lease_until_ms is None or one.final else self.leased.add)(one.id)
        if before == one.state:
            return []
        steps = one.proposal.steps
        if one.proposal.requester.kind == "user" and steps and all(step.actuator == "autonomy" for step in steps):
            return _order_lines(one, one.updated_ms or at_ms)
        lines = [] if before is not None else self._proposed(one)
        return [*lines, *_state_lines(one, one.updated_ms or at_ms)]

    def status(self, now: Status) -> list[str]:
        """A change of mode, ceiling, lock or pause."""
        before, self._autonomy = self._autonomy, now.autonomy
        if before is None or before == now.autonomy:
            return []
        changes = [
            f"mode {before.mode} → {now.autonomy.mode}" if before.mode != now.autonomy.mode else "",
            f"ceilings {before.ceilings} → {now.autonomy.ceilings}" if before.ceilings != now.autonomy.ceilings else "",
            ("locked" if now.autonomy.locked else "unlocked") if before.locked != now.autonomy.locked else "",
            ("paused" if now.autonomy.paused else "resumed") if before.paused != now.autonomy.paused else "",
        ]
        return [_line(now.now_ms, "mode", "; ".join(change for change in changes if change))]

    def _proposed(self, one: Run) -> list[str]:
        """What is proposed, for which process, with its diff and the decision."""
        proposal = one.proposal
        process = self._processes.get(proposal.finding_id or "") or proposal.labels.get("process", "")
        what = _named(one)
        named = f" ({printable(process)})" if process and f"({process.partition(', ')[0]})" not in what else ""
        lines = [_line(proposal.created_ms, "proposed", f"{what}{named}: {proposal.title}")]
        for step in proposal.steps:
            undo = f"undo {step.undo}" + (f": {step.undo_reason}" if step.undo_reason else "")
            lines.append(f"{INDENT}dry run   {step.actuator} ({printable(undo)})")
            lines += [f"{INDENT}        {line}" for line in diff_lines(step)]
            if step.note:
                lines.append(f"{INDENT}          note: {printable(step.note)}")
        if proposal.impossible:
            lines.append(f"{INDENT}          {printable(proposal.impossible)}")
        if proposal.prediction is not None:
            lines.append(f"{INDENT}predicts  {printable(prediction(proposal.prediction))}")
        return lines + _decided(one)


def _decided(run: Run) -> list[str]:
    """The answer and the rule that made it."""
    one = run.decision
    if one is None:
        return []
    would = f"in mode act: {one.would}; now, in mode {one.mode}: advice only" if one.advised and one.would else one.answer
    lines = [f"{INDENT}decided   {would}, by {', '.join(one.rules) or 'no rule'}"]
    return lines + [f"{INDENT}          {printable(reason)}" for reason in one.reasons]


def _state_lines(run: Run, at_ms: int) -> list[str]:
    """What a state means for whoever watches."""
    name, short = _named(run), short_ids([run.id])[run.id]
    if run.state == "advised":
        return [f"{INDENT}nothing was changed: `stead mode act` lets it act"]
    if run.state == "waiting":
        return [f"{INDENT}waits for approval: `stead approve {short}` or `stead deny {short}`"]
    own = any(step.actuator == "autonomy" for step in run.proposal.steps)
    back = "`stead mode` sets it" if own else f"`stead undo {short}` puts it back"
    words = {
        "acting": f"{name}: writing",
        "verifying": f"{name}: written and read back; watching whether it helps",
        "held": f"{name}: {verdict(run)}; in force under its lease ({back})",
        "kept": f"{name}: {verdict(run)}; kept ({back})",
        "undoing": f"{name}: putting it back: {undo_words(run) or run.reason}",
        "undone": f"{name}: put back, read back and recorded",
        "undo_failed": f"{name}: could not be put back: {run.reason}",
    }
    station = STATIONS.get(run.state, run.state)
    if run.state == "approved" and not run.approvals:
        station = "allowed"  # by the policy: no person was asked
    return [_line(at_ms, station, words.get(run.state, f"{name}: {reason_of(run) or MEANINGS.get(run.state, run.state)}"))]


def _named(run: Run) -> str:
    """The playbook, and what it is for: many of the same may be under way."""
    proposal = run.proposal
    return f"{proposal.playbook} on {target_of(proposal)}" if proposal.steps or proposal.labels else proposal.playbook


def _order_lines(run: Run, at_ms: int) -> list[str]:
    """A person's own order about mode, ceiling, lock or pause: what came of it, without the stations between."""
    title, short = run.proposal.title, short_ids([run.id])[run.id]
    if run.state == "kept":
        return [_line(at_ms, "mode", title)]
    if run.state == "waiting":
        return [_line(at_ms, "mode", f"{title}: waits for another person: `stead approve {short}`")]
    return [_line(at_ms, "mode", f"{title}: {run.state}: {run.reason}")] if run.final else []


def _process(finding: Finding) -> str:
    """The process that a finding names."""
    name, pid = finding.labels.get("process", ""), finding.labels.get("pid", "")
    return f"{name}, pid {pid}" if name and pid else name


def _line(at_ms: int, word: str, words: str) -> str:
    """One line: time, what happened, to what."""
    return f"{styled(clock(at_ms), 'dim')}  {styled(f'{word:<9}', STYLES.get(word, ''))} {printable(words)}"
